"""Calls have the agents and phases of the frameworks that make them, with no line of the program changed."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from typing import Any, TypedDict

import pytest
from agents import Agent, OpenAIChatCompletionsModel, Runner, set_tracing_disabled
from langchain_openai import ChatOpenAI
from langgraph.graph import END, START, StateGraph
from openai import AsyncOpenAI, OpenAI
from opentelemetry import baggage, context, trace
from opentelemetry.sdk.trace import TracerProvider

import llm_exporter
from support.acting_model import ActingModel
from support.metered import Metered


def seen(metered: Metered) -> Counter[tuple[str, str]]:
    """Return the number of calls by agent and phase."""
    return Counter((call.agent, call.phase) for call in metered.calls)


@pytest.mark.parametrize("streamed", [False, True], ids=["plain", "stream"])
@pytest.mark.parametrize("disabled", [False, True], ids=["traced", "untraced"])
def test_agents_of_the_openai_sdk_run_beside_one_another(
    provider: str, metered: Metered, streamed: bool, disabled: bool
) -> None:
    set_tracing_disabled(disabled)

    async def run() -> None:
        async with AsyncOpenAI(base_url=f"{provider}/v1", api_key="k") as client:
            model = OpenAIChatCompletionsModel("gpt-4o", openai_client=client)

            async def one(name: str) -> None:
                agent = Agent(name=name, model=model)
                if streamed:
                    async for _ in Runner.run_streamed(agent, "How many?").stream_events():
                        pass
                else:
                    await Runner.run(agent, "How many?")

            await asyncio.gather(one("triage"), one("billing"))
            await one("triage")
            await client.chat.completions.create(model="gpt-4o", messages=[])

    asyncio.run(run())
    assert seen(metered) == {
        ("triage", "unattributed"): 2,
        ("billing", "unattributed"): 1,
        ("unattributed", "unattributed"): 1,
    }


def test_agents_of_the_openai_sdk_hand_over_and_ask_one_another(
    model: ActingModel, metered: Metered, figure: Callable[[str], None]
) -> None:
    """In threads and beside one another."""

    async def run(url: str) -> None:
        async with AsyncOpenAI(base_url=url, api_key="k") as client:

            def agent(name: str, model: str = "gpt-4o-mini", **options: Any) -> Agent:
                chat = OpenAIChatCompletionsModel(model, openai_client=client)
                return Agent(name=name, instructions=f"You are {name}.", model=chat, **options)

            research = agent("researcher").as_tool("research", "Researches.")
            writer = agent("writer", "gpt-4o", tools=[research])
            triage = agent("triage", handoffs=[agent("billing")])
            await asyncio.gather(*(Runner.run(each, "Go.") for each in (writer, triage, writer)))

    with ThreadPoolExecutor() as pool:
        for each in [pool.submit(asyncio.run, run(model.url)) for _ in range(2)]:
            each.result()
    model.assert_labels(
        metered,
        {
            ("writer", "unattributed"): 2 * 2 * 2,  # it asks the researcher, and answers
            ("researcher", "unattributed"): 2 * 2,
            ("triage", "unattributed"): 2,
            ("billing", "unattributed"): 2,
        },
    )
    share = model.share(metered)
    figure(f"{share:.1%} of the dollars have the right agent")
    assert share >= 0.95


class State(TypedDict):
    text: str


def test_graphs_run_in_threads_beside_one_another_and_in_nodes(
    model: ActingModel, metered: Metered, figure: Callable[[str], None]
) -> None:
    def node(who: str, name: str = "gpt-4o-mini") -> Callable[[State], dict[str, str]]:
        chat = ChatOpenAI(model=name, base_url=model.url, api_key="k")

        def call(_: State) -> dict[str, str]:
            chat.invoke(f"You are {who}.")
            return {}

        return call

    def a_graph(name: str, **nodes: Any) -> Any:
        builder = StateGraph(State)
        for each, action in nodes.items():
            builder.add_node(each, action)
            builder.add_edge(START, each)
            builder.add_edge(each, END)
        return builder.compile(name=name)

    critic = a_graph("critic", judge=node("critic"), score=node("critic"))
    writer = a_graph("writer", draft=node("writer", "gpt-4o"), polish=node("writer", "gpt-4o"), review=critic)

    async def run() -> None:
        await asyncio.gather(writer.ainvoke({"text": ""}), writer.ainvoke({"text": ""}))

    with ThreadPoolExecutor() as pool:
        in_thread = pool.submit(writer.invoke, {"text": ""})
        asyncio.run(run())
        in_thread.result()
    model.assert_labels(
        metered,
        {("writer", "draft"): 3, ("writer", "polish"): 3, ("critic", "judge"): 3, ("critic", "score"): 3},
    )
    share = model.share(metered)
    figure(f"{share:.1%} of the dollars have the right agent")
    assert share >= 0.95


def graph(url: str, name: str | None, *nodes: str, inner: Any = None) -> Any:
    """Return a graph whose nodes run beside one another, each of which makes a call."""
    model = ChatOpenAI(model="gpt-4o", base_url=f"{url}/v1", api_key="k")

    def call(_: State) -> dict[str, str]:
        model.invoke("How many?")
        return {}

    builder = StateGraph(State)
    for node in nodes:
        builder.add_node(node, inner or call)
        builder.add_edge(START, node)
        builder.add_edge(node, END)
    return builder.compile(name=name) if name else builder.compile()


@pytest.mark.parametrize("use", ["invoke", "ainvoke", "stream", "astream"])
def test_a_graph_of_langgraph_is_the_agent_and_a_node_the_phase(
    use: str, provider: str, metered: Metered
) -> None:
    compiled = graph(provider, "writer", "draft", "review")
    if use == "invoke":
        compiled.invoke({"text": ""})
    elif use == "ainvoke":
        asyncio.run(compiled.ainvoke({"text": ""}))
    elif use == "stream":
        with OpenAI(base_url=f"{provider}/v1", api_key="k") as client:
            for _ in compiled.stream({"text": ""}):
                client.chat.completions.create(model="gpt-4o", messages=[])
    else:

        async def run() -> None:
            assert [part async for part in compiled.astream({"text": ""})]

        asyncio.run(run())
    expected = {("writer", "draft"): 1, ("writer", "review"): 1}
    if use == "stream":
        expected[("unattributed", "unattributed")] = 2
    assert seen(metered) == expected


def test_a_graph_inside_a_node_is_an_agent_of_its_own(provider: str, metered: Metered) -> None:
    unnamed = graph(provider, None, "search")
    graph(provider, None, "researcher", inner=unnamed).invoke({"text": ""})
    named = graph(provider, "critic", "judge")
    graph(provider, "writer", "review", inner=named).invoke({"text": ""})
    assert seen(metered) == {("researcher", "search"): 1, ("critic", "judge"): 1}


def test_explicit_labels_come_first(provider: str, metered: Metered) -> None:
    with llm_exporter.labels(agent="mine"):
        graph(provider, "writer", "draft").invoke({"text": ""})
    assert seen(metered) == {("mine", "draft"): 1}


def test_nobody_is_asked_if_the_program_says_so(provider: str, metered: Metered) -> None:
    llm_exporter.instrument(labels_from=())
    graph(provider, "writer", "draft").invoke({"text": ""})
    assert seen(metered) == {("unattributed", "unattributed"): 1}


def test_a_span_or_the_baggage_of_opentelemetry_names_the_agent(provider: str, metered: Metered) -> None:
    tracer = TracerProvider().get_tracer("test")
    with OpenAI(base_url=f"{provider}/v1", api_key="k") as client, ThreadPoolExecutor() as pool:

        def call() -> None:
            client.chat.completions.create(model="gpt-4o", messages=[])

        with tracer.start_as_current_span("run", attributes={"gen_ai.agent.name": "triage"}):
            call()
            pool.submit(copy_context().run, call).result()
        token = context.attach(baggage.set_baggage("gen_ai.agent.name", "billing"))
        call()
        context.detach(token)
        call()
    assert not trace.get_current_span().is_recording()
    assert seen(metered) == {
        ("triage", "unattributed"): 2,
        ("billing", "unattributed"): 1,
        ("unattributed", "unattributed"): 1,
    }
