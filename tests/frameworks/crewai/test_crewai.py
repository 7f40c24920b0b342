"""Calls of CrewAI have the agent's role and the task's name, with no line of the program changed."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

import llm_exporter
from support.acting_model import ActingModel
from support.metered import Metered


@pytest.fixture(autouse=True)
def _no_telemetry(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("CREWAI_DISABLE_TELEMETRY", "CREWAI_DISABLE_TRACKING", "OTEL_SDK_DISABLED"):
        monkeypatch.setenv(name, "true")
    monkeypatch.setenv("CREWAI_TRACING_ENABLED", "false")
    monkeypatch.setenv("CREWAI_STORAGE_DIR", str(tmp_path))


def an_agent(url: str, role: str, model: str = "gpt-4o-mini", **options: Any) -> Any:
    from crewai import LLM, Agent

    llm = LLM(model=f"openai/{model}", base_url=url, api_key="k")
    return Agent(role=role, goal="Answer.", backstory="None.", llm=llm, verbose=False, **options)


def a_crew(url: str) -> Any:
    """Return a crew whose researchers work beside one another, and whose writer delegates to one of them."""
    from crewai import Crew, Task

    researcher, checker = an_agent(url, "researcher"), an_agent(url, "checker")
    writer = an_agent(url, "writer", "gpt-4o", allow_delegation=True)

    def task(name: str | None, agent: Any, **options: Any) -> Any:
        return Task(
            name=name,
            description=f"About {{topic}}: {name}",
            expected_output="Seven.",
            agent=agent,
            **options,
        )

    tasks = [
        task("research", researcher, async_execution=True),
        task("check", checker, async_execution=True),
        task("write", writer),
        task(None, checker),
    ]
    return Crew(agents=[researcher, checker, writer], tasks=tasks, verbose=False)


def test_crews_run_in_threads_and_beside_one_another(
    model: ActingModel, metered: Metered, figure: Callable[[str], None]
) -> None:
    model.argument = "researcher"
    inputs = {"topic": "seven"}

    async def run() -> None:
        await asyncio.gather(
            a_crew(model.url).akickoff(inputs=inputs), an_agent(model.url, "alone").kickoff_async("Go.")
        )

    with ThreadPoolExecutor() as pool:
        in_thread = pool.submit(a_crew(model.url).kickoff, inputs=inputs)
        an_agent(model.url, "alone").kickoff("Go.")
        asyncio.run(run())
        in_thread.result()

    model.assert_labels(
        metered,
        {
            ("researcher", "research"): 2,
            ("checker", "check"): 2,
            ("writer", "write"): 2 * 2,  # it asks the researcher, and answers
            ("researcher", "write"): 2,
            ("checker", "unattributed"): 2,
            ("alone", "unattributed"): 2,
        },
    )
    share = model.share(metered)
    figure(f"{share:.1%} of the dollars have the right agent")
    assert share >= 0.95


def test_a_role_keeps_the_placeholders_of_inputs(model: ActingModel, metered: Metered) -> None:
    from crewai import Crew, Task

    agent = an_agent(model.url, "{topic}\n expert\n")
    task = Task(name="explain", description="Explain {topic}.", expected_output="Seven.", agent=agent)
    Crew(agents=[agent], tasks=[task]).kickoff(inputs={"topic": "tax"})
    assert (metered.call.agent, metered.call.phase) == ("{topic} expert", "explain")


def test_explicit_labels_come_first(model: ActingModel, metered: Metered) -> None:
    with llm_exporter.labels(agent="mine"):
        an_agent(model.url, "alone").kickoff("Go.")
    assert metered.call.agent == "mine"


def test_nobody_is_asked_if_the_program_says_so(model: ActingModel, metered: Metered) -> None:
    llm_exporter.instrument(labels_from=())
    an_agent(model.url, "alone").kickoff("Go.")
    assert metered.call.agent == "unattributed"
