"""The sample workload: an example of an application that uses llm-exporter.

Five agents take tasks from plan to report. They use the official clients of three providers, sync and async,
with and without streaming. It uses only two functions of llm-exporter: `instrument(client)` where a client is
created, and `labels(...)` around the work of an agent.
"""

from __future__ import annotations

import asyncio
import itertools
import threading
from collections.abc import AsyncIterator, Iterable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from typing import Final

import anthropic
import openai
from anthropic import Anthropic, AsyncAnthropic
from google import genai
from google.genai.errors import APIError as GoogleError
from google.genai.types import GenerateContentConfig, HttpOptions, HttpRetryOptions, ThinkingConfig
from openai import AsyncOpenAI, OpenAI

from llm_exporter import instrument, labels

CONCURRENT_TASKS: Final = 3

GOALS: Final = (
    ("checkout", "Let customers pay with more than one gift card."),
    ("search", "Show results while the query is still being typed."),
    ("mobile", "Make the app start twice as fast on old phones."),
    ("checkout", "Tell customers before their card expires."),
    ("search", "Find products by a photo."),
)
"""Projects and their feature requests."""

TEAMS: Final = {"checkout": "checkout", "search": "search", "mobile": "platform"}
"""The team that pays for each project. `team` is a declared label, so that dashboards show it."""

HANDBOOK: Final = "Every change is typed, tested, reviewed and small enough to be understood at once. " * 90
"""The system prompt of every agent, long enough to be cached by the providers."""

HISTORY: Final = {
    "checkout": "A payment failed, and the customer paid twice. " * 300,
    "search": "The index was rebuilt overnight. " * 500,
    "mobile": "An old phone was slow again, and nobody knew why. "
    * 11_000,  # exceeds the context window of gpt-4o-mini
}
"""The history of each project."""


@dataclass(frozen=True)
class Clients:
    """The application's clients."""

    openai: OpenAI
    async_openai: AsyncOpenAI
    anthropic: Anthropic
    async_anthropic: AsyncAnthropic
    google: genai.Client


@asynccontextmanager
async def connect(url: str) -> AsyncIterator[Clients]:
    """Create metered clients for the APIs at a URL, and close them on exit."""
    retry = HttpRetryOptions(attempts=4, initial_delay=0.2, max_delay=2)
    clients = Clients(
        openai=instrument(OpenAI(base_url=f"{url}/v1", api_key="demo")),
        async_openai=instrument(AsyncOpenAI(base_url=f"{url}/v1", api_key="demo")),
        anthropic=instrument(Anthropic(base_url=url, api_key="demo")),
        async_anthropic=instrument(AsyncAnthropic(base_url=url, api_key="demo")),
        google=instrument(
            genai.Client(api_key="demo", http_options=HttpOptions(base_url=url, retry_options=retry))
        ),
    )
    async with AsyncExitStack() as opened:
        for client in (clients.openai, clients.anthropic, clients.google):
            opened.enter_context(client)
        for async_client in (clients.async_openai, clients.async_anthropic, clients.google.aio):
            await opened.enter_async_context(async_client)
        yield clients


@dataclass
class Task:
    """A feature request with the notes of the agents."""

    number: int
    project: str
    goal: str
    notes: list[str] = field(default_factory=list)

    @property
    def brief(self) -> str:
        """The goal and all notes."""
        return "\n".join((self.goal, *self.notes))


# ---- the agents: one function each, labelled with the agent and the phase


@labels(agent="planner", phase="plan")
async def plan(clients: Clients, task: Task) -> None:
    """Plan with a reasoning model. `asyncio.to_thread` carries the labels into the thread."""
    response = await asyncio.to_thread(
        clients.openai.responses.create,
        model="gpt-5",
        instructions=HANDBOOK,
        input=f"Plan this in three steps: {task.brief}",
    )
    task.notes.append(response.output_text)


@labels(agent="researcher", phase="research")
async def research(clients: Clients, task: Task) -> None:
    """Ask three models concurrently. `asyncio.gather` carries the labels into its tasks."""
    task.notes += await asyncio.gather(
        _ask_about_code(clients, task), _ask_about_users(clients, task), _ask_about_history(clients, task)
    )


async def _ask_about_code(clients: Clients, task: Task) -> str:
    async with clients.async_anthropic.messages.stream(
        model="claude-haiku-4-5",
        max_tokens=2_000,
        system=[{"type": "text", "text": HANDBOOK, "cache_control": {"type": "ephemeral"}}],
        messages=[{"role": "user", "content": f"Which code is this about? {task.brief}"}],
    ) as stream:
        return await stream.get_final_text()


async def _ask_about_users(clients: Clients, task: Task) -> str:
    chunks = await clients.google.aio.models.generate_content_stream(
        model="gemini-2.5-flash",
        contents=f"Who will use this, and how? {task.brief}",
        config=GenerateContentConfig(
            system_instruction=HANDBOOK, thinking_config=ThinkingConfig(thinking_budget=0)
        ),
    )
    return "".join([chunk.text or "" async for chunk in chunks])


async def _ask_about_history(clients: Clients, task: Task) -> str:
    history = HISTORY[task.project]
    try:
        return await _ask_about(clients, task, history)
    except openai.BadRequestError:  # over the context window: retry with the latest part
        return await _ask_about(clients, task, history[-20_000:])


