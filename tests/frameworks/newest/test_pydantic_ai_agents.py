"""Calls of Pydantic AI have the running agent, with no line of the program changed."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from openai import OpenAI
from pydantic_ai import Agent
from pydantic_ai.models.openai import OpenAIChatModel
from pydantic_ai.providers.openai import OpenAIProvider

import llm_exporter
from support.acting_model import ActingModel
from support.metered import Metered


def writer_with_helpers(url: str) -> Agent:
    """Return an agent that asks two others and a model from its tools, all at once."""
    provider = OpenAIProvider(base_url=url, api_key="k")
    researcher = Agent(OpenAIChatModel("gpt-4o-mini", provider=provider), instructions="You are researcher.")
    reviewer = Agent(
        OpenAIChatModel("gpt-4o-mini", provider=provider), name="reviewer", instructions="You are reviewer."
    )
    writer = Agent(
        OpenAIChatModel("gpt-4o", provider=provider), name="writer", instructions="You are writer."
    )

    @writer.tool_plain
    async def research(topic: str) -> str:
        return (await researcher.run(topic)).output

    @writer.tool_plain
    async def review(topic: str) -> str:
        async with reviewer.run_stream(topic) as answer:
            return await answer.get_output()

    @writer.tool_plain
    def look_up(topic: str) -> str:
        with OpenAI(base_url=url, api_key="k") as client:
            messages = [{"role": "user", "content": f"You are writer. What is {topic}?"}]
            return str(client.chat.completions.create(model="gpt-4o", messages=messages).id)

    return writer


def test_agents_run_in_threads_beside_one_another_and_in_tools(
    model: ActingModel, metered: Metered, figure: Callable[[str], None]
) -> None:
    async def run() -> None:
        writer = writer_with_helpers(model.url)
        await asyncio.gather(writer.run("Write."), writer.run("Write."))
        async with writer.run_stream("Write.") as answer:
            assert [text async for text in answer.stream_text()]

    with ThreadPoolExecutor() as pool:
        runs = [pool.submit(lambda: writer_with_helpers(model.url).run_sync("Write.")) for _ in range(2)]
        asyncio.run(run())
        for each in runs:
            each.result()

    model.assert_labels(
        metered,
        {
            ("writer", "unattributed"): 5 * 3,  # it calls its tools, one of which asks a model, and answers
            ("researcher", "unattributed"): 5,
            ("reviewer", "unattributed"): 5,
        },
    )
    share = model.share(metered)
    figure(f"{share:.1%} of the dollars have the right agent")
    assert share >= 0.95


def test_explicit_labels_come_first(model: ActingModel, metered: Metered) -> None:
    with llm_exporter.labels(agent="mine"):
        writer_with_helpers(model.url).run_sync("Write.")
    assert {call.agent for call in metered.calls} == {"mine"}


def test_nobody_is_asked_if_the_program_says_so(model: ActingModel, metered: Metered) -> None:
    llm_exporter.instrument(labels_from=())
    writer_with_helpers(model.url).run_sync("Write.")
    assert {call.agent for call in metered.calls} == {"unattributed"}
