"""Labels of calls, kept in a context variable."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextvars import Context, copy_context
from functools import partial
from logging import LogRecord

import pytest

from llm_exporter.call import UNATTRIBUTED, Call
from llm_exporter.labels import Labels, current_labels, from_environment, labels
from support.awaiting import DEADLINE
from support.labels import now


def test_no_labels_are_in_force_outside_a_block() -> None:
    """Then the mapping is empty, and a call is unattributed."""
    call = Call(provider="t", model="t", operation="chat", labels=now())

    assert now() == {}
    assert (call.agent, call.phase) == (UNATTRIBUTED, UNATTRIBUTED)


def test_an_empty_agent_is_unattributed() -> None:
    """Prometheus treats an empty label value as missing too."""
    call = Call(provider="t", model="t", operation="chat", labels={"agent": "", "phase": ""})

    assert (call.agent, call.phase) == (UNATTRIBUTED, UNATTRIBUTED)


def test_labels_are_in_force_inside_their_block_only() -> None:
    with labels(agent="planner", phase="plan", project="acme"):
        assert now() == {"agent": "planner", "phase": "plan", "project": "acme"}
    assert now() == {}


def test_inner_labels_override_outer_ones() -> None:
    """Labels that the inner block does not set keep their values."""
    with labels(agent="planner", project="acme"):
        with labels(agent="critic", phase="review"):
            assert now() == {"agent": "critic", "project": "acme", "phase": "review"}
        assert now() == {"agent": "planner", "project": "acme"}


@pytest.mark.parametrize(
    ("value", "label"),
    [
        pytest.param(7, {"tier": "7"}, id="number"),
        pytest.param(True, {"tier": "True"}, id="boolean"),
        pytest.param("", {"tier": ""}, id="empty string"),
        pytest.param(None, {"tier": "gold"}, id="None leaves the outer value"),
    ],
)
def test_values_are_converted_to_strings(value: object, label: dict[str, str]) -> None:
    """None is not a value."""
    with labels(tier="gold"), labels(tier=value):
        assert now() == label


def test_labels_cannot_be_changed_in_place() -> None:
    """`current_labels()` returns a read-only mapping."""
    with labels(agent="planner"):
        mapping = current_labels()
        with pytest.raises(TypeError, match="item assignment"):
            mapping["agent"] = "other"  # type: ignore[index]


def test_an_exception_passes_through_a_block() -> None:
    """The labels are no longer in force then."""
    with pytest.raises(LookupError, match="mine"), labels(agent="planner"):
        raise LookupError("mine")
    assert now() == {}


# ---- one object, reused


def test_one_object_can_be_reused_and_nested() -> None:
    """It keeps no state."""
    planner = labels(agent="planner")
    for _ in range(2):
        with planner:
            with labels(agent="critic"):
                with planner:
                    assert now() == {"agent": "planner"}
                assert now() == {"agent": "critic"}
            with planner, planner:
                assert now() == {"agent": "planner"}
            assert now() == {"agent": "planner"}
        assert now() == {}


def test_one_object_can_be_shared_by_threads() -> None:
    """Threads that enter and leave it in lockstep do not see each other's labels."""
    shared = labels(agent="shared")
    step = threading.Barrier(8, timeout=DEADLINE)

    def work(number: int) -> list[dict[str, str]]:
        seen = []
        with labels(session=number):
            for _ in range(20):
                step.wait()
                with shared:
                    step.wait()
                    seen.append(now())
                    if number % 2:  # half of them leave while the others are still inside
                        step.wait()
                if not number % 2:
                    step.wait()
                seen.append(now())
        seen.append(now())
        return seen

    with ThreadPoolExecutor(8) as pool:
        for number, seen in enumerate(pool.map(work, range(8))):
            inside, outside = {"session": str(number), "agent": "shared"}, {"session": str(number)}
            assert seen == [*(20 * [inside, outside]), {}]


