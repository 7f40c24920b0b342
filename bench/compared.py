"""Two ways to do the same thing, measured in turns."""

from __future__ import annotations

import gc
from collections.abc import Callable
from dataclasses import dataclass
from statistics import median
from time import process_time
from typing import Any


@dataclass(frozen=True)
class Row:
    """One line of the table."""

    what: str
    without: str
    """What it is without us, or with what others use."""
    with_us: str
    target: str = ""


def in_turns(*ways: Callable[[], object], turns: int) -> list[list[float]]:
    """Return the seconds that each way took in each turn, after one turn that does not count.

    They are CPU seconds of this process: the work of all its threads is in them, and other processes are not.
    """
    took: list[list[float]] = [[] for _ in ways]
    for way in ways:
        way()
    for _ in range(turns):
        for way, seconds in zip(ways, took, strict=True):
            gc.collect()
            began = process_time()
            way()
            seconds.append(process_time() - began)
    return took


def times(function: Callable[..., Any], number: int, *arguments: Any) -> Callable[[], None]:
    """Return a function that calls another so many times."""

    def run() -> None:
        for _ in range(number):
            function(*arguments)

    return run


def added(plain: list[float], ours: list[float], number: int) -> float:
    """Return the median of what a turn of ours took longer, in seconds for each of so many things."""
    return median(more - less for less, more in zip(plain, ours, strict=True)) / number


def micro(seconds: float) -> str:
    """Return seconds as microseconds."""
    return f"{seconds * 1e6:,.2f} µs" if seconds < 1e-5 else f"{seconds * 1e6:,.0f} µs"
