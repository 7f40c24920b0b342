"""What a ledger in Redis sums up by period, and how long it keeps it."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import Any

import pytest

from llm_exporter import Call
from llm_exporter.periods import RETENTION, WINDOWS, span_of
from llm_exporter.service.ledger.base import Query, Totals
from llm_exporter.service.ledger.redis import RedisLedger
from llm_exporter.service.ledger.redis_sums import pieces
from support.calls import calls
from support.redis_server import RedisServer


def test_sums_and_sessions_expire(redis: RedisServer) -> None:
    now = time.time()
    RedisLedger(redis.url, "a:1").add(
        [*calls("x", started=now, labels={"session": "s"}), *calls("old", started=now - 3 * 86400)]
    )
    reset = RedisLedger(redis.url, "b:1")
    reset.reset_session("s")

    for kind in ("bucket", "sessions"):
        for period in WINDOWS:
            span = span_of(period, now)
            key = f"llm-exporter:{kind}:{period}:{span.start:.0f}"
            assert redis.execute("EXPIRETIME", key) == int(span.end) + RETENTION[period]
    for key in ("session:s", "session:default", "reset:s"):
        assert 86000 < redis.execute("TTL", f"llm-exporter:{key}") <= 86400
    hours = redis.execute("KEYS", "llm-exporter:bucket:hour:*")
    assert len(hours) == 1, "the sum of three days ago has expired"


def test_an_expired_session_starts_again(redis: RedisServer) -> None:
    ledger = RedisLedger(redis.url, "a:1")
    ledger.add(calls("x", labels={"session": "s"}))
    redis.execute("PEXPIRE", "llm-exporter:session:s", 0)

    assert ledger.session("s") is None
    assert ledger.session(None) is None
    assert ledger.totals(Query(session="s")) == {}
    assert ledger.totals(Query(match={"session": "s"}))[()].calls == 1

    ledger.add(calls("y", labels={"session": "s"}))
    assert ledger.session(None) == "s"
    assert ledger.totals(Query(session="s"))[()].calls == 1


def test_reports_by_period_include_pruned_calls(redis: RedisServer) -> None:
    ledger = RedisLedger(redis.url, "a:1")
    month = span_of("month", time.time()).start
    ledger.add([*calls("x", labels={"project": "acme"}), *calls("y")])
    ledger.checkpoint([])
    assert ledger.prune(time.time() + 60) == 2

    query = Query(since=month, match={"project": "acme"})

    assert ledger.periods(query, "month", ["model"]) == {(month, ("gpt-5",)): Totals(calls=1, cost_usd=0.5)}
    assert ledger.totals(Query(since=month)) == {(): Totals(calls=2, cost_usd=1.0)}


def test_sums_of_costs_are_as_exact_as_floats(redis: RedisServer) -> None:
    ledger = RedisLedger(redis.url, "a:1")
    month = span_of("month", time.time()).start
    prices = [1.23456789012e-06 * number for number in range(1, 1001)]
    for start in range(0, 1000, 100):
        ledger.add(
            [
                Call(
                    id=str(number), provider="p", model="m", operation="chat", cost={"input": prices[number]}
                )
                for number in range(start, start + 100)
            ]
        )

    assert ledger.totals(Query(since=month))[()].cost_usd == pytest.approx(0.617901229005, rel=1e-14)


NOON = datetime(2028, 3, 15, 12, 30, tzinfo=UTC).timestamp()


@pytest.mark.parametrize(
    ("since", "until", "longest", "expected"),
    [
        ("2028-03-15 10:00", "2028-03-15 12:00", "month", ["hour 15 10", "hour 15 11"]),
        ("2028-03-15 10:15", "2028-03-15 12:10", "month", ["calls 15 10", "hour 15 11", "calls 15 12"]),
        ("2028-03-13 00:00", "2028-03-15 00:00", "month", ["day 13 00", "day 14 00"]),
        ("2028-03-14 22:00", "2028-03-15 01:00", "day", ["hour 14 22", "hour 14 23", "hour 15 00"]),
        ("2028-02-01 00:00", "2028-03-02 00:00", "month", ["month 01 00", "day 01 00"]),
        ("2028-02-29 00:00", "2028-03-01 00:00", "month", ["day 29 00"]),
        # The totals of those hours have expired, and those of the day have not.
        ("2028-03-13 22:00", "2028-03-15 00:00", "month", ["calls 13 22", "calls 13 23", "day 14 00"]),
        ("2028-03-14 10:00", "2028-03-14 14:00", "hour", ["calls 14 10", "hour 14 13"]),
        (
            "2028-03-15 12:00",
            None,
            "hour",
            [*(f"hour {at // 24 + 15} {at % 24:02}" for at in range(12, 408))],
        ),
    ],
)
def test_a_time_is_split_into_the_periods_that_have_sums(
    since: str, until: str | None, longest: Any, expected: list[str]
) -> None:
    def moment(text: str | None) -> float | None:
        return None if text is None else datetime.fromisoformat(f"{text}+00:00").timestamp()

    cut = list(pieces(moment(since) or 0.0, moment(until), longest, NOON))
    if until is None:
        *cut, (begin, end, period) = cut
        assert (begin, end, period) == (span_of("month", NOON).end, float("inf"), None)

    assert [
        f"{period or 'calls'} {datetime.fromtimestamp(begin, UTC):%d %H}" for begin, _, period in cut
    ] == expected
    assert [end for _, end, _ in cut[:-1]] == [begin for begin, _, _ in cut[1:]], "with no gap between"
