"""The calendar in UTC: the hours, days and months of reports, budgets, thresholds and ledgers."""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta
from typing import Final, Literal, NamedTuple

Window = Literal["hour", "day", "month"]
"""A calendar hour, day or month in UTC."""

Step = Literal["minute", "hour", "day", "month"]
"""What a report over time is divided into: minutes, or windows."""

Period = Literal["hour", "day", "month", "total"]
"""A window, or all time."""

MINUTE: Final = 60
HOUR: Final = 3600
DAY: Final = 24 * HOUR
"""Seconds."""

RETENTION: Final[dict[Window, int]] = {"hour": DAY, "day": 30 * DAY, "month": 365 * DAY}
"""Seconds that reports by each window reach back by default, and that their sums are kept at least."""

WINDOWS: Final[tuple[Window, ...]] = tuple(RETENTION)
"""The windows, shortest first."""

STEPS: Final[tuple[Step, ...]] = ("minute", *WINDOWS)
"""The steps, shortest first."""

END_OF_TIME: Final = 253402300800.0
"""The start of the year 10000, in Unix seconds. `datetime` supports only earlier moments."""


class Span(NamedTuple):
    """The start of a period and its end, which is exclusive, in Unix seconds."""

    start: float
    end: float

    @property
    def start_or_none(self) -> float | None:
        """The start; None for all time, because JSON has no infinity."""
        return None if math.isinf(self.start) else self.start


_ALL_TIME: Final = Span(-math.inf, math.inf)
_LENGTHS: Final = {"minute": MINUTE, "hour": HOUR, "day": DAY}


def span_of(period: Period | Step, when: float) -> Span:
    """Return the period that contains a moment, given in Unix seconds."""
    if period == "total":
        return _ALL_TIME
    if period == "month":
        first = datetime.fromtimestamp(when, UTC).replace(day=1, hour=0, minute=0, second=0, microsecond=0)
        return Span(first.timestamp(), (first + timedelta(days=32)).replace(day=1).timestamp())
    length = _LENGTHS[period]
    start = when // length * length
    return Span(start, start + length)
