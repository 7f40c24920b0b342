"""The sums in the SQLite ledger agree with its calls."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from math import inf
from pathlib import Path
from random import Random
from typing import Any

import pytest

from llm_exporter import Call
from llm_exporter.periods import DAY, HOUR, Window, span_of
from llm_exporter.service.ledger.base import Query, Totals, totals_of
from llm_exporter.service.ledger.sqlite import SqliteLedger
from support.calls import a_call

BEGIN = 1_709_164_800.0
"""2024-02-29, midnight UTC: the next day starts a month."""


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[SqliteLedger]:
    ledger = SqliteLedger(tmp_path / "ledger.db")
    yield ledger
    ledger.close()


def some_calls(chance: Random, number: int) -> list[Call]:
    """Return calls on three days, some of them on boundaries. Their costs add up without rounding errors."""
    starts = [BEGIN, BEGIN + HOUR, BEGIN + DAY, BEGIN + 3 * DAY - 1 / 4]
    starts += [BEGIN + chance.randrange(3 * DAY * 4) / 4 for _ in range(number - len(starts))]
    return [
        a_call(
            started=started,
            model=chance.choice(["gpt-5", "gpt-4o"]),
            labels={
                "agent": chance.choice("abc"),
                "session": chance.choice("st"),
                "team": chance.choice(["red", "blue"]),
                "tier": chance.choice(["gold", "none"]),
                "user": f"u{chance.randrange(9)}",
            },
            error=chance.choice([None, "timeout"]),
            approximated=chance.choice([{}, {"tier": 120}, {"modality": 20, "lifetime": 10}]),
        )
        for started in starts
    ]


def label(call: Call, name: str) -> str:
    return str(getattr(call, name, None) or call.labels[name])


def expected(calls: list[Call], query: Query, by: tuple[str, ...], period: Window | None) -> Any:
    """Return the totals of the calls themselves."""
    groups: dict[Any, Totals] = {}
    for call in calls:
        since, until = query.since or 0.0, inf if query.until is None else query.until
        if not since <= call.started < until:
            continue
        if any(label(call, name) != value for name, value in query.match.items()):
            continue
        key = tuple(label(call, name) for name in by)
        start = span_of(period, call.started).start if period else None
        groups.setdefault((start, key) if period else key, Totals()).add(totals_of(call))
    return groups


TIMES = [
    None,
    BEGIN,
    BEGIN + 1.5,
    BEGIN + HOUR,
    BEGIN + 5.5 * HOUR,
    BEGIN + DAY,
    BEGIN + 1.4 * DAY,
    BEGIN + 2.9 * DAY,
]
GROUPINGS: list[tuple[tuple[str, ...], dict[str, str]]] = [
    ((), {}),
    (("agent", "model"), {}),
    (("model",), {"agent": "a"}),
    (("agent",), {"team": "red"}),
    (("session",), {}),
    (("team",), {}),
    (("tier", "model"), {}),
    (("user",), {"agent": "a"}),
    (("user", "team"), {"tier": "gold"}),
]


def assert_agrees(ledger: SqliteLedger, calls: list[Call], every: int = 1) -> None:
    for since in TIMES[::every]:
        for until in TIMES[::every]:
            for by, match in GROUPINGS:
                query = Query(since=since, until=until, match=match)
                totals = {key: value for key, value in ledger.totals(query, by).items() if value.calls}
                assert totals == expected(calls, query, by, None), query
                for period in ("hour", "day", "month"):
                    assert ledger.periods(query, period, by) == expected(calls, query, by, period), query


def test_sums_agree_with_the_calls(ledger: SqliteLedger, monkeypatch: pytest.MonkeyPatch) -> None:
    """After calls are added, and after some are pruned."""
    chance = Random(17)  # noqa: S311
    old, new = some_calls(chance, 60), some_calls(chance, 60)
    for now, calls in ((100.0, old[:30]), (100.0, old[30:]), (200.0, [*new, *old])):
        monkeypatch.setattr("time.time", lambda now=now: now)
        ledger.add(calls)
    assert_agrees(ledger, [*old, *new])
    ledger.checkpoint([])
    assert ledger.prune(before=150.0) == 60
    assert_agrees(ledger, new)


def test_a_ledger_of_an_older_release_is_migrated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "ledger.db"
    calls = some_calls(Random(18), 60)  # noqa: S311
    for call in calls[:40]:
        call.approximated = {}  # the older release did not know it
    ledger = SqliteLedger(path)
    ledger.add(calls[:40])
    ledger.close()
    with sqlite3.connect(path) as older:
        older.executescript(
            "DROP TABLE sums; DROP TABLE leases; DROP TABLE groups; DROP TABLE backlogs;"
            " ALTER TABLE calls DROP COLUMN approximated_tokens; ALTER TABLE calls DROP COLUMN group_id;"
            " PRAGMA user_version = 2"
        )
    older.close()
    ledger = SqliteLedger(path)
    ledger.add(calls[40:])
    assert_agrees(ledger, calls, every=3)

    monkeypatch.setattr("llm_exporter.service.ledger.sqlite._SLICE_CALLS", 7)
    assert ledger.catch_up() > 0
    assert_agrees(ledger, calls, every=3)
    while ledger.catch_up():
        pass
    assert_agrees(ledger, calls, every=3)
    assert ledger._read("SELECT count(*) FROM sums WHERE group_id = 0") == [(0,)]
    ledger.checkpoint([])
    while ledger.prune(4e9):
        pass
    assert_agrees(ledger, calls[-1:], every=3)
    ledger.close()


def test_labels_with_too_many_values_are_read_from_the_calls(
    ledger: SqliteLedger, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The number of sums is bounded, and reports agree with the calls nevertheless."""
    monkeypatch.setattr("llm_exporter.service.ledger.sqlite_groups._MAX_GROUPS", 12)
    calls = some_calls(Random(19), 120)  # noqa: S311
    ledger.add(calls[:60])
    ledger.add(calls[60:])
    assert_agrees(ledger, calls, every=3)
    groups = [labels for (labels,) in ledger._read("SELECT labels FROM groups")]
    assert len(groups) < 20
    assert '{"team":"red","tier":"gold","user":null}' in groups


def test_names_of_labels_without_end_are_bounded_too(
    ledger: SqliteLedger, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("llm_exporter.service.ledger.sqlite_groups._MAX_GROUPS", 5)
    monkeypatch.setattr("llm_exporter.service.ledger.sqlite_groups._MAX_OMITTED", 5)
    ledger.add([a_call(labels={f"name{number}": "x"}) for number in range(200)])

    assert ledger._read("SELECT count(*) < 50 FROM groups") == [(1,)]
    assert ledger.totals(Query(), ["name7"])["x",].calls == 1
    assert ledger.totals(Query(), ["name199"])["x",].calls == 1


def test_the_session_without_a_name_is_read_from_sums(ledger: SqliteLedger) -> None:
    """Also after a reset, and in an hour that has calls before and after it."""
    calls = [a_call(started=BEGIN + number, labels={"team": "red"}) for number in range(9)]
    ledger.add([*calls[:3], a_call(started=BEGIN, labels={"session": "s"})])
    query = Query(session="default")
    assert ledger.totals(query)[()].calls == 3
    ledger.reset_session("default")
    assert ledger.totals(query) == {}
    ledger.add(calls[3:])
    assert ledger.totals(query, ["team"])["red",].calls == 6
    assert ledger.totals(Query(session="default", since=BEGIN + 5))[()].calls == 4
    assert ledger.totals(Query())[()].calls == 10
