"""Measure the floor: what the least that a meter can do costs, and where the time of our threads goes.

The same code costs more inside an SDK's call than in a loop of its own, since the SDK evicts it from the
caches of the processor meanwhile.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from queue import SimpleQueue
from typing import Any, Final

from openai._base_client import SyncAPIClient

import llm_exporter
from llm_exporter import Call
from llm_exporter.client.pipeline import Pipeline
from llm_exporter.client.shipping import _encode
from llm_exporter.config.model import Config

from .compared import Table, alternate, overhead, repeat
from .metering import BUDGET, Metering, measure, meterings
from .sdks import CHAT, CHAT_REQUEST, openai_client, whole

CALLS: Final = 60
WARM: Final = 60
TURNS: Final = 30
LOOP: Final = 2000

_current: ContextVar[Any] = ContextVar("current", default=None)
_finished: SimpleQueue[Any] = SimpleQueue()
_request: Any = SyncAPIClient.request


class _Observed:
    __slots__ = ("began", "ended", "request", "response")
    began: float
    ended: float
    request: Any
    response: Any


def _observing(method: Callable[..., Any]) -> Callable[..., Any]:
    """Return a method that notes when a call begins and ends, and hands it over: the least a meter can do."""

    def call(*args: Any, **kwargs: Any) -> Any:
        observed = _Observed()
        observed.request = kwargs
        observed.began = time.perf_counter()
        token = _current.set(observed)
        try:
            observed.response = method(*args, **kwargs)
            return observed.response
        finally:
            _current.reset(token)
            observed.ended = time.perf_counter()
            _finished.put(observed)

    return call


class Floor(Metering):
    """Observes the calls of OpenAI's SDK, and does nothing with them."""

    def begin(self) -> None:
        """Observe all clients from now on."""
        super().begin()
        SyncAPIClient.request = _observing(_request)  # type: ignore[method-assign]

    def end(self, calls: int) -> None:
        """Drop what was observed."""
        for _ in range(calls):
            _finished.get()

    def leave(self) -> None:
        """Give the SDK its own method back."""
        SyncAPIClient.request = _request  # type: ignore[method-assign]


def tables() -> Iterator[Table]:
    """Yield a table for the caller's thread and one for the stages on ours."""
    yield Table("The floor, for a call of OpenAI's SDK: µs on the caller's thread", ("what", "µs"), _floor())
    yield Table("Stages of a call on our threads, each in a loop of its own", ("stage", "µs"), _stages())


def _floor() -> list[list[str]]:
    # Not a generator: labels that were entered in one are looked up in another way.
    observing = _observing(lambda: None)

    def loop() -> None:
        for _ in range(LOOP):
            observing()
        while not _finished.empty():
            _finished.get()

    bare, observed = alternate(repeat(lambda: None, LOOP), loop, turns=TURNS)
    rows = [["the least, in a loop", str(overhead(bare, observed, LOOP))]]
    client = openai_client(whole(CHAT))

    def run(calls: int) -> None:
        for _ in range(calls):
            client.chat.completions.create(**CHAT_REQUEST)

    with meterings() as (raw, metered, budget, _), llm_exporter.labels(agent="planner", phase="plan"):
        ways = [raw, Floor(), metered, budget]
        costs = measure(run, ways, calls=CALLS, warm=WARM, turns=TURNS)
    names = ("the least, inside the SDK", "llm-exporter", "llm-exporter with a blocking budget")
    for name, cost in zip(names, costs[1:], strict=True):
        rows.append([name, str(overhead(costs[0].caller, cost.caller, CALLS))])
    return rows


def _stages() -> Iterator[list[str]]:
    pipeline = Pipeline()
    pipeline.configure(Config(budgets=(BUDGET,)))
    calls = [_call() for _ in range(LOOP)]
    stages: dict[str, Callable[[Call], object]] = {
        "make the record": lambda _: _call(),
        "price it": pipeline.prices.price,
        "settle the budgets": pipeline.budgets.settle,
        "count it in the metrics": pipeline.metrics.record,
        "encode it for shipping": _encode,
    }

    def each(stage: Callable[[Call], object]) -> Callable[[], None]:
        def run() -> None:
            for call in calls:
                stage(call)

        return run

    nothing, *seconds = alternate(each(lambda _: None), *map(each, stages.values()), turns=TURNS)
    for name, some in zip(stages, seconds, strict=True):
        yield [name, str(overhead(nothing, some, LOOP))]
    pipeline.close()


def _call() -> Call:
    tokens: Any = {"input": 176, "cache_read": 1024, "output": 300}
    return Call(
        provider="openai",
        model="gpt-4o-2024-08-06",
        requested_model="gpt-4o",
        operation="chat",
        labels={"agent": "planner", "phase": "plan", "session": "s-17"},
        tokens=tokens,
        duration=1.5,
    )
