"""The calendar: the UTC hours, days and months of reports, budgets, thresholds and ledgers."""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta
from typing import Final, Literal, NamedTuple

Window = Literal["hour", "day", "month"]
"""A calendar hour, day or month in UTC."""

Period = Literal["hour", "day", "month", "total"]
"""A window, or all time."""

HOUR: Final = 3600
DAY: Final = 86400
"""Seconds."""


class Span(NamedTuple):
    """The start of a period and its end, which is not part of it, in Unix seconds."""

    start: float
    end: float


_ALL_TIME: Final = Span(-math.inf, math.inf)


def span_of(period: Period, when: float) -> Span:
    """Return the period that contains a moment, given in Unix seconds."""
    if period == "total":
        return _ALL_TIME
    if period == "month":
        first = datetime.fromtimestamp(when, UTC).replace(day=1, hour=0, minute=0, second=0, microsecond=0)
        return Span(first.timestamp(), (first + timedelta(days=32)).replace(day=1).timestamp())
    length = HOUR if period == "hour" else DAY
    start = when // length * length
    return Span(start, start + length)
