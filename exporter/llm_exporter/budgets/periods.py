"""Calendar periods in UTC: the hours, days and months of reports, budgets and thresholds."""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

from ..config import Period


class Span(NamedTuple):
    """One period: from its start to just before its end, in seconds since 1970."""

    start: float
    end: float


_ALL_TIME = Span(-math.inf, math.inf)


def span_of(period: Period, when: float) -> Span:
    """Return the period that a moment is in."""
    if period == "total":
        return _ALL_TIME
    if period == "month":
        first = datetime.fromtimestamp(when, UTC).replace(day=1, hour=0, minute=0, second=0, microsecond=0)
        return Span(first.timestamp(), (first + timedelta(days=32)).replace(day=1).timestamp())
    length = 3600.0 if period == "hour" else 86400.0
    start = when // length * length
    return Span(start, start + length)
