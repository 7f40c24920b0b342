"""The reports of the REST API, the live page and `llm-exporter report`."""

from __future__ import annotations

import csv
import io
import json
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from heapq import merge
from itertools import islice
from typing import Any, Final, TypeVar

import msgspec

from ..call import Call
from ..harmless import csv_cell
from ..periods import RETENTION, Step, Window, span_of
from .ledger.base import Ledger, Logged, Query, Totals, totals_of
from .requests import Problem, rfc3339
from .schemas import (
    REPORT_BY,
    AgentTotals,
    CallPage,
    CallRow,
    CostReport,
    ModelTotals,
    PhaseTotals,
    ProviderTotals,
    UsagePeriod,
)

MAX_SEARCHED: Final = 10_000
"""Calls that a search reads for one page."""
_READ: Final = 1000
"""Calls that it reads at a time."""

_SORTED: Final = 5000
"""Rows that are sorted at a time."""

_Row = TypeVar("_Row")
_Item = TypeVar("_Item")
_Groups = Mapping[tuple[str, ...], Totals]
_Periods = Mapping[tuple[float, tuple[str, ...]], Totals]


def cost(ledger: Ledger, query: Query, by: Sequence[str] = ()) -> dict[str, Any]:
    """Return a `CostReport` as JSON, with `by_<label>` for each further label.

    A query with neither session nor time selects the current session: that of the latest call.

    Raises:
        Problem: 404 if the session has no calls.
    """
    if query.session is not None:
        if ledger.session(query.session) is None:
            raise no_calls(query.session)
    elif query.since is None and query.until is None:
        query = msgspec.structs.replace(query, session=ledger.session(None))
    dimensions = list(dict.fromkeys([*REPORT_BY, *by]))
    groups = ledger.totals(query, dimensions)
    rows = {name: _by_cost(groups, number) for number, name in enumerate(dimensions)}
    report = CostReport(
        query.session,
        None if query.since is None else rfc3339(query.since),
        None if query.until is None else rfc3339(query.until),
        **_sum(groups.values()),
        by_model=_typed(ModelTotals, rows["model"]),
        by_agent=_typed(AgentTotals, rows["agent"]),
        by_phase=_typed(PhaseTotals, rows["phase"]),
        by_provider=_typed(ProviderTotals, rows["provider"]),
    )
    labels = {
        f"by_{name}": [_row({name: value}, totals) for value, totals in rows[name]]
        for name in dimensions
        if name not in REPORT_BY
    }
    return {**msgspec.to_builtins(report), **labels}


def no_calls(session: str) -> Problem:
    """Return the error for a session that has no calls."""
    return Problem(404, f"session {session!r} has no calls")


def usage(ledger: Ledger, query: Query, period: Window) -> list[UsagePeriod]:
    """Return the usage of each UTC hour, day or month that has calls, in total and by model."""
    if query.since is None:
        query = msgspec.structs.replace(query, since=time.time() - RETENTION[period])
    by_start: dict[float, dict[tuple[str, ...], Totals]] = {}
    for (start, key), totals in ledger.periods(query, period, ["model"]).items():
        by_start.setdefault(start, {})[key] = totals
    return [
        UsagePeriod(
            rfc3339(start),
            rfc3339(span_of(period, start).end),
            **_sum(groups.values()),
            by_model=_typed(ModelTotals, _by_cost(groups, 0)),
        )
        for start, groups in sorted(by_start.items())
    ]


def rows(
    ledger: Ledger, query: Query, by: Sequence[str], period: Step | None = None, top: int | None = None
) -> list[dict[str, Any]]:
    """Return totals for each combination of the dimensions, and for each UTC period if there is one.

    The earliest period comes first, and within it the highest cost.

    Args:
        ledger: Has the calls.
        query: Selects the calls.
        by: The dimensions.
        period: The length of the periods; None for a single total.
        top: Only this number of combinations: those that cost most in all periods together. The others are
            summed up in rows that come last, and whose dimensions are None.
    """
    groups: _Periods
    if period is None:
        groups = {(0.0, key): totals for key, totals in ledger.totals(query, by).items()}
    else:
        groups = ledger.periods(query, period, by)
    others: dict[float, Totals] = {}
    if top is not None:
        groups, others = _most_expensive(groups, top)
    ranked = _sorted(groups.items(), key=lambda group: (group[0][0], -group[1].cost_usd, group[0][1]))
    named = [(start, dict[str, str | None](zip(by, key, strict=True)), one) for (start, key), one in ranked]
    summed_up = [(start, dict.fromkeys(by), one) for start, one in others.items()]
    return [
        _row({**({period: rfc3339(start)} if period else {}), **dimensions}, totals)
        for start, dimensions, totals in _sorted([*named, *summed_up], key=lambda row: row[0])
    ]


def _most_expensive(groups: _Periods, top: int) -> tuple[_Periods, dict[float, Totals]]:
    """Return the groups of the most expensive keys, and the totals of the others by period."""
    by_key: dict[tuple[str, ...], Totals] = {}
    for (_, key), totals in groups.items():
        by_key.setdefault(key, Totals()).add(totals)
    ranked = _sorted(by_key.items(), key=lambda group: (-group[1].cost_usd, -group[1].calls, group[0]))
    kept = {key for key, _ in ranked[:top]}
    others: dict[float, Totals] = {}
    for (start, key), totals in groups.items():
        if key not in kept:
            others.setdefault(start, Totals()).add(totals)
    return {group: totals for group, totals in groups.items() if group[1] in kept}, others


