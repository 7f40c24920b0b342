"""Measure several variants in alternation."""

from __future__ import annotations

import gc
from collections.abc import Callable
from dataclasses import dataclass
from statistics import median
from time import process_time
from typing import Any


@dataclass(frozen=True)
class Row:
    """A row of the table of results."""

    name: str
    baseline: str
    """The result without llm-exporter, or with an alternative to it."""
    result: str
    """The result with llm-exporter."""
    target: str = ""


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


def overhead(baseline: list[float], measured: list[float], number: int) -> float:
    """Return the median overhead of a turn, in seconds per operation, if each turn has `number` of them."""
    return median(more - less for less, more in zip(baseline, measured, strict=True)) / number


def microseconds(seconds: float) -> str:
    """Format seconds as microseconds."""
    return f"{seconds * 1e6:,.2f} µs" if seconds < 1e-5 else f"{seconds * 1e6:,.0f} µs"
