"""The reports of the REST API, the live page and `llm-exporter report`."""

from __future__ import annotations

import csv
import io
import json
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Final, TypeVar

import msgspec

from ..harmless import csv_cell
from ..periods import RETENTION, Window, span_of
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

_Row = TypeVar("_Row")
_Groups = Mapping[tuple[str, ...], Totals]


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
    ledger: Ledger, query: Query, by: Sequence[str], period: Window | None = None
) -> list[dict[str, Any]]:
    """Return totals for each combination of the dimensions, and for each UTC period if there is one.

    The earliest period comes first, and within it the highest cost.
    """
    if period is None:
        groups = {(0.0, key): totals for key, totals in ledger.totals(query, by).items()}
    else:
        groups = ledger.periods(query, period, by)
    ranked = sorted(groups.items(), key=lambda group: (group[0][0], -group[1].cost_usd, group[0][1]))
    return [
        _row({**({period: rfc3339(start)} if period else {}), **dict(zip(by, key, strict=True))}, totals)
        for (start, key), totals in ranked
    ]


def _sum(groups: Iterable[Totals]) -> dict[str, Any]:
    total = Totals()
    for totals in groups:
        total.add(totals)
    return msgspec.structs.asdict(total)


def _by_cost(groups: _Groups, dimension: int) -> list[tuple[str, Totals]]:
    """Return the values of a dimension and their totals, most expensive first."""
    values: dict[str, Totals] = {}
    for key, totals in groups.items():
        values.setdefault(key[dimension], Totals()).add(totals)
    return sorted(values.items(), key=lambda value: (-value[1].cost_usd, -value[1].calls, value[0]))


def _typed(row: Callable[..., _Row], values: Iterable[tuple[str, Totals]]) -> list[_Row]:
    return [row(value, **msgspec.structs.asdict(totals)) for value, totals in values]


def _row(dimensions: Mapping[str, str], totals: Totals) -> dict[str, Any]:
    return {**dimensions, **msgspec.structs.asdict(totals)}


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
        cost_usd=totals.cost_usd,
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