def _sorted(items: Iterable[_Item], key: Callable[[_Item], Any]) -> list[_Item]:
    """Return items in order. All other threads wait for a sort, so only a slice is sorted at a time."""
    remaining = iter(items)
    slices = iter(lambda: sorted(islice(remaining, _SORTED), key=key), [])
    return list(merge(*slices, key=key))


def fields(totals: Totals) -> dict[str, Any]:
    """Return totals as JSON has them."""
    return {**msgspec.structs.asdict(totals), "cost_usd": without_noise(totals.cost_usd)}


def without_noise(usd: float) -> float:
    """Return a sum without the last digits, which are rounding errors of its additions.

    Twelve digits remain: a sum is exact to the cent below ten billion dollars.
    """
    return float(f"{usd:.12g}")


def _sum(groups: Iterable[Totals]) -> dict[str, Any]:
    total = Totals()
    for totals in groups:
        total.add(totals)
    return fields(total)


def _by_cost(groups: _Groups, dimension: int) -> list[tuple[str, Totals]]:
    """Return the values of a dimension and their totals, most expensive first."""
    values: dict[str, Totals] = {}
    for key, totals in groups.items():
        values.setdefault(key[dimension], Totals()).add(totals)
    return _sorted(values.items(), key=lambda value: (-value[1].cost_usd, -value[1].calls, value[0]))


def _typed(row: Callable[..., _Row], values: Iterable[tuple[str, Totals]]) -> list[_Row]:
    return [row(value, **fields(totals)) for value, totals in values]


def _row(dimensions: Mapping[str, str | None], totals: Totals) -> dict[str, Any]:
    return {**dimensions, **fields(totals)}


def search(
    ledger: Ledger, query: Query, wanted: Callable[[Call], bool], *, limit: int, before: int | None
) -> CallPage:
    """Return the newest calls that are wanted, at most `limit`, among the next `MAX_SEARCHED` calls.

    A page may thus have few calls or none although there are more: `next` is null only if all were read.
    """
    found: list[Logged] = []
    for _ in range(MAX_SEARCHED // _READ):
        batch = ledger.calls(query, limit=_READ, before=before)
        if not batch:
            return CallPage([*map(call_row, found)], None)
        for logged in batch:
            before = logged.position
            if wanted(logged.call):
                found.append(logged)
            if len(found) == limit:
                break
        if len(found) == limit:
            break
    return CallPage([*map(call_row, found)], before)


def mentions(call: Call, text: str) -> bool:
    """Return whether a call has a text in its id, names, error or labels (`name:value`), in any case."""
    labels = (f"{name}:{value}" for name, value in call.labels.items())
    texts = (call.id, call.provider, call.model, call.operation, call.route, call.error or "", *labels)
    return any(text.casefold() in one.casefold() for one in texts)


def call_page(calls: Sequence[Logged], limit: int) -> CallPage:
    """Return a page of calls of at most `limit`."""
    return CallPage([*map(call_row, calls)], calls[-1].position if len(calls) == limit else None)


def call_row(logged: Logged) -> CallRow:
    """Return a call as the API shows it."""
    call = logged.call
    totals = totals_of(call)
    return CallRow(
        **msgspec.structs.asdict(call),
        position=logged.position,
        agent=call.agent,
        phase=call.phase,
        cost_usd=without_noise(totals.cost_usd),
        input_tokens=totals.input_tokens,
        output_tokens=totals.output_tokens,
        approximated_tokens=totals.approximated_tokens,
    )


_CSV_COLUMNS: Final = (
    *("id", "started", "provider", "model", "operation", "agent", "phase", "project", "session"),
    *("input_tokens", "output_tokens", "cost_usd", "cost_source", "duration", "time_to_first_token", "error"),
    *("estimated", "stream", "service_tier", "batch", "tokens", "cost", "labels"),
    *("approximated", "region", "route"),
)


def csv_lines(calls: Iterable[Mapping[str, Any]]) -> Iterator[str]:
    """Yield calls as CSV (RFC 4180) with a header line. Tokens, cost, labels and `approximated` are JSON.

    A text that a spreadsheet would take for a formula has an apostrophe before it.

    Args:
        calls: Each a `CallRow` as JSON. A service of an older release omits newer fields.
    """
    yield _csv_line(_CSV_COLUMNS)
    for call in calls:
        cells = {
            **call,
            "started": rfc3339(call["started"]),
            "project": call["labels"].get("project", ""),
            "session": call["labels"].get("session", ""),
        }
        yield _csv_line([_cell(cells.get(name)) for name in _CSV_COLUMNS])


def _cell(value: object) -> object:
    if isinstance(value, dict):
        return json.dumps(value, sort_keys=True)
    return csv_cell(value) if isinstance(value, str) else value


def _csv_line(cells: Sequence[object]) -> str:
    out = io.StringIO()
    csv.writer(out).writerow(cells)
    return out.getvalue()