def test_one_object_can_be_shared_by_tasks() -> None:
    """Tasks may leave it in any order."""
    shared = labels(agent="shared")

    async def work(number: int, step: asyncio.Barrier) -> list[dict[str, str]]:
        seen = []
        with labels(session=number):
            for turn in range(5):
                await step.wait()
                with shared:
                    await step.wait()
                    seen.append(now())
                    if (number + turn) % 2:
                        await step.wait()
                if not (number + turn) % 2:
                    await step.wait()
                seen.append(now())
        return seen

    async def main() -> list[list[dict[str, str]]]:
        step = asyncio.Barrier(6)
        return await asyncio.gather(*(work(number, step) for number in range(6)))

    for number, seen in enumerate(asyncio.run(main())):
        session = {"session": str(number)}
        assert seen == 5 * [{**session, "agent": "shared"}, session]


# ---- decorator


def test_a_decorated_function_runs_under_its_labels() -> None:
    """Its name, arguments, result and exceptions stay the same."""

    @labels(agent="planner")
    def plan(goal: str, *, depth: int = 1) -> tuple[str, int, dict[str, str]]:
        """Plan."""
        if depth < 0:
            raise ValueError("depth")
        return goal, depth, now()

    assert plan("tea", depth=2) == ("tea", 2, {"agent": "planner"})
    assert (plan.__name__, plan.__doc__) == ("plan", "Plan.")
    assert now() == {}
    with pytest.raises(ValueError, match="depth"):
        plan("tea", depth=-1)
    assert now() == {}


def test_a_decorated_coroutine_runs_under_its_labels() -> None:
    """They are in force until it ends, also in a task, together with those in force where it is awaited."""

    @labels(agent="planner")
    async def plan() -> list[dict[str, str]]:
        seen = [now()]
        await asyncio.sleep(0)
        return [*seen, now()]

    async def main() -> None:
        with labels(project="acme"):
            coroutine = plan()
            assert now() == {"project": "acme"}
            assert await coroutine == 2 * [{"project": "acme", "agent": "planner"}]
            assert await asyncio.create_task(plan()) == 2 * [{"project": "acme", "agent": "planner"}]
            assert now() == {"project": "acme"}

    assert asyncio.iscoroutinefunction(plan)
    asyncio.run(main())


def test_a_decorated_recursive_method_runs_under_the_labels_of_each_level() -> None:
    """Each level restores the labels of the one above."""

    class Agent:
        @labels(agent="planner")
        def plan(self, depth: int) -> list[dict[str, str]]:
            if depth == 0:
                return [now()]
            with labels(depth=depth):
                return [now(), *self.plan(depth - 1), now()]

    planner = {"agent": "planner"}
    assert Agent().plan(1) == [
        {**planner, "depth": "1"},
        {**planner, "depth": "1"},
        {**planner, "depth": "1"},
    ]
    assert now() == {}


def test_one_object_can_decorate_several_functions() -> None:
    """The functions may call each other."""
    planner = labels(agent="planner")
    inner = planner(now)

    @planner
    def outer() -> list[dict[str, str]]:
        return [now(), inner(), now()]

    assert outer() == 3 * [{"agent": "planner"}]
    assert now() == {}


# ---- tasks and threads


def test_a_task_inherits_the_labels_in_force_where_it_is_created() -> None:
    """Labels that the task adds stay in the task; labels that its creator adds later do not reach it."""

    async def child(begun: asyncio.Event, go_on: asyncio.Event) -> list[dict[str, str]]:
        seen = [now()]
        with labels(phase="execute"):
            begun.set()
            await go_on.wait()
            seen.append(now())
        return [*seen, now()]

    async def main() -> None:
        begun, go_on = asyncio.Event(), asyncio.Event()
        with labels(agent="planner"):
            task = asyncio.create_task(child(begun, go_on))
        with labels(agent="other"):
            await begun.wait()
            assert now() == {"agent": "other"}
            go_on.set()
            planner = {"agent": "planner"}
            assert await task == [planner, {**planner, "phase": "execute"}, planner]

    asyncio.run(main())


def test_gathered_tasks_have_separate_labels() -> None:
    """Each gathered coroutine is a task."""

    async def child(name: str, step: asyncio.Barrier) -> dict[str, str]:
        with labels(agent=name):
            await step.wait()
            return now()

    async def main() -> list[dict[str, str]]:
        step = asyncio.Barrier(3)
        with labels(project="acme"):
            return await asyncio.gather(*(child(name, step) for name in "abc"))

    assert asyncio.run(main()) == [{"project": "acme", "agent": name} for name in "abc"]


