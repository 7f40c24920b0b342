"""Measure what metering adds to a call of each SDK: to the caller's thread, and to all threads.

The calls follow each other without a pause. A real call waits for the network, and our threads work
meanwhile.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Final

import llm_exporter

from .compared import Overhead, Table, overhead
from .metering import WAYS, Costs, measure, meterings
from .sdks import plain_calls

CALLS: Final = 60
WARM: Final = 60
TURNS: Final = 30

CALLER_TARGET: Final = 12e-6
EVERYONE_TARGET: Final = 35e-6
BUDGET_TARGET: Final = 3e-6


@dataclass(frozen=True)
class Measured:
    """The costs of one call without metering, and in each of the `WAYS`."""

    name: str
    costs: Sequence[Costs]

    def caller(self) -> list[str]:
        """Return a row of what is added to the caller's thread."""
        return _row(self.name, [cost.caller for cost in self.costs], CALLER_TARGET)

    def everyone(self) -> list[str]:
        """Return a row of what is added to all threads together."""
        return _row(self.name, [cost.everyone for cost in self.costs], EVERYONE_TARGET)

    def budget(self) -> list[str]:
        """Return a row of what the budget adds to the caller's thread."""
        _, without, with_budget, _ = self.costs
        check = overhead(without.caller, with_budget.caller, CALLS)
        return [self.name, str(check), _target(BUDGET_TARGET), check.met(BUDGET_TARGET)]


def _row(name: str, seconds: Sequence[Sequence[float]], target: float) -> list[str]:
    raw, *ways = seconds
    added: list[Overhead] = [overhead(raw, way, CALLS) for way in ways]
    worst = max(added, key=lambda way: way.seconds)
    return [name, f"{median(raw) / CALLS * 1e6:,.0f}", *map(str, added), _target(target), worst.met(target)]


def _target(seconds: float) -> str:
    return f"{seconds * 1e6:g}"


def tables() -> Iterator[Table]:
    """Yield a table for the caller's thread, one for all threads, and one for the budget check."""
    measured = _measured()
    columns = ("call", "without", *WAYS, "target", "met")
    yield Table("A call: µs on the caller's thread", columns, [each.caller() for each in measured])
    yield Table("A call: µs on all threads", columns, [each.everyone() for each in measured])
    yield Table(
        "A call: µs of the budget check on the caller's thread",
        ("call", "budget check", "target", "met"),
        [each.budget() for each in measured],
    )


def _measured() -> list[Measured]:
    """Measure each call. Not in a generator: labels that were entered in one are looked up in another way."""
    with (
        llm_exporter.labels(agent="planner", phase="plan", session="s-17"),
        asyncio.Runner() as runner,  # its tasks have the labels that are in force now
        meterings() as ways,
    ):
        return [
            Measured(call.name, measure(call.run, ways, calls=CALLS, warm=WARM, turns=TURNS))
            for call in plain_calls(runner)
        ]
