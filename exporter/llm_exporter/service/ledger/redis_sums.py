"""The sums in the Redis ledger: which ones a call is added to, and which ones a report is made of."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from functools import lru_cache
from typing import Final

import msgspec

from ...call import Call
from ...periods import END_OF_TIME, HOUR, RETENTION, WINDOWS, Window, span_of
from .base import MAX_INTEGER, SUMMED_BY, Totals, dimension, dimensions

DIMENSIONS: Final = {"bucket": SUMMED_BY, "sessions": ("session", "model")}
"""The dimensions of sums, by the prefix of their keys. Sessions are separate because there are many."""

_CLOCK_SKEW_SECONDS: Final = 300.0
"""How far the server's clock, which expires sums, may be ahead of ours."""
_LAST_START: Final = END_OF_TIME - 1 - RETENTION["month"]
"""Later months may have no end that `datetime` supports."""

Cell = tuple[str, str, int]
"""The key and the field of a sum, and its expiry in Unix seconds."""

_encode: Final = msgspec.json.Encoder().encode
_decode: Final = msgspec.json.Decoder(tuple[str, ...]).decode


def cells_of(call: Call) -> tuple[Cell, ...]:
    """Return the sums that a call is added to."""
    hour = int(min(call.started, _LAST_START) // HOUR)
    return _cells(dimensions(call), (dimension(call, "session"), call.model), hour)


@lru_cache(maxsize=10_000)
def _cells(summed_by: tuple[str, ...], by_session: tuple[str, ...], hour: int) -> tuple[Cell, ...]:
    """Return the sums of calls with these dimensions, as in `DIMENSIONS`, in an hour since 1970."""
    cells = []
    for kind, values in zip(DIMENSIONS, (summed_by, by_session), strict=True):
        field = _encode(values).decode()
        for period in WINDOWS:
            span = span_of(period, float(hour * HOUR))
            cells.append((f"{kind}:{period}:{span.start:.0f}", field, int(span.end) + RETENTION[period]))
    return tuple(cells)


def sums_in(kind: str, stored: Mapping[bytes, bytes]) -> list[tuple[dict[str, str], Totals]]:
    """Return the dimensions and the amount of each field of a stored sum.

    Raises:
        ValueError: The sum is damaged.
    """
    sums = []
    for field, value in stored.items():
        name, _, cell = field.decode().partition(" ")
        if name not in Totals.__struct_fields__:
            raise ValueError(f"{name} is not the name of a sum")
        totals = Totals()
        setattr(totals, name, amount(value) if name == "cost_usd" else whole(value))
        sums.append((dict(zip(DIMENSIONS[kind], _decode(cell), strict=True)), totals))
    return sums


def amount(stored: bytes | None) -> float:
    """Return a stored amount, at most the largest integer; 0 if there is none.

    Raises:
        ValueError: It is not an amount.
    """
    number = float(stored or 0)
    if not 0 <= number < math.inf:
        raise ValueError(f"{number} is not an amount")
    return min(number, float(MAX_INTEGER))


def whole(stored: bytes | None) -> int:
    """Return a stored amount as an integer, at most the largest one.

    Raises:
        ValueError: It is not an amount.
    """
    return min(int(amount(stored)), MAX_INTEGER)


def kind_for(names: set[str]) -> str | None:
    """Return the kind of the sums by these dimensions; None if there are none."""
    return next((kind for kind, dimensions in DIMENSIONS.items() if names <= set(dimensions)), None)


def pieces(
    since: float, until: float | None, longest: Window, now: float
) -> Iterator[tuple[float, float, Window | None]]:
    """Split a time into the longest windows that have sums, and the times between them.

    Yields:
        The start, the end and the window of each piece. A piece with no window must be read from the calls.
    """
    end = math.inf if until is None else until
    # Sums of this window and of shorter ones have expired before this moment.
    oldest = span_of(longest, now - RETENTION[longest] + _CLOCK_SKEW_SECONDS).end
    if since < oldest:
        yield since, min(end, oldest), None
    # Calls start after this month only if a clock is wrong.
    horizon = span_of("month", now).end
    yield from _windows(max(since, oldest), min(end, horizon), longest, now)
    if end > horizon:
        yield max(since, horizon), end, None


def _windows(
    begin: float, until: float, longest: Window, now: float
) -> Iterator[tuple[float, float, Window | None]]:
    windows = WINDOWS[WINDOWS.index(longest) :: -1]
    while begin < until:
        for period in windows:
            start, end = span_of(period, begin)
            if start == begin and end <= until:
                alive = end + RETENTION[period] > now + _CLOCK_SKEW_SECONDS
                yield begin, end, period if alive else None
                break
        else:
            end = min(until, span_of("hour", begin).end)
            yield begin, end, None
        begin = end