def in_thread(function: Callable[[], dict[str, str]]) -> dict[str, str]:
    """Run a function in a new thread and return its result."""
    result: list[dict[str, str]] = []
    thread = threading.Thread(target=lambda: result.append(function()))
    thread.start()
    thread.join()
    return result[0]


def test_a_thread_starts_without_labels() -> None:
    """A thread has its own context."""
    with labels(agent="planner"):
        assert in_thread(now) == {}


def test_a_thread_in_a_copied_context_inherits_labels() -> None:
    """Use `copy_context().run` to pass labels to a thread or a thread pool."""
    with labels(agent="planner"):
        assert in_thread(partial(copy_context().run, now)) == {"agent": "planner"}
        with ThreadPoolExecutor(1) as pool:
            assert pool.submit(copy_context().run, now).result() == {"agent": "planner"}
            assert pool.submit(now).result() == {}


def test_asyncio_to_thread_inherits_labels() -> None:
    """It copies the context."""

    async def main() -> dict[str, str]:
        with labels(agent="planner"):
            return await asyncio.to_thread(now)

    assert asyncio.run(main()) == {"agent": "planner"}


# ---- blocks that are left elsewhere


def entered_elsewhere() -> tuple[Labels, Context]:
    """Return labels that were entered in another context, and that context."""
    planner, context = labels(agent="planner"), copy_context()
    context.run(planner.__enter__)
    return planner, context


def test_leaving_a_block_in_another_context_changes_nothing() -> None:
    """This happens to an abandoned async generator, which the event loop closes from another task."""
    planner, context = entered_elsewhere()

    with labels(agent="critic"):
        planner.__exit__(None, None, None)
        assert now() == {"agent": "critic"}
    assert context.run(now) == {"agent": "planner"}


def test_leaving_a_block_that_was_not_entered_changes_nothing() -> None:
    labels(agent="planner").__exit__(None, None, None)

    assert now() == {}


def test_an_abandoned_async_generator_does_not_raise() -> None:
    """Its `with` block is left by another task, or while the loop shuts down."""

    async def numbers() -> AsyncIterator[int]:
        with labels(agent="planner"):
            yield 1
            yield 2

    async def first(stream: AsyncIterator[int]) -> int:
        return await anext(stream)

    async def main() -> dict[str, str]:
        stream = numbers()
        assert await asyncio.create_task(first(stream)) == 1
        with labels(agent="critic"):
            assert [number async for number in stream] == [2]
            return now()

    assert asyncio.run(main()) == {"agent": "critic"}


def test_repr_shows_the_labels() -> None:
    assert repr(labels(agent="planner", tier=7)) == "labels(agent='planner', tier='7')"


# ---- the environment


def test_labels_in_the_environment_are_read_on_first_use() -> None:
    script = """
import os
import llm_exporter
os.environ["LLM_EXPORTER_LABELS"] = "agent=planner,oops"
print("imported", flush=True)
from llm_exporter.labels import current_labels
print(current_labels()["agent"])
with llm_exporter.labels(phase="plan"):
    print(dict(current_labels()))
"""
    environment = {**os.environ, "LLM_EXPORTER_LABELS": "too early"}
    done = subprocess.run(
        [sys.executable, "-c", script],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=True,
    )
    assert done.stdout.splitlines() == [
        "imported",
        "llm-exporter: LLM_EXPORTER_LABELS: 'oops' is not name=value",
        "planner",
        "{'agent': 'planner', 'phase': 'plan'}",
    ]


def test_labels_in_the_environment_are_name_value_pairs(
    monkeypatch: pytest.MonkeyPatch, said: Callable[[], list[LogRecord]]
) -> None:
    monkeypatch.setenv("LLM_EXPORTER_LABELS", "agent=a%2Cb, phase = plan,,oops,=x,agent=c=d")
    assert from_environment() == {"agent": "c=d", "phase": "plan"}
    assert [record.getMessage() for record in said()] == [
        "llm-exporter: LLM_EXPORTER_LABELS: 'oops' is not name=value",
        "llm-exporter: LLM_EXPORTER_LABELS: '=x' is not name=value",
    ]
