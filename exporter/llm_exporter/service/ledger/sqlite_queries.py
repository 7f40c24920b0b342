"""The SQL of reports on an SQLite ledger."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import lru_cache
from math import ceil, inf
from typing import Any, Final, NamedTuple

import msgspec

from ...call import UNATTRIBUTED
from ...periods import DAY, END_OF_TIME, HOUR, Window, span_of
from .base import SUMMED_BY, Query, Totals

COLUMNS: Final = (*SUMMED_BY, "session")
"""The dimensions that have a column in `calls`."""
SPANS: Final = (DAY, HOUR)
"""The lengths of the spans in `sums`, longest first."""
TOTALS: Final = Totals.__struct_fields__
_SUMS: Final = TOTALS[1:]
"""The totals that have a column in `calls`, where each row is one call."""

_KEY: Final = f"started, {', '.join(SUMMED_BY)}"
_BETWEEN: Final = "started >= ? AND started < ?"

MAX_INTEGER: Final = 2**63 - 1
"""The largest integer of SQLite. Sums stop there."""
_LAST_HOUR: Final = END_OF_TIME // HOUR - 24 * 32
"""Later periods may have no end that `datetime` supports."""


@lru_cache(maxsize=100_000)  # hours of a decade: SQLite calls it for every row of a report
def start_of(window: Window, hour: int) -> float:
    """Return the start of the window that an hour is in; hours are counted from 1970."""
    return span_of(window, min(max(hour, 0), _LAST_HOUR) * HOUR).start


def _total(name: str) -> str:
    """Return the SQL that sums up a column. `sum` would fail beyond the largest integer."""
    return f"total({name})" if name == "cost_usd" else f"CAST(total({name}) AS INTEGER)"


def _changed(sign: str, changes: str) -> str:
    return (
        "INSERT INTO sums SELECT {span}, CAST(started AS INTEGER) / {span} * {span},"  # noqa: S608  # names only
        f" {', '.join(SUMMED_BY)}, {sign}count(*), {', '.join(sign + _total(name) for name in _SUMS)}"
        f" FROM calls WHERE {{condition}} GROUP BY {', '.join(map(str, range(1, len(SUMMED_BY) + 3)))}"
        f" ON CONFLICT (span, {_KEY}) DO UPDATE SET"
        f" {', '.join(f'{name} = {changes.format(name)}' for name in TOTALS)}"
    )


ADD_UP: Final = _changed("", f"min({{0}} + excluded.{{0}}, {MAX_INTEGER})")
"""Adds the selected calls to the sums of one span."""
TAKE_OFF: Final = _changed("-", "max({0} + excluded.{0}, 0)")
"""Takes the selected calls off the sums of one span. Sums of no calls are left to delete."""


class Statement(NamedTuple):
    """SQL and its parameters."""

    sql: str
    parameters: list[Any]


def report(query: Query, period: Window | None, by: Sequence[str]) -> Statement | None:
    """Return the statement for totals by period and dimensions; None if the query selects no time.

    Each row has the start of the period (0 for no period), the dimensions and the totals.
    """
    source = Statement("SELECT *, 1 AS calls FROM calls", [])
    if query.session is None and {*by, *query.match} <= {*SUMMED_BY}:
        since = -inf if query.since is None else query.since
        until = inf if query.until is None else query.until
        parts = [*_parts(since, until, (HOUR,) if period == "hour" else SPANS)]
        if not parts:
            return None
        source = Statement(
            " UNION ALL ".join(sql for sql, _ in parts), [bound for _, bounds in parts for bound in bounds]
        )
        query = msgspec.structs.replace(query, since=None, until=None)
    condition = where(query)
    keys = [_column(name) for name in by]
    start = f"start_of('{period}', CAST(started / {HOUR} AS INTEGER))" if period else "0"
    columns = [start, *(key.sql for key in keys), *(_total(name) for name in TOTALS)]
    groups = ", ".join(str(number) for number in range(1, 2 + len(by)))
    return Statement(
        f"SELECT {', '.join(columns)} FROM ({source.sql}) WHERE {condition.sql}"  # noqa: S608
        f" GROUP BY {groups} ORDER BY {groups}",
        [
            *(parameter for key in keys for parameter in key.parameters),
            *source.parameters,
            *condition.parameters,
        ],
    )


def _parts(since: float, until: float, spans: Sequence[int]) -> Iterator[Statement]:
    """Yield the parts of a time: whole days, whole hours, and the calls around them.

    A month has a hundred times fewer sums than calls.
    """
    if since >= until:
        return
    if not spans:
        yield Statement(
            f"SELECT {_KEY}, 1 AS calls, {', '.join(_SUMS)} FROM calls WHERE {_BETWEEN}",  # noqa: S608
            [since, until],
        )
        return
    span, *shorter = spans
    first = since if since == -inf else ceil(since / span) * span
    last = until if until == inf else until // span * span
    if first >= last:
        yield from _parts(since, until, shorter)
        return
    yield Statement(
        f"SELECT {_KEY}, {', '.join(TOTALS)} FROM sums WHERE span = {span} AND {_BETWEEN}",  # noqa: S608
        [first, last],
    )
    yield from _parts(since, first, shorter)
    yield from _parts(last, until, shorter)


def where(query: Query) -> Statement:
    """Return the condition that a query stands for."""
    conditions = ["1"]
    parameters: list[Any] = []

    def add(condition: str, *values: Any) -> None:
        conditions.append(condition)
        parameters.extend(values)

    if query.since is not None:
        add("started >= ?", query.since)
    if query.until is not None:
        add("started < ?", query.until)
    if query.session is not None:
        add(
            "session = ? AND position > coalesce((SELECT position FROM resets WHERE session = ?), 0)",
            query.session,
            query.session,
        )
    for name, value in query.match.items():
        column = _column(name)
        add(f"{column.sql} = ?", *column.parameters, value)
    return Statement(" AND ".join(conditions), parameters)


def _column(name: str) -> Statement:
    """Return the SQL of a dimension. The names of labels are parameters, because users choose them."""
    if name in COLUMNS:
        return Statement(name, [])
    # A call that is not JSON has no labels.
    call = "CASE WHEN json_valid(call) THEN call END"
    value = f"(SELECT value FROM json_each({call}, '$.labels') WHERE key = ?)"  # noqa: S608
    return Statement(f"coalesce(nullif({value}, ''), '{UNATTRIBUTED}')", [name])
