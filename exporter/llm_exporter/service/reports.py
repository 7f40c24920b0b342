"""Who spent what: the answers of the REST API, of the live page and of `llm-exporter report`."""

from __future__ import annotations

import csv
import io
import json
import time
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import msgspec

from .ledger.base import Ledger, Logged, Period, Query, Totals, totals_of
from .requests import Problem, rfc3339

ALWAYS_BY: Final = ("model", "agent", "phase", "provider")
"""The dimensions that costs are always told by."""

_KEPT: Final[dict[Period, timedelta]] = {
    "hour": timedelta(hours=24),
    "day": timedelta(days=30),
    "month": timedelta(days=365),
}
"""How far back a report by periods goes when it is not told."""


def cost(ledger: Ledger, query: Query, by: Sequence[str] = ()) -> dict[str, Any]:
    """Return what calls cost, in all and by each dimension, the most expensive first.

    A query for no session and no time is one for the current session: that of the latest call.

    Raises:
        Problem: 404 for a session that has no calls.
    """
    if query.session is not None:
        if ledger.session(query.session) is None:
            raise Problem(404, f"no call of session {query.session!r} is known")
    elif query.since is None and query.until is None:
        query = msgspec.structs.replace(query, session=ledger.session(None))
    dimensions = list(dict.fromkeys([*ALWAYS_BY, *by]))
    together = ledger.totals(query, dimensions)
    total = Totals()
    for totals in together.values():
        total.add(totals)
    answer: dict[str, Any] = {
        "session": query.session,
        "since": rfc3339(query.since),
        "until": rfc3339(query.until),
        **msgspec.to_builtins(total),
    }
    for number, name in enumerate(dimensions):
        answer[f"by_{name}"] = _ranked(name, number, together)
    return answer


def _ranked(name: str, number: int, together: dict[tuple[str, ...], Totals]) -> list[dict[str, Any]]:
    groups: dict[str, Totals] = {}
    for key, totals in together.items():
        groups.setdefault(key[number], Totals()).add(totals)
    ranked = sorted(groups.items(), key=lambda group: (-group[1].cost_usd, -group[1].calls, group[0]))
    return [{name: value, **msgspec.to_builtins(totals)} for value, totals in ranked]


def usage(ledger: Ledger, query: Query, period: Period) -> list[dict[str, Any]]:
    """Return what calls came to by UTC hour, day or month with its boundaries, in all and by model."""
    if query.since is None:
        query = msgspec.structs.replace(query, since=time.time() - _KEPT[period].total_seconds())
    by_model = ledger.periods(query, period, ["model"])
    answer = []
    for start in sorted({start for start, _ in by_model}):
        models = {key: totals for (begun, key), totals in by_model.items() if begun == start}
        total = Totals()
        for totals in models.values():
            total.add(totals)
        answer.append(
            {
                "start": rfc3339(start),
                "end": rfc3339(end_of(start, period)),
                **msgspec.to_builtins(total),
                "by_model": _ranked("model", 0, models),
            }
        )
    return answer


def rows(
    ledger: Ledger, query: Query, by: Sequence[str], period: Period | None = None
) -> list[dict[str, Any]]:
    """Return what calls came to by all of some dimensions together, and by UTC period if there is one.

    The earliest period comes first, and in it who spent the most.
    """
    if period is None:
        groups = {(0.0, key): totals for key, totals in ledger.totals(query, by).items()}
    else:
        groups = ledger.periods(query, period, by)
    ranked = sorted(groups.items(), key=lambda group: (group[0][0], -group[1].cost_usd, group[0][1]))
    return [
        {
            **({period: rfc3339(start)} if period else {}),
            **dict(zip(by, key, strict=True)),
            **msgspec.to_builtins(totals),
        }
        for (start, key), totals in ranked
    ]


def end_of(start: float, period: Period) -> float:
    """Return when a UTC hour, day or month that starts then is over."""
    begun = datetime.fromtimestamp(start, UTC)
    if period == "hour":
        return start + 3600
    if period == "day":
        return start + 86400
    return (begun.replace(day=1) + timedelta(days=32)).replace(day=1).timestamp()


def as_json(logged: Logged) -> dict[str, Any]:
    """Return a call as the API shows it."""
    call = logged.call
    return {
        **msgspec.to_builtins(call),
        "position": logged.position,
        "agent": call.agent,
        "phase": call.phase,
        "cost_usd": call.total_cost,
        "input_tokens": totals_of(call).input_tokens,
        "output_tokens": totals_of(call).output_tokens,
    }


_CSV: Final = (
    *("id", "started", "provider", "model", "operation", "agent", "phase", "project", "session"),
    *("input_tokens", "output_tokens", "cost_usd", "cost_source", "duration", "time_to_first_token", "error"),
    *("estimated", "stream", "service_tier", "batch", "tokens", "cost", "labels"),
)


def csv_lines(calls: Iterable[dict[str, Any]]) -> Iterator[str]:
    """Yield calls as CSV, RFC 4180, with a line of headings; tokens, cost and labels by type are JSON.

    Args:
        calls: as `as_json` returns them.
    """
    yield _csv_line(_CSV)
    for call in calls:
        shown = {
            **call,
            "started": rfc3339(call["started"]),
            "project": call["labels"].get("project", ""),
            "session": call["labels"].get("session", ""),
        }
        yield _csv_line([_cell(shown[name]) for name in _CSV])


def _cell(value: object) -> object:
    return json.dumps(value, sort_keys=True) if isinstance(value, dict) else value


def _csv_line(cells: Sequence[object]) -> str:
    out = io.StringIO()
    csv.writer(out).writerow(cells)
    return out.getvalue()
