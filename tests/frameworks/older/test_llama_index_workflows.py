"""Calls of LlamaIndex have their workflow or agent and step, with no line of the program changed."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from llama_index.core.agent.workflow import AgentWorkflow, FunctionAgent
from llama_index.core.llms import ChatMessage
from llama_index.core.workflow import Context, Event, StartEvent, StopEvent, Workflow, step
from llama_index.llms.openai import OpenAI

import llm_exporter
from support.acting_model import ActingModel
from support.awaiting import DEADLINE
from support.metered import Metered


class Topic(Event):
    name: str


class Draft(Event):
    name: str


def llm(url: str, name: str = "gpt-4o") -> OpenAI:
    return OpenAI(model=name, api_base=url, api_key="k")


def messages(who: str) -> list[ChatMessage]:
    return [ChatMessage(role="user", content=f"You are {who}.")]


class Editor(Workflow):
    """A workflow with two parallel drafts, a review on a thread, and a workflow inside a step."""

    def __init__(self, url: str) -> None:
        super().__init__(timeout=DEADLINE)
        self.url = url

    @step
    async def plan(self, context: Context, event: StartEvent) -> Topic | None:
        await llm(self.url).achat(messages("Editor in plan"))
        for name in ("first", "second"):
            context.send_event(Topic(name=name))
        return None

    @step(num_workers=2)
    async def draft(self, event: Topic) -> Draft:
        await llm(self.url, "gpt-4o-mini").achat(messages("Editor in draft"))
        await Checker(self.url).run()
        return Draft(name=event.name)

    @step(num_workers=1)
    def review(self, context: Context, event: Draft) -> StopEvent | None:
        llm(self.url).chat(messages("Editor in review"))
        both = context.collect_events(event, [Draft] * 2)
        return StopEvent(result="done") if both else None


class Checker(Workflow):
    def __init__(self, url: str) -> None:
        super().__init__(timeout=DEADLINE)
        self.url = url

    @step
    async def check(self, event: StartEvent) -> StopEvent:
        await llm(self.url, "gpt-4o-mini").achat(messages("Checker in check"))
        return StopEvent(result="fine")


def writer(url: str) -> FunctionAgent:
    """Return an agent that asks another one, and a model, from its tools."""
    researcher = FunctionAgent(
        name="researcher", llm=llm(url, "gpt-4o-mini"), system_prompt="You are researcher."
    )

    async def research(topic: str) -> str:
        """Research a topic."""
        return str(await researcher.run(topic))

    def look_up(topic: str) -> str:
        """Look a topic up."""
        return str(llm(url).chat(messages("writer")))

    return FunctionAgent(
        name="writer", llm=llm(url), tools=[research, look_up], system_prompt="You are writer."
    )


def team(url: str) -> AgentWorkflow:
    """Return two agents, the first of which hands over to the second."""
    first = FunctionAgent(
        name="triage", description="Sorts.", llm=llm(url), system_prompt="You are triage.", tools=[]
    )
    second = FunctionAgent(
        name="billing", description="Bills.", llm=llm(url), system_prompt="You are billing.", tools=[]
    )
    return AgentWorkflow(agents=[first, second], root_agent="triage")


def test_workflows_and_agents_run_in_threads_and_beside_one_another(
    model: ActingModel, metered: Metered, figure: Callable[[str], None]
) -> None:
    model.argument = "billing"

    async def run() -> None:
        await asyncio.gather(Editor(model.url).run(), writer(model.url).run("Write."), run_team())

    async def run_team() -> None:
        await team(model.url).run("Bill.")

    with ThreadPoolExecutor() as pool:
        for each in [pool.submit(asyncio.run, run()) for _ in range(2)]:
            each.result()

    model.assert_labels(
        metered,
        {
            ("Editor", "plan"): 2,
            ("Editor", "draft"): 4,
            ("Editor", "review"): 4,
            ("Checker", "check"): 4,
            ("writer", "run_agent_step"): 4,
            ("writer", "call_tool"): 2,
            ("researcher", "run_agent_step"): 2,
            ("triage", "run_agent_step"): 2,
            ("billing", "run_agent_step"): 2,
        },
    )
    share = model.share(metered)
    figure(f"{share:.1%} of the dollars have the right agent")
    assert share >= 0.95


def test_explicit_labels_come_first(model: ActingModel, metered: Metered) -> None:
    async def run() -> None:
        with llm_exporter.labels(agent="mine"):
            await Checker(model.url).run()

    asyncio.run(run())
    assert (metered.call.agent, metered.call.phase) == ("mine", "check")


def test_nobody_is_asked_if_the_program_says_so(model: ActingModel, metered: Metered) -> None:
    llm_exporter.instrument(labels_from=())

    async def run() -> None:
        await Checker(model.url).run()

    asyncio.run(run())
    assert (metered.call.agent, metered.call.phase) == ("unattributed", "unattributed")
