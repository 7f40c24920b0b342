"""Calls of Celery's tasks have the name of their task, with no line of the program changed."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from typing import Any

import pytest
from celery import Celery, group
from celery.contrib.testing.worker import start_worker
from openai import AsyncOpenAI, OpenAI
from pydantic_ai import Agent
from pydantic_ai.models.openai import OpenAIChatModel
from pydantic_ai.providers.openai import OpenAIProvider

import llm_exporter
from support.acting_model import ActingModel
from support.awaiting import DEADLINE
from support.metered import Metered


@pytest.fixture
def app(model: ActingModel) -> Celery:
    """An application of tasks, whose calls say whose they are."""
    app = Celery("shop", broker="memory://", backend="cache+memory://")
    url = model.url

    def ask(who: str, name: str = "gpt-4o") -> None:
        with OpenAI(base_url=url, api_key="k") as client:
            messages: Any = [{"role": "user", "content": f"You are {who}."}]
            client.chat.completions.create(model=name, messages=messages)

    @app.task(name="summarize", shared=False)
    def summarize() -> None:
        ask("summarize")

    @app.task(name="translate", shared=False)
    def translate() -> None:
        with ThreadPoolExecutor() as pool:
            calls = [pool.submit(copy_context().run, ask, "translate", "gpt-4o-mini") for _ in range(2)]
            for call in calls:
                call.result()
        summarize.apply().get(disable_sync_subtasks=False)
        ask("translate")

    @app.task(name="classify", shared=False)
    def classify() -> None:
        async def one() -> None:
            async with AsyncOpenAI(base_url=url, api_key="k") as client:
                messages: Any = [{"role": "user", "content": "You are classify."}]
                await client.chat.completions.create(model="gpt-4o", messages=messages)

        async def run() -> None:
            await asyncio.gather(one(), one())

        asyncio.run(run())

    @app.task(name="answer", shared=False)
    def answer() -> None:
        provider = OpenAIProvider(base_url=url, api_key="k")
        agent = Agent(
            OpenAIChatModel("gpt-4o", provider=provider), name="triage", instructions="You are triage."
        )
        agent.run_sync("Answer.")
        ask("answer")

    return app


def test_tasks_run_in_threads_beside_one_another(
    app: Celery, model: ActingModel, metered: Metered, figure: Callable[[str], None]
) -> None:
    tasks = group(app.signature(name) for name in ["summarize", "translate", "classify", "answer"] * 3)
    with start_worker(app, pool="threads", concurrency=4, perform_ping_check=False):
        tasks.apply_async().get(timeout=DEADLINE)
    model.assert_labels(
        metered,
        {
            ("summarize", "unattributed"): 3 + 3,  # by itself, and applied by the task `translate`
            ("translate", "unattributed"): 3 * 3,
            ("classify", "unattributed"): 3 * 2,
            ("triage", "unattributed"): 3,  # what the agent of another framework calls
            ("answer", "unattributed"): 3,
        },
    )
    share = model.share(metered)
    figure(f"{share:.1%} of the dollars have the right agent")
    assert share >= 0.95


def test_nothing_is_labelled_after_a_task(app: Celery, model: ActingModel, metered: Metered) -> None:
    app.tasks["summarize"].apply().get()
    with OpenAI(base_url=model.url, api_key="k") as client:
        client.chat.completions.create(model="gpt-4o", messages=[])
    assert [call.agent for call in metered.calls] == ["summarize", "unattributed"]


def test_explicit_labels_come_first(app: Celery, metered: Metered) -> None:
    with llm_exporter.labels(agent="mine"):
        app.tasks["summarize"].apply().get()
    assert metered.call.agent == "mine"


def test_nobody_is_asked_if_the_program_says_so(app: Celery, metered: Metered) -> None:
    llm_exporter.instrument(labels_from=())
    app.tasks["summarize"].apply().get()
    assert metered.call.agent == "unattributed"


def test_signals_are_disconnected_when_nothing_is_metered() -> None:
    from celery.signals import task_postrun, task_prerun

    before = len(task_prerun.receivers), len(task_postrun.receivers)
    llm_exporter.instrument()
    llm_exporter.uninstrument()
    after = len(task_prerun.receivers), len(task_postrun.receivers)
    assert after == (before[0] - 1, before[1] - 1)
