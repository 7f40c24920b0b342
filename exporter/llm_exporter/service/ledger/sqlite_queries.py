"""The SQL of reports on an SQLite ledger."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from math import ceil, inf
from typing import Any, Final, NamedTuple

import msgspec

from ...call import UNATTRIBUTED
from ...periods import DAY, END_OF_TIME, HOUR, MINUTE, Period, Step, Window, span_of
from .base import DEFAULT, MAX_INTEGER, SUMMED_BY, Query, Totals
from .sqlite_groups import ALL_OMITTED

COLUMNS: Final = (*SUMMED_BY, "session")
"""The dimensions that have a column in `calls`."""
SPANS: Final = (DAY, HOUR)
"""The lengths of the spans in `sums`, longest first."""
TOTALS: Final = Totals.__struct_fields__
_SUMS: Final = TOTALS[1:]
"""The totals that have a column in `calls`, where each row is one call."""

_KEY: Final = f"started, {', '.join(SUMMED_BY)}, group_id"
_BETWEEN: Final = "started >= ? AND started < ?"

_LAST_HOUR: Final = END_OF_TIME // HOUR - 24 * 32
"""Later periods may have no end that `datetime` supports."""


@lru_cache(maxsize=100_000)  # hours of a decade: SQLite calls it for every row of a report
def start_of(window: Window, hour: int) -> float:
    """Return the start of the window that an hour is in; hours are counted from 1970."""
    return span_of(window, min(max(hour, 0), _LAST_HOUR) * HOUR).start


def _total(name: str) -> str:
    """Return the SQL that sums up a column. `sum` would fail beyond the largest integer."""
    return f"total({name})" if name == "cost_usd" else f"CAST(total({name}) AS INTEGER)"


def _added_to_sums(rows: str, changes: str) -> str:
    columns = f"span, {_KEY}"
    return (
        f"INSERT INTO sums ({columns}, {', '.join(TOTALS)}) {rows}"
        f" ON CONFLICT ({columns}) DO UPDATE SET"
        f" {', '.join(f'{name} = {changes.format(name)}' for name in TOTALS)}"
    )


def _changed(sign: str, changes: str) -> str:
    rows = (
        f"SELECT {{span}}, CAST(started AS INTEGER) / {{span}} * {{span}}, {', '.join(SUMMED_BY)}, group_id,"  # noqa: S608
        f" {sign}count(*), {', '.join(sign + _total(name) for name in _SUMS)}"
        f" FROM calls WHERE {{condition}} GROUP BY {', '.join(map(str, range(1, len(SUMMED_BY) + 4)))}"
    )
    return _added_to_sums(rows, changes)


_INCREASED: Final = f"min({{0}} + excluded.{{0}}, {MAX_INTEGER})"
ADD: Final = _added_to_sums(f"VALUES ({', '.join('?' * (3 + len(SUMMED_BY) + len(TOTALS)))})", _INCREASED)
"""Adds an amount to a sum."""
ADD_UP: Final = _changed("", _INCREASED)
"""Adds the selected calls to the sums of one span."""
TAKE_OFF: Final = _changed("-", "max({0} + excluded.{0}, 0)")
"""Takes the selected calls off the sums of one span. Sums of no calls are left to delete."""


def start_in_sql(period: Period | Step) -> str:
    """Return the SQL of the start of the period that a row is in; 0 for all time."""
    if period == "minute":
        return f"CAST(started / {MINUTE} AS INTEGER) * {MINUTE}"
    return "0" if period == "total" else f"start_of('{period}', CAST(started / {HOUR} AS INTEGER))"


class Statement(NamedTuple):
    """SQL and its parameters."""

    sql: str
    parameters: list[Any]


def report(query: Query, period: Step | None, by: Sequence[str]) -> Statement | None:
    """Return the statement for totals by period and dimensions; None if the query selects no time.

    Each row has the start of the period (0 for no period), the dimensions and the totals.
    """
    names = [name for name in dict.fromkeys([*by, *query.match]) if name not in SUMMED_BY]
    source: Statement | None = Statement("SELECT *, 1 AS calls FROM calls", [])
    labels: dict[str, str] = {}
    if "session" not in names and query.session in (None, DEFAULT):
        spans = {"minute": (), "hour": (HOUR,)}.get(period or "", SPANS)
        since = -inf if query.since is None else query.since
        until = inf if query.until is None else query.until
        if names or query.session:
            labels = {name: f"label{number}" for number, name in enumerate(names)}
            source = labelled(since, until, spans, names, of_default_session=query.session is not None)
        else:
            source = union(parts(since, until, spans))
        query = msgspec.structs.replace(query, since=None, until=None, session=None)
    if source is None:
        return None
    condition = where(query, labels)
    keys = [_column(name, labels) for name in by]
    start = start_in_sql(period) if period else "0"
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


def union(parts: Iterable[Statement]) -> Statement | None:
    """Return the statement for all rows of some statements; None if there are none."""
    if not (parts := list(parts)):
        return None
    return Statement(
        " UNION ALL ".join(sql for sql, _ in parts), [value for _, values in parts for value in values]
    )


def parts(since: float, until: float, spans: Sequence[int]) -> Iterator[Statement]:
    """Yield the parts of a time: sums of whole days and whole hours, and the calls around them.

    A month has a hundred times fewer sums than calls.
    """
    for span, first, last in pieces(since, until, spans):
        source, calls, condition = "sums", "calls", f"span = {span} AND "
        if not span:
            source, calls, condition = "calls", "1 AS calls", ""
        yield Statement(
            f"SELECT {_KEY}, {calls}, {', '.join(_SUMS)} FROM {source} WHERE {condition}{_BETWEEN}",  # noqa: S608
            [first, last],
        )


def pieces(since: float, until: float, spans: Sequence[int]) -> Iterator[tuple[int, float, float]]:
    """Split a time into the times that sums of each span cover, and those that none covers (a span of 0)."""
    if since >= until:
        return
    if not spans:
        yield 0, since, until
        return
    span, *shorter = spans
    first = since if since == -inf else ceil(since / span) * span
    last = until if until == inf else until // span * span
    if first >= last:
        yield from pieces(since, until, shorter)
        return
    yield span, first, last
    yield from pieces(since, first, shorter)
    yield from pieces(last, until, shorter)


def where(query: Query, labels: Mapping[str, str] = {}) -> Statement:
    """Return the condition that a query stands for, given the columns of labels."""
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
        column = _column(name, labels)
        add(f"{column.sql} = ?", *column.parameters, value)
    return Statement(" AND ".join(conditions), parameters)


def _column(name: str, labels: Mapping[str, str]) -> Statement:
    """Return the SQL of a dimension. The names of labels are parameters, because users choose them."""
    if name in COLUMNS:
        return Statement(name, [])
    return Statement(labels[name], []) if name in labels else Statement(label_in_call(), [name])


def label_in_call() -> str:
    """Return the SQL of the label whose name is a parameter. A call that is not JSON has no labels."""
    return "label_of(call, ?)"


class _Labelled(msgspec.Struct):
    labels: dict[str, str] = {}


_decode_labels: Final = msgspec.json.Decoder(_Labelled).decode


def label_of(call: str, name: str) -> str:
    """Return a label of a stored call. It is several times faster than SQLite's functions for JSON."""
    try:
        return _decode_labels(call).labels.get(name) or UNATTRIBUTED
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        return UNATTRIBUTED


