"""Blocks of labels in generators and context managers, and decorated generators."""

from __future__ import annotations

import _thread
import asyncio
import inspect
import threading
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Generator, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, asynccontextmanager, contextmanager, suppress
from contextvars import copy_context
from functools import partial
from typing import Any

import pytest

from llm_exporter import record
from llm_exporter.client.pipeline import Pipeline
from llm_exporter.labels import _innermost, _outermost, current_labels, labels
from support.awaiting import DEADLINE, until
from support.labels import now

PLANNER, CRITIC = {"agent": "planner"}, {"agent": "critic"}


def steps() -> Iterator[dict[str, str]]:
    with labels(agent="planner"):
        yield now()
        yield now()


async def async_steps() -> AsyncGenerator[dict[str, str]]:
    with labels(agent="planner"):
        yield now()
        await asyncio.sleep(0)
        yield now()


def steps_of_a_stack() -> Iterator[dict[str, str]]:
    with ExitStack() as stack:
        stack.enter_context(labels(agent="planner"))
        yield now()
        yield now()


def delegated_steps() -> Iterator[dict[str, str]]:
    yield from steps()


@pytest.mark.parametrize("function", [steps, steps_of_a_stack, delegated_steps])
def test_a_block_in_a_generator_is_in_force_while_its_body_runs(
    function: Callable[[], Iterator[dict[str, str]]],
) -> None:
    """Not in the code that iterates, whatever it labels itself."""
    iterator = function()
    with labels(phase="iterate"):
        assert next(iterator) == {**PLANNER, "phase": "iterate"}
        assert now() == {"phase": "iterate"}
        with labels(agent="critic"):
            assert now() == {**CRITIC, "phase": "iterate"}
        assert next(iterator)["agent"] == "planner"
        assert now() == {"phase": "iterate"}
        assert list(iterator) == []
        assert now() == {"phase": "iterate"}
    assert now() == {}


def test_a_block_in_an_async_generator_is_in_force_while_its_body_runs() -> None:
    async def main() -> None:
        iterator = async_steps()
        with labels(phase="iterate"):
            async for seen in iterator:
                assert seen == {**PLANNER, "phase": "iterate"}
                assert now() == {"phase": "iterate"}
                await asyncio.sleep(0)
                with labels(agent="critic"):
                    assert now() == {**CRITIC, "phase": "iterate"}
        assert now() == {}

    asyncio.run(main())


def test_a_call_between_two_steps_of_a_generator_has_its_own_labels(pipeline: Pipeline) -> None:
    iterator = steps()
    next(iterator)
    call = record(provider="acme", model="t", tokens={"input": 1})
    assert call.labels == {}
    iterator.close()  # type: ignore[attr-defined]


def test_a_block_of_the_caller_stays_when_a_generator_ends_inside_it() -> None:
    """Even if both entered the same object."""
    shared = labels(agent="planner")

    def generator() -> Iterator[None]:
        with shared:
            yield

    iterator = generator()
    next(iterator)
    with shared:
        assert list(iterator) == []
        assert now() == PLANNER
    assert now() == {}
    iterator = generator()
    next(iterator)
    with labels(agent="critic"):
        assert list(iterator) == []
        assert now() == CRITIC
    assert now() == {}


def test_generators_may_be_interleaved() -> None:
    def generator(name: str) -> Iterator[dict[str, str]]:
        with labels(**{name: 1}):
            yield now()
            with labels(agent=name):
                yield now()
            yield now()

    first, second = generator("a"), generator("b")
    seen = [next(each) for each in (first, second, first, second, first, second)]
    assert seen == [
        {"a": "1"},
        {"b": "1"},
        {"a": "1", "agent": "a"},
        {"b": "1", "agent": "b"},
        {"a": "1"},
        {"b": "1"},
    ]
    assert now() == {}
    first.close()  # type: ignore[attr-defined]
    assert next(second, None) is None
    assert now() == {}


def test_a_dropped_generator_ends_at_once() -> None:
    """The block keeps its frame, but not the generator."""
    ended = []

    def generator() -> Iterator[None]:
        try:
            with labels(agent="planner"):
                yield
        finally:
            ended.append(now())

    iterator = generator()
    next(iterator)
    del iterator
    assert ended == [{}]
    assert _innermost.get() in (None, _outermost())


def test_abandoned_async_generators_leave_nothing_behind() -> None:
    """The event loop closes each from another task."""

    async def main() -> None:
        for _ in range(50):
            async for _ in async_steps():
                break
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            assert now() == {}
        with labels(agent="critic"):
            assert now() == CRITIC
            block = _innermost.get()
            depth = 0
            while block is not None:
                block, depth = block.outer, depth + 1
            assert depth < 5

    asyncio.run(main())


@contextmanager
def planning() -> Iterator[None]:
    with labels(agent="planner"):
        yield


