"""Measure several variants in alternation, and show the results as tables."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from statistics import median, quantiles
from time import process_time
from typing import Any


@dataclass(frozen=True)
class Table:
    """A table of results."""

    title: str
    head: Sequence[str]
    rows: Iterable[Sequence[str]]
    """The lines below the head. They may be computed one by one, so that each is printed when it is known."""


@dataclass(frozen=True)
class Row:
    """A result that is compared with one without llm-exporter, and with a target."""

    name: str
    baseline: str
    """The result without llm-exporter, or with an alternative to it."""
    result: str
    """The result with llm-exporter."""
    target: str = ""
    met: bool | None = None
    """Whether the target is met; None if there is none."""


def table(title: str, rows: Iterable[Row]) -> Table:
    """Return a table of rows."""
    head = ("operation", "without llm-exporter or with an alternative", "with llm-exporter", "target", "met")
    return Table(
        title, head, ((row.name, row.baseline, row.result, row.target, met(row.met)) for row in rows)
    )


def met(is_met: bool | None) -> str:
    """Return what a table says about a target."""
    return {True: "yes", False: "no", None: ""}[is_met]


@dataclass(frozen=True)
class Overhead:
    """What a variant costs more than a baseline, per operation."""

    seconds: float
    """The median of the turns."""
    spread: float
    """Half of the interquartile range of the turns, in seconds."""

    def __str__(self) -> str:
        """Return the median and the spread in microseconds."""
        digits = 2 if abs(self.seconds) < 4e-6 else 1
        return f"{self.seconds * 1e6:+,.{digits}f} ± {self.spread * 1e6:,.{digits}f}"

    def met(self, target: float) -> str:
        """Return what a table says about a target, in seconds: nothing definite if the spread includes it."""
        if abs(self.seconds - target) <= self.spread:
            return "yes, within the spread" if self.seconds <= target else "no, within the spread"
        return met(self.seconds <= target)


def overhead(baseline: Sequence[float], measured: Sequence[float], number: int) -> Overhead:
    """Compare the turns of two variants one by one: the half of them that other programs disturbed least.

    Args:
        baseline: the seconds of each turn without the overhead.
        measured: the seconds of each turn with it.
        number: how many operations a turn has.
    """
    pairs = sorted(zip(baseline, measured, strict=True), key=sum)
    more = [(more - less) / number for less, more in pairs[: max(len(pairs) // 2, 2)]]
    low, _, high = quantiles(more, n=4)
    return Overhead(median(more), (high - low) / 2)


def alternate(*variants: Callable[[], object], turns: int) -> list[list[float]]:
    """Run the variants alternately, after a warm-up.

    Args:
        variants: the functions to measure.
        turns: how often to run each.

    Returns:
        The CPU seconds of each turn of each variant: of all threads of this process, and of no other process.
    """
    durations: list[list[float]] = [[] for _ in variants]
    for variant in variants:
        variant()
    for _ in range(turns):
        for variant, seconds in zip(variants, durations, strict=True):
            gc.collect()
            began = process_time()
            variant()
            seconds.append(process_time() - began)
    return durations


def repeat(function: Callable[..., Any], number: int, *arguments: Any) -> Callable[[], None]:
    """Return a function that calls another one a number of times."""

    def run() -> None:
        for _ in range(number):
            function(*arguments)

    return run


def microseconds(seconds: float) -> str:
    """Format seconds as microseconds."""
    return f"{seconds * 1e6:,.2f} µs" if seconds < 1e-5 else f"{seconds * 1e6:,.0f} µs"
