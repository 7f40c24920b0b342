"""The ways in which a process meters its calls, and what each of them costs its threads.

The ways take turns in one process: between two turns the SDKs get their own methods back, or ours. A turn
begins with calls that are not measured, in which Python specializes the code for the methods of that turn.
"""

from __future__ import annotations

import gc
import os
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Semaphore
from typing import Final

import llm_exporter
from llm_exporter.client import default
from llm_exporter.client.pipeline import Pipeline
from llm_exporter.config.model import Budget, Config
from support.served import Served

WAYS: Final = ("metrics and prices", "and a blocking budget", "and shipping")
"""Each of them includes those before it."""

BUDGET: Final = Budget(name="team", period="month", usd=Decimal(10**6), on_exceed="block")
"""A budget that every call is checked against, and that refuses none."""


class Metering:
    """A way of metering.

    Args:
        pipeline: where the calls go; None for no metering.
    """

    def __init__(self, pipeline: Pipeline | None = None) -> None:
        self._pipeline = pipeline

    def begin(self) -> None:
        """Meter all clients in this way from now on."""
        if self._pipeline is None:
            llm_exporter.uninstrument()
        else:
            default.replace(self._pipeline)
            llm_exporter.instrument()

    def end(self, calls: int) -> None:
        """Wait until our threads have done their work.

        Args:
            calls: how many calls were made since `begin` or the last `end`.
        """
        if self._pipeline is not None:
            self._pipeline.flush(60)

    def leave(self) -> None:
        """Undo what the `begin` of another way does not undo."""


class Shipping(Metering):
    """Metering that also ships the calls to a service."""

    def __init__(self, pipeline: ShippingPipeline) -> None:
        super().__init__(pipeline)
        self._acknowledged = pipeline.acknowledged

    def end(self, calls: int) -> None:
        """Wait until the service has acknowledged the calls, too."""
        for _ in range(calls):
            self._acknowledged.acquire()


class ShippingPipeline(Pipeline):
    """A pipeline that says how many calls the service has acknowledged."""

    def __init__(self) -> None:
        super().__init__()
        self.acknowledged = Semaphore(0)

    def _shipped(self, call_ids: Iterable[str]) -> None:
        call_ids = list(call_ids)
        super()._shipped(call_ids)
        if call_ids:
            self.acknowledged.release(len(call_ids))


@contextmanager
def meterings() -> Iterator[list[Metering]]:
    """Start a service, and return no metering and each of the `WAYS`."""
    with TemporaryDirectory() as directory, Served(Path(directory)) as service:
        os.environ["LLM_EXPORTER_SPOOL"] = str(Path(directory) / "client-spool")
        plain, budget, shipping = Pipeline(), Pipeline(), ShippingPipeline()
        for pipeline in (budget, shipping):
            pipeline.configure(Config(budgets=(BUDGET,)))
        shipping.ship_to(service.url)
        try:
            yield [Metering(), Metering(plain), Metering(budget), Shipping(shipping)]
        finally:
            llm_exporter.uninstrument()
            default.replace(None)
            for pipeline in (plain, budget, shipping):
                pipeline.close()


@dataclass
class Costs:
    """The CPU seconds of each turn of one way of metering."""

    caller: list[float] = field(default_factory=list)
    """Of the thread that makes the calls."""
    everyone: list[float] = field(default_factory=list)
    """Of all threads of the process."""


def measure(
    run: Callable[[int], object], ways: Sequence[Metering], *, calls: int, warm: int, turns: int
) -> list[Costs]:
    """Measure calls under each way of metering, in turn.

    Args:
        run: makes a number of calls.
        ways: the ways of metering.
        calls: how many calls of a turn are measured.
        warm: how many precede them.
        turns: the number of turns.
    """
    costs = [Costs() for _ in ways]
    gc.collect()
    gc.freeze()  # what is there before the first turn is not looked through in each
    for turn in range(-1, turns):
        pairs = list(zip(ways, costs, strict=True))
        for way, cost in pairs if turn % 2 else reversed(pairs):
            way.begin()
            run(warm)
            way.end(warm)
            gc.collect()
            everyone, caller = time.process_time(), time.thread_time()
            run(calls)
            caller = time.thread_time() - caller
            way.end(calls)
            if turn >= 0:  # the first turn warms up
                cost.caller.append(caller)
                cost.everyone.append(time.process_time() - everyone)
            way.leave()
    return costs