@asynccontextmanager
async def async_planning() -> AsyncIterator[None]:
    with labels(agent="planner"):
        yield


def test_a_block_in_a_context_manager_is_in_force_in_the_block_of_its_caller() -> None:
    async def main() -> None:
        async with async_planning():
            assert now() == PLANNER
            assert await asyncio.create_task(acurrent()) == PLANNER
        assert now() == {}

    async def acurrent() -> dict[str, str]:
        return now()

    with planning():
        assert now() == PLANNER
    assert now() == {}
    with ExitStack() as stack:
        stack.enter_context(planning())
        assert now() == PLANNER
    assert now() == {}
    assert planning()(now)() == PLANNER
    asyncio.run(main())
    assert now() == {}


@pytest.fixture
def _planning() -> Iterator[None]:
    assert now() == {}
    with labels(agent="planner"):
        yield
    assert now() == {}


@pytest.mark.usefixtures("_planning")
def test_a_block_in_a_fixture_is_in_force_in_the_test() -> None:
    assert now() == PLANNER


def test_a_block_may_be_the_first_frame_of_a_thread() -> None:
    """Then nothing has called it."""
    planner, context = labels(agent="planner"), copy_context()
    _thread.start_new_thread(context.run, (planner.__enter__,))
    until(lambda: context.get(_innermost) not in (None, _outermost()))
    assert context.run(now) == PLANNER
    _thread.start_new_thread(context.run, (planner.__exit__, None, None, None))
    until(lambda: context.get(_innermost) is _outermost())


def test_tasks_and_threads_that_a_generator_starts_keep_its_labels_while_it_is_suspended() -> None:
    async def later(go_on: asyncio.Event) -> dict[str, str]:
        await go_on.wait()
        with labels(phase="execute"):
            return now()

    async def generator(go_on: asyncio.Event) -> AsyncIterator[asyncio.Task[dict[str, str]]]:
        with labels(agent="planner"):
            yield asyncio.create_task(later(go_on))
            yield asyncio.create_task(later(go_on))

    async def main() -> None:
        go_on = asyncio.Event()
        tasks = [task async for task in generator(go_on)]
        assert now() == {}
        go_on.set()
        assert await asyncio.gather(*tasks) == 2 * [{**PLANNER, "phase": "execute"}]

    asyncio.run(main())

    def in_pool(pool: ThreadPoolExecutor, go_on: threading.Event) -> Iterator[Future[dict[str, str]]]:
        def work() -> dict[str, str]:
            go_on.wait(30)
            return now()

        with labels(agent="planner"):
            for _ in range(4):
                yield pool.submit(copy_context().run, work)

    with ThreadPoolExecutor(4) as pool:
        go = threading.Event()
        futures = []
        for future in in_pool(pool, go):
            futures.append(future)
            assert now() == {}
        go.set()
        assert [future.result() for future in futures] == 4 * [PLANNER]


def test_threads_may_read_the_labels_of_a_suspended_generator_together() -> None:
    """They are in copies of one context; the thread that iterates is in that context."""
    iterator = steps()
    next(iterator)
    step = threading.Barrier(5, timeout=DEADLINE)

    def read() -> set[str]:
        step.wait()
        return {current_labels().get("agent", "") for _ in range(5000)}

    with ThreadPoolExecutor(4) as pool:
        futures = [pool.submit(copy_context().run, read) for _ in range(4)]
        assert read() == {""}
        assert all(future.result() == {"planner"} for future in futures)
    iterator.close()  # type: ignore[attr-defined]


# ---- decorated generators


def decorated() -> Generator[Any, Any, str]:
    """Plan in steps."""
    seen: list[Any] = []
    try:
        while True:
            with labels(phase=len(seen)):
                try:
                    seen.append((yield now()))
                except LookupError as error:
                    seen.append(error)
                    yield now()
            if seen[-1] == "stop":
                return f"{now()}"
    finally:
        LEFT.append(now())


LEFT: list[dict[str, str]] = []
"""The labels in force where generators were left."""


@pytest.fixture
def generator() -> Iterator[Generator[Any, Any, str]]:
    LEFT.clear()
    yield labels(agent="planner")(decorated)()
    assert now() == {}


def test_a_decorated_generator_runs_under_its_labels(generator: Generator[Any, Any, str]) -> None:
    assert next(generator) == {**PLANNER, "phase": "0"}
    assert now() == {}
    with labels(project="acme"):
        assert generator.send("a") == {**PLANNER, "phase": "1", "project": "acme"}
        assert now() == {"project": "acme"}
    with labels(agent="critic"), labels(phase="x"):
        assert generator.send("b") == {**PLANNER, "phase": "2"}
        assert now() == {**CRITIC, "phase": "x"}
        assert copy_context().run(now) == {**CRITIC, "phase": "x"}
    assert generator.throw(LookupError("mine")) == {**PLANNER, "phase": "2"}
    assert now() == {}
    assert next(generator) == {**PLANNER, "phase": "3"}
    with pytest.raises(StopIteration) as stopped:
        generator.send("stop")
    assert stopped.value.value == str(PLANNER)
    assert LEFT == [PLANNER]
    assert list(generator) == []