async def _ask_about(clients: Clients, task: Task, history: str) -> str:
    completion = await clients.async_openai.chat.completions.create(
        model="gpt-4o-mini",
        messages=[
            {"role": "system", "content": HANDBOOK},
            {"role": "user", "content": f"What was tried before? {task.goal}\n{history}"},
        ],
    )
    return completion.choices[0].message.content or ""


@labels(agent="coder", phase="execute")
async def execute(clients: Clients, task: Task) -> None:
    """Write the code, the tests and the docs. The later calls read the prompt from the cache."""
    brief = task.brief
    for assignment in ("Write the code.", "Write the tests.", "Write the docs."):
        task.notes.append(await asyncio.to_thread(_write, clients, brief, assignment))


def _write(clients: Clients, brief: str, assignment: str) -> str:
    with clients.anthropic.messages.stream(
        model="claude-sonnet-5",
        max_tokens=8_000,
        thinking={"type": "adaptive"},
        system=[
            # The handbook is the same for all tasks; the brief changes with each task.
            {"type": "text", "text": HANDBOOK, "cache_control": {"type": "ephemeral", "ttl": "1h"}},
            {"type": "text", "text": brief, "cache_control": {"type": "ephemeral"}},
        ],
        messages=[{"role": "user", "content": assignment}],
    ) as stream:
        return stream.get_final_text()


@labels(agent="reviewer", phase="review")
async def review(clients: Clients, task: Task) -> None:
    """Review the design, the code and the tests concurrently."""
    task.notes += await asyncio.gather(
        _review_design(clients, task), _review_code(clients, task), _review_tests(clients, task)
    )


async def _review_design(clients: Clients, task: Task) -> str:
    response = await clients.google.aio.models.generate_content(
        model="gemini-2.5-pro",
        contents=f"Is the design sound? {task.brief}",
        config=GenerateContentConfig(system_instruction=HANDBOOK),
    )
    return response.text or ""


async def _review_code(clients: Clients, task: Task) -> str:
    chunks = await clients.async_openai.chat.completions.create(
        model="gpt-4o",
        messages=[
            {"role": "system", "content": HANDBOOK},
            {"role": "user", "content": f"Is the code right? {task.brief}"},
        ],
        stream=True,
        stream_options={"include_usage": True},  # by default, OpenAI's streams have no usage
    )
    texts = [chunk.choices[0].delta.content or "" async for chunk in chunks if chunk.choices]
    return "".join(texts)


async def _review_tests(clients: Clients, task: Task) -> str:
    async with clients.async_openai.responses.stream(
        model="o4-mini", instructions=HANDBOOK, input=f"What is not tested? {task.brief}"
    ) as stream:
        return (await stream.get_final_response()).output_text


@labels(agent="summarizer", phase="report")
async def report(clients: Clients, task: Task) -> None:
    """Write three reports, one after another."""
    for write in (_for_the_team, _for_the_customers):
        task.notes.append(await asyncio.to_thread(write, clients, task))
    message = await clients.async_anthropic.messages.create(
        model="claude-haiku-4-5",
        max_tokens=500,
        messages=[{"role": "user", "content": f"Sum this up for the management: {task.brief}"}],
    )
    task.notes += [block.text for block in message.content if block.type == "text"]


def _for_the_team(clients: Clients, task: Task) -> str:
    # A model with no known price: its tokens are counted as unpriced, not as free.
    model = "acme-1-preview" if task.number % 5 == 3 else "gpt-4o-mini"
    completion = clients.openai.chat.completions.create(
        model=model,
        messages=[{"role": "user", "content": f"Sum this up for the team: {task.brief}"}],
        max_completion_tokens=400,
    )
    return completion.choices[0].message.content or ""


def _for_the_customers(clients: Clients, task: Task) -> str:
    chunks = clients.google.models.generate_content_stream(
        model="gemini-2.5-flash", contents=f"Tell the customers what is new: {task.brief}"
    )
    return "".join(chunk.text or "" for chunk in chunks)


# ---- the tasks

STEPS: Final = (plan, research, execute, review, report)


async def work(url: str, stop: threading.Event) -> None:
    """Run tasks until `stop` is set, then finish the current steps.

    Args:
        url: the base URL of the providers' APIs.
        stop: set by any thread to stop.
    """
    tasks = (Task(number, *goal) for number, goal in enumerate(itertools.cycle(GOALS), 1))
    async with connect(url) as clients:
        await asyncio.gather(*(_run_tasks(tasks, clients, stop) for _ in range(CONCURRENT_TASKS)))


async def _run_tasks(tasks: Iterable[Task], clients: Clients, stop: threading.Event) -> None:
    for task in tasks:
        if stop.is_set():
            return
        with labels(team=TEAMS[task.project], project=task.project, session=f"task-{task.number}"):
            try:
                await _run_steps(task, clients, stop)
            except (openai.APIError, anthropic.APIError, GoogleError):
                continue  # all retries failed: skip this task


async def _run_steps(task: Task, clients: Clients, stop: threading.Event) -> None:
    for step in STEPS:
        if stop.is_set():
            return
        await step(clients, task)
