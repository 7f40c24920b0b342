"""A clock and two series for tests of series that are shown at 0 first."""

from __future__ import annotations

from llm_exporter.metrics.zero_first import SeriesKey, ZeroFirst

A, B = ("llm_calls_total", "a"), ("llm_calls_total", "b")
INTERVAL = 10.0


class Clock:
    """A clock that a test sets."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def held_in_scrape(zero_first: ZeroFirst) -> set[SeriesKey]:
    """Scrape, and return the series that are shown at 0."""
    zero_first.on_scrape()
    return {series for series in (A, B) if zero_first.is_held(series)}