def test_a_decorated_generator_raises_its_own_exceptions(generator: Generator[Any, Any, str]) -> None:
    next(generator)
    error = ValueError("mine")
    with pytest.raises(ValueError, match="mine") as raised:
        generator.throw(error)
    assert raised.value is error
    assert error.__context__ is None
    assert LEFT == [PLANNER]


@pytest.mark.parametrize("end", ["close", "drop", "throw"])
def test_a_decorated_generator_is_closed_under_its_labels(end: str) -> None:
    LEFT.clear()
    generator = labels(agent="planner")(decorated)()
    next(generator)
    if end == "close":
        generator.close()
    elif end == "throw":
        with pytest.raises(GeneratorExit):
            generator.throw(GeneratorExit)
    else:
        del generator
    assert LEFT == [PLANNER]
    assert now() == {}


def test_a_decorated_generator_that_ignores_its_closing_is_an_error() -> None:
    @labels(agent="planner")
    def stubborn() -> Iterator[None]:
        with suppress(GeneratorExit):
            yield
        yield

    generator = stubborn()
    next(generator)
    with pytest.raises(RuntimeError, match="ignored GeneratorExit"):
        generator.close()  # type: ignore[attr-defined]


def test_a_decorated_generator_looks_like_the_function() -> None:
    planner = labels(agent="planner")
    assert inspect.isgeneratorfunction(planner(decorated))
    assert inspect.isasyncgenfunction(planner(async_steps))
    assert inspect.signature(planner(decorated)) == inspect.signature(decorated)
    assert (planner(decorated).__name__, planner(decorated).__doc__) == ("decorated", "Plan in steps.")
    assert list(planner(partial(delegated_steps))()) == 2 * [PLANNER]

    class Agent:
        @labels(agent="planner")
        def plan(self, depth: int) -> Iterator[dict[str, str]]:
            yield now()
            if depth:
                yield from self.plan(depth - 1)

    assert list(Agent().plan(2)) == 3 * [PLANNER]


async def async_decorated() -> AsyncGenerator[dict[str, str], str]:
    seen: list[str] = []
    try:
        while "stop" not in seen:
            with labels(phase=len(seen)):
                await asyncio.sleep(0)
                try:
                    seen.append((yield now()))
                except LookupError as error:
                    seen.append(str(error))
    finally:
        await asyncio.sleep(0)
        LEFT.append(now())


def test_a_decorated_async_generator_runs_under_its_labels() -> None:
    async def main() -> None:
        LEFT.clear()
        generator = labels(agent="planner")(async_decorated)()
        assert await anext(generator) == {**PLANNER, "phase": "0"}
        assert now() == {}
        with labels(project="acme", phase="x"):
            assert await generator.asend("a") == {**PLANNER, "project": "acme", "phase": "1"}
            assert now() == {"project": "acme", "phase": "x"}
            assert await asyncio.create_task(current()) == {"project": "acme", "phase": "x"}
        assert await generator.athrow(LookupError("b")) == {**PLANNER, "phase": "2"}
        assert now() == {}
        with pytest.raises(StopAsyncIteration):
            await generator.asend("stop")
        assert LEFT == [PLANNER]
        assert now() == {}

    async def current() -> dict[str, str]:
        return now()

    asyncio.run(main())


@pytest.mark.parametrize("end", ["aclose", "abandon", "throw", "cancel"])
def test_a_decorated_async_generator_is_closed_under_its_labels(end: str) -> None:
    async def iterate(generator: AsyncGenerator[dict[str, str], str]) -> None:
        async for _ in generator:
            assert now() == {}

    async def main() -> None:
        LEFT.clear()
        generator = labels(agent="planner")(async_decorated)()
        await anext(generator)
        if end == "aclose":
            await generator.aclose()
        elif end == "throw":
            with pytest.raises(ValueError, match="mine"):
                await generator.athrow(ValueError("mine"))
        elif end == "cancel":
            task = asyncio.create_task(iterate(generator))
            await asyncio.sleep(0)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
        del generator
        for _ in range(5):
            await asyncio.sleep(0)
        assert now() == {}

    asyncio.run(main())
    assert LEFT == [PLANNER]


def test_a_step_of_a_decorated_async_generator_may_be_closed_in_another_context() -> None:
    async def sleeping() -> AsyncGenerator[None]:
        with labels(phase="sleep"):
            await asyncio.sleep(0)
            yield

    step = labels(agent="planner")(sleeping)().asend(None)
    copy_context().run(step.send, None)
    with labels(agent="critic"):
        step.close()
        assert now() == CRITIC
    assert now() == {}