def labelled(
    since: float, until: float, spans: Sequence[int], names: Sequence[str], *, of_default_session: bool
) -> Statement | None:
    """Return the statement for sums and calls with labels, as columns `label0` and so on.

    Sums of groups whose labels are unknown are replaced by those of shorter spans, or by the calls.
    """
    columns = f"{', '.join(SUMMED_BY)}{''.join(f', label{number}' for number in range(len(names)))}"
    of_group = f"coalesce(nullif((SELECT value FROM json_each(labels) WHERE key = ?), ''), '{UNATTRIBUTED}')"  # noqa: S608
    of_groups = "".join(f", {of_group} AS label{number}" for number in range(len(names)))
    of_calls = ", ".join(
        [*SUMMED_BY, *(f"{label_in_call()} AS label{number}" for number in range(len(names)))]
    )
    one = f"1 AS calls, {', '.join(_SUMS)}"
    reset = f"coalesce((SELECT position FROM resets WHERE session = '{DEFAULT}'), 0)"  # noqa: S608
    groups, calls = ("1", "1")
    if of_default_session:
        groups, calls = f"reset = {reset}", f"session = '{DEFAULT}' AND position > {reset}"
    unknown = "id = 0"
    if names:
        marks = ", ".join("?" * len(names))
        unknown = (
            f"labels = '{ALL_OMITTED}' OR EXISTS"  # noqa: S608  # marks only
            f" (SELECT 1 FROM json_each(labels) WHERE key IN ({marks}) AND type = 'null')"
        )
    named = f"named AS MATERIALIZED (SELECT id, reset, {unknown} AS unknown{of_groups} FROM groups)"  # noqa: S608
    gaps = (
        "gaps AS MATERIALIZED (SELECT DISTINCT sums.span AS gap_span, sums.started AS gap FROM named"
        " CROSS JOIN sums INDEXED BY sums_of_group ON group_id = id"
        " AND span IN (86400, 3600) AND started >= ? AND started < ? WHERE unknown)"
    )

    def of_sums(span: int, first: float, last: float) -> Iterator[Statement]:
        yield Statement(
            f"SELECT started, {columns}, {', '.join(TOTALS)} FROM sums JOIN named ON id = group_id"  # noqa: S608
            f" WHERE span = {span} AND {_BETWEEN} AND {groups}"
            f" AND started NOT IN (SELECT gap FROM gaps WHERE gap_span = {span})",
            [first, last],
        )
        if span == DAY:
            yield Statement(
                f"SELECT started, {columns}, {', '.join(TOTALS)} FROM gaps CROSS JOIN sums"  # noqa: S608
                f" ON span = {HOUR} AND started >= gap AND started < gap + {DAY} JOIN named ON id = group_id"
                f" WHERE gap_span = {DAY} AND gap >= ? AND gap < ? AND {groups}"
                f" AND started NOT IN (SELECT gap FROM gaps WHERE gap_span = {HOUR})",
                [first, last],
            )
        yield Statement(
            f"SELECT started, {of_calls}, {one} FROM gaps CROSS JOIN calls INDEXED BY calls_by_start"  # noqa: S608
            f" ON started >= gap AND started < gap + {HOUR}"
            f" WHERE gap_span = {HOUR} AND gap >= ? AND gap < ? AND {calls}",
            [*names, first, last],
        )

    def of_span(first: float, last: float) -> Iterator[Statement]:
        yield Statement(
            f"SELECT started, {of_calls}, {one} FROM calls WHERE {_BETWEEN} AND {calls}",  # noqa: S608
            [*names, first, last],
        )

    all_parts = union(
        statement
        for span, first, last in pieces(since, until, spans)
        for statement in (of_sums(span, first, last) if span else of_span(first, last))
    )
    if all_parts is None:
        return None
    return Statement(
        f"WITH {named}, {gaps} {all_parts.sql}",
        [*names, *names, since - DAY, until, *all_parts.parameters],
    )
