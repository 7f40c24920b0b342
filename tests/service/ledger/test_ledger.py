"""The behaviour of every ledger, whatever stores its calls."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import pytest

from llm_exporter import Call
from llm_exporter.budgets.events import Unit
from llm_exporter.budgets.spending import USD
from llm_exporter.config.model import Config
from llm_exporter.metrics.saved_sample import SavedSample
from llm_exporter.service.intake import Intake
from llm_exporter.service.ledger.base import (
    SUMMED_BY,
    Charge,
    Claim,
    Grant,
    Ledger,
    Query,
    Totals,
    dimension,
    dimensions,
)
from llm_exporter.service.ledger.redis import RedisLedger
from llm_exporter.service.ledger.sqlite import SqliteLedger
from support.redis_server import RedisServer

Open = Callable[[], Ledger]


@pytest.fixture(scope="module")
def redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    with RedisServer(tmp_path_factory.mktemp("redis"), appendonly="no") as server:
        yield server


@pytest.fixture(params=["sqlite", "redis"])
def reopen(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Open]:
    """Open the test's ledger, after closing it if it is open."""
    opened: list[Ledger] = []
    if request.param == "redis":
        server = request.getfixturevalue("redis")
        server.execute("FLUSHALL")

    def reopen() -> Ledger:
        if opened:
            opened.pop().close()
        if request.param == "redis":
            opened.append(RedisLedger(server.url, "host:9847"))
        else:
            opened.append(SqliteLedger(tmp_path / "ledger.db"))
        return opened[0]

    yield reopen
    if opened:
        opened[0].close()


@pytest.fixture
def ledger(reopen: Open) -> Ledger:
    return reopen()


def call(name: str, started: float | str = 1_800_000_000.0, **more: Any) -> Call:
    """Return a call with 100 input tokens, 10 output tokens and a cost of $0.50."""
    known: dict[str, Any] = {
        "provider": "openai",
        "model": "gpt-5",
        "operation": "chat",
        "tokens": {"input": 60, "cache_read": 40, "output": 10},
        "cost": {"input": 0.25, "output": 0.25},
    }
    if isinstance(started, str):
        started = datetime.fromisoformat(started).timestamp()
    return Call(id=name, started=started, **{**known, **more})


def ids(ledger: Ledger, query: Query | None = None, limit: int = 100) -> str:
    """Return the ids of the matching calls, each a single letter."""
    return "".join(logged.call.id for logged in ledger.calls(query or Query(), limit=limit))


def half_dollars(number: int) -> Totals:
    """Return the totals of a number of calls from `call`."""
    return Totals(calls=number, cost_usd=number * 0.5, input_tokens=number * 100, output_tokens=number * 10)


# ---- each call once


def test_a_call_is_stored_unchanged(ledger: Ledger) -> None:
    one = call(
        "a", labels={"agent": "planner", "ключ": "значение \u0000"}, error="timeout", retries=["timeout"]
    )

    assert ledger.add([one]) == [one]
    (logged,) = ledger.calls(Query(), limit=10)
    assert logged.call == one


def test_known_calls_in_a_batch_are_ignored(ledger: Ledger) -> None:
    assert ledger.add([call("a"), call("b")]) == [call("a"), call("b")]
    assert ledger.add([call("b"), call("c"), call("a")]) == [call("c")]
    assert ledger.totals(Query()) == {(): half_dollars(3)}


def test_the_first_of_two_calls_with_the_same_id_wins(ledger: Ledger) -> None:
    first, second = call("a", model="first"), call("a", model="second")

    (new,) = ledger.add([first, second, first])

    assert new is first
    assert [logged.call for logged in ledger.calls(Query(), limit=10)] == [first]


def test_a_batch_may_have_thousands_of_calls_twice_in_one_session(ledger: Ledger) -> None:
    """Lua passes 8,000 arguments to a function at most."""
    each_twice = [call(f"{number // 2}") for number in range(9_000)]

    assert len(ledger.add(each_twice)) == 4_500
    assert ledger.add(each_twice) == []
    assert ledger.totals(Query()) == {(): half_dollars(4_500)}
    assert ledger.totals(Query(session="default")) == {(): half_dollars(4_500)}


def test_an_empty_ledger(ledger: Ledger) -> None:
    assert ledger.add([]) == []
    assert ledger.calls(Query(), limit=10) == []
    assert ledger.totals(Query()) == {}
    assert ledger.periods(Query(since=0.0), "month") == {}
    assert ledger.session(None) is None


def test_calls_survive_a_restart(reopen: Open) -> None:
    reopen().add([call("a")])

    ledger = reopen()

    assert ids(ledger) == "a"
    assert ledger.add([call("a"), call("b")]) == [call("b")]


# ---- queries


def test_calls_are_listed_in_pages_newest_first(ledger: Ledger) -> None:
    ledger.add([call(name) for name in "abc"])
    ledger.add([call(name) for name in "de"])

    page = ledger.calls(Query(), limit=2)
    following = ledger.calls(Query(), limit=2, before=page[-1].position)
    last = ledger.calls(Query(), limit=2, before=following[-1].position)

    assert [logged.call.id for logged in [*page, *following, *last]] == ["e", "d", "c", "b", "a"]


def test_pages_of_a_session_or_a_time_are_contiguous(ledger: Ledger) -> None:
    ledger.add([call(name, labels={"session": "s"}) for name in "abc"])
    ledger.add([call("x", started=5.0)])

    for query in (Query(session="s"), Query(since=6.0)):
        (newest,) = ledger.calls(query, limit=1)
        assert newest.call.id == "c"
        assert [one.call.id for one in ledger.calls(query, limit=9, before=newest.position)] == ["b", "a"]


def test_more_calls_than_one_read_returns(ledger: Ledger) -> None:
    ledger.add([call(f"{number}", started=float(number)) for number in range(2500)])

    everything = ledger.calls(Query(), limit=5000)

    assert [int(logged.call.id) for logged in everything] == list(range(2499, -1, -1))
    assert len(ledger.calls(Query(since=100.0, until=2400.0), limit=5000)) == 2300


def test_since_is_inclusive_and_until_is_exclusive(ledger: Ledger) -> None:
    ledger.add([call("a", 10.0), call("b", 20.0), call("c", 30.0)])

    assert ids(ledger, Query(since=20.0)) == "cb"
    assert ids(ledger, Query(until=20.0)) == "a"
    assert ids(ledger, Query(since=10.0, until=30.0)) == "ba"


def test_late_calls_are_ordered_by_arrival(ledger: Ledger) -> None:
    ledger.add([call("a", 20.0)])
    ledger.add([call("b", 10.0)])

    assert ids(ledger) == ids(ledger, Query(since=0.0)) == "ba"


@pytest.mark.parametrize(
    ("match", "found"),
    [
        ({"model": "gpt-5"}, "dcb"),
        ({"provider": "anthropic"}, "a"),
        ({"operation": "messages"}, "a"),
        ({"agent": "planner"}, "ba"),
        ({"agent": "planner", "model": "gpt-5"}, "b"),
        ({"agent": "unattributed"}, "dc"),
        ({"phase": "unattributed"}, "dcba"),
        ({"project": "acme"}, "c"),
        ({"project": "default"}, "dba"),
        ({"team": "red"}, "d"),
        ({"team": "unattributed"}, "cba"),
        ({"session": "default"}, "dcba"),
        ({'a"b.c': "quoted"}, "d"),
        ({"model": "GPT-5"}, ""),
    ],
)
def test_calls_are_filtered_by_attributes_and_labels(
    ledger: Ledger, match: dict[str, str], found: str
) -> None:
    ledger.add(
        [
            call(
                "a",
                provider="anthropic",
                model="claude",
                operation="messages",
                labels={"agent": "planner", "team": ""},
            ),
            call("b", labels={"agent": "planner"}),
            call("c", labels={"project": "acme"}),
            call("d", labels={"team": "red", 'a"b.c': "quoted"}),
        ]
    )

    assert ids(ledger, Query(match=match)) == found
    assert sum(totals.calls for totals in ledger.totals(Query(match=match)).values()) == len(found)
    within = Query(match=match, since=1_799_999_999.5)
    assert sum(totals.calls for totals in ledger.totals(within).values()) == len(found)


# ---- totals


def test_totals_add_up_calls_errors_tokens_and_cost(ledger: Ledger) -> None:
    ledger.add(
        [
            call(
                "a", tokens={"input": 5, "cache_read": 20, "output": 3, "reasoning": 4}, cost={"input": 0.5}
            ),
            call("b", error="timeout", cost={}, unpriced_tokens=110),
            call("c", approximated={"tier": 110, "region": 110}),
            call("d", approximated={"modality": 60, "lifetime": 40}),
            call("e", tokens={}, cost={}, approximated={"fee": 1}),
        ]
    )

    expected = Totals(
        calls=5,
        errors=1,
        cost_usd=1.5,
        input_tokens=325,
        output_tokens=37,
        unpriced_tokens=110,
        approximated_tokens=110 + 100 + 1,
    )
    assert ledger.totals(Query()) == {(): expected}
    assert ledger.totals(Query(since=0.0)) == {(): expected}


def test_totals_are_grouped_by_any_dimensions_and_labels(ledger: Ledger) -> None:
    ledger.add(
        [
            call("a", labels={"agent": "planner", "team": "red"}),
            call("b", labels={"agent": "planner", "team": "blue"}),
            call("c", model="o9", labels={"agent": "planner", "team": "red"}),
            call("d", labels={"session": "s-1", "project": "acme"}),
        ]
    )

    for query in (Query(), Query(since=1_799_999_000.0)):
        assert ledger.totals(query, ["model"]) == {("gpt-5",): half_dollars(3), ("o9",): half_dollars(1)}
        assert ledger.totals(query, ["team", "model"]) == {
            ("red", "gpt-5"): half_dollars(1),
            ("blue", "gpt-5"): half_dollars(1),
            ("red", "o9"): half_dollars(1),
            ("unattributed", "gpt-5"): half_dollars(1),
        }
        assert ledger.totals(query, ["session", "project"]) == {
            ("default", "default"): half_dollars(3),
            ("s-1", "acme"): half_dollars(1),
        }
        assert ledger.totals(query, ["session"]) == {
            ("default",): half_dollars(3),
            ("s-1",): half_dollars(1),
        }


def test_months_start_at_midnight_utc(ledger: Ledger) -> None:
    ledger.add(
        [
            call("a", "2028-02-29T23:59:59.999+00:00"),
            call("b", "2028-03-01T00:00:00+00:00"),
            call("c", "2028-03-31T23:30:00+00:00"),
            call("d", "2028-04-01T01:30:00+02:00"),  # still in March
        ]
    )
    february, march = (datetime(2028, month, 1, tzinfo=UTC).timestamp() for month in (2, 3))

    assert ledger.periods(Query(since=0.0), "month") == {
        (february, ()): half_dollars(1),
        (march, ()): half_dollars(3),
    }


def test_days_and_hours_are_utc(ledger: Ledger) -> None:
    ledger.add(
        [
            call("a", "2028-02-29T22:59:59.999+00:00", labels={"agent": "planner"}),
            call("b", "2028-02-29T23:00:00+00:00"),
            call("c", "2028-03-01T00:00:00+00:00", model="o9"),
        ]
    )
    leap = datetime(2028, 2, 29, tzinfo=UTC).timestamp()

    assert ledger.periods(Query(since=0.0), "day", ["model"]) == {
        (leap, ("gpt-5",)): half_dollars(2),
        (leap + 86400, ("o9",)): half_dollars(1),
    }
    assert ledger.periods(Query(), "hour") == {
        (leap + 22 * 3600, ()): half_dollars(1),
        (leap + 23 * 3600, ()): half_dollars(1),
        (leap + 24 * 3600, ()): half_dollars(1),
    }
    assert ledger.periods(Query(match={"agent": "planner"}), "hour") == {
        (leap + 22 * 3600, ()): half_dollars(1)
    }


def test_minutes_are_made_of_calls(ledger: Ledger) -> None:
    ledger.add(
        [
            call("a", "2028-03-01T00:00:59.999+00:00", labels={"agent": "planner", "team": "red"}),
            call("b", "2028-03-01T00:01:00+00:00", labels={"agent": "planner", "team": "red"}),
            call("c", "2028-03-01T00:01:59+00:00"),
            call("d", "2028-03-01T01:02:00+00:00"),
        ]
    )
    midnight = datetime(2028, 3, 1, tzinfo=UTC).timestamp()
    first_hour = Query(since=midnight, until=midnight + 3600)

    assert ledger.periods(first_hour, "minute") == {
        (midnight, ()): half_dollars(1),
        (midnight + 60, ()): half_dollars(2),
    }
    for by in ("agent", "team"):
        value = {"agent": "planner", "team": "red"}[by]
        assert ledger.periods(first_hour, "minute", [by]) == {
            (midnight, (value,)): half_dollars(1),
            (midnight + 60, (value,)): half_dollars(1),
            (midnight + 60, ("unattributed",)): half_dollars(1),
        }


@pytest.mark.parametrize("period", ["minute", "hour", "day", "month"])
def test_periods_include_only_calls_in_the_requested_time(ledger: Ledger, period: Any) -> None:
    """However long ago: a report combines sums, which expire, and calls."""
    now = time.time()
    ages = [0, 1000, 4000, 90_000, 40 * 86400, 400 * 86400, 800 * 86400]
    ledger.add([call(str(age), now - age, labels={"agent": "planner"}) for age in ages])

    for since in ages:
        for until in [*ages, -1]:
            if until >= since:
                continue
            # Half a second earlier, to include the call of that age.
            query = Query(since=now - since - 0.5, until=now - until - 0.5, match={"agent": "planner"})
            inside = sum(until < age <= since for age in ages)
            groups = ledger.periods(query, period, ["model"])
            assert sum(totals.calls for totals in groups.values()) == inside
            assert ledger.totals(query).get((), Totals()) == half_dollars(inside)


# ---- sessions


def test_a_session_exists_if_it_has_calls(ledger: Ledger) -> None:
    ledger.add([call("a", labels={"session": "s-1"}), call("b", labels={"session": "s-2"}), call("c")])

    assert ledger.session("s-1") == "s-1"
    assert ledger.session("s-3") is None
    assert ledger.session(None) == "default"
    assert ids(ledger, Query(session="s-1")) == "a"
    assert ids(ledger, Query(session="default")) == "c"
    assert ledger.totals(Query(session="s-2", match={"model": "gpt-5"})) == {(): half_dollars(1)}
    assert ledger.totals(Query(session="s-2", match={"model": "o9"})) == {}


def test_a_reset_session_counts_from_zero_and_its_calls_stay(ledger: Ledger) -> None:
    ledger.add([call("a", labels={"session": "s"}), call("x", labels={"session": "other"})])

    ledger.reset_session("s")

    assert ledger.session("s") == "s"
    assert ledger.totals(Query(session="s")) == {}
    assert ids(ledger, Query(session="other")) == "x"
    ledger.add([call("b", labels={"session": "s"})])
    assert ids(ledger, Query(session="s")) == "b"
    assert ledger.totals(Query(session="s")) == {(): half_dollars(1)}
    assert ids(ledger) == "bxa"
    assert ids(ledger, Query(match={"session": "s"})) == "ba"


def test_a_query_combines_session_and_time(ledger: Ledger) -> None:
    ledger.add([call("a", 10.0, labels={"session": "s"}), call("b", 20.0, labels={"session": "s"})])
    ledger.add([call("c", 20.0)])

    assert ids(ledger, Query(session="s", since=15.0)) == "b"
    assert ledger.totals(Query(session="s", since=15.0)) == {(): half_dollars(1)}


# ---- checkpoints


COUNTED = [SavedSample("llm_calls", "llm_calls_total", {"model": "gpt-5"}, 2.0)]


def replayed(ledger: Ledger) -> tuple[list[SavedSample], str]:
    counted, calls = ledger.after_checkpoint()
    return counted, "".join(call.id for call in calls)


def test_without_a_checkpoint_all_calls_are_replayed(reopen: Open) -> None:
    reopen().add([call("a"), call("b")])

    assert replayed(reopen()) == ([], "ab")


def test_calls_after_the_checkpoint_are_replayed(reopen: Open) -> None:
    ledger = reopen()
    ledger.add([call("a"), call("b")])
    ledger.checkpoint(COUNTED)
    ledger.add([call("a"), call("c")])
    ledger.add([call("d")])

    assert replayed(reopen()) == (COUNTED, "cd")
    assert replayed(reopen()) == (COUNTED, "cd"), "replaying does not change the ledger"
    reopen().checkpoint([])
    assert replayed(reopen()) == ([], "")


def killed(intake: Intake) -> None:
    """Stop a service without a checkpoint."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(intake, "_checkpoint", lambda: None)
        intake.close()


@pytest.mark.parametrize("end", [Intake.close, killed])
def test_approximate_costs_and_unread_requests_are_counted_once_over_restarts(
    reopen: Open, end: Callable[[Intake], None]
) -> None:
    """Stopped or killed, and with calls that are delivered again."""
    approximated = call("a", cost_source="list", approximated={"tier": 110, "fee": 2})
    unread = call("b", operation="unread", tokens={}, cost={}, route="POST /v1/things")

    def values() -> dict[tuple[str, ...], float]:
        labels = "reason", "route"
        return {
            tuple(sample.labels[name] for name in labels if name in sample.labels): sample.value
            for family in intake.metrics.collect()
            if family.name in ("llm_price_approximated_tokens", "llm_exporter_unread_requests")
            for sample in family.samples
        }

    intake = Intake(Config(), reopen())
    intake.submit([approximated, unread, approximated]).result()
    intake.submit([unread]).result()
    once = {("tier",): 110.0, ("fee",): 2.0, ("POST /v1/things",): 1.0}
    assert values() == once
    end(intake)

    intake = Intake(Config(), reopen())
    assert values() == once
    intake.submit([approximated, unread]).result()
    assert values() == once
    intake.submit([msgspec.structs.replace(unread, id="c")]).result()
    assert values() == {**once, ("POST /v1/things",): 2.0}
    intake.close()


def test_released_series_survive_a_restart(reopen: Open) -> None:
    ledger = reopen()
    assert ledger.released() == []

    ledger.release([("llm_calls", "openai", "é"), ("llm_tokens",)])
    ledger.release([("llm_tokens",)])
    ledger.release([])

    assert sorted(reopen().released()) == [("llm_calls", "openai", "é"), ("llm_tokens",)]


def test_the_dimensions_of_a_call_are_those_that_sums_are_stored_by() -> None:
    for one in (call("a"), call("b", labels={"agent": "x", "phase": "y", "project": "z", "session": "s"})):
        assert dimensions(one) == tuple(dimension(one, name) for name in SUMMED_BY)


def test_leases_survive_a_restart(reopen: Open) -> None:
    def lease(process: str, account: str = "one", wanted: int = 0) -> list[Grant]:
        return reopen().lease([Claim(account, process, "tokens", limit=24, used=0, wanted=wanted)], now)

    now = time.time()
    assert lease("a") == [Grant(spent=0, amount=12)], "a half, one share is left for the next process"
    assert lease("b") == [Grant(spent=0, amount=4)], "a third of what is left"
    assert lease("a", account="two") == [Grant(spent=0, amount=12)]
    spent = call("x", cost={"output": 0.5}, tokens={"output": 3})
    reopen().add([spent], lambda _: [Charge("one", now + 60)])

    assert lease("c", wanted=24) == [Grant(spent=3, amount=24 - 12 - 4 - 3)]


def test_the_claims_of_a_request_are_leased_in_order(ledger: Ledger) -> None:
    def claim(process: str, account: str, unit: Unit = "usd", **more: Any) -> Claim:
        return Claim(account, process, unit, **{"limit": USD, "used": 0, **more})

    now = time.time()
    ledger.add([call("x")], lambda _: [Charge("one", now + 60)])
    grants = ledger.lease(
        [
            claim("a", "one"),
            claim("b", "one", wanted=USD),
            claim("a", "two"),
            claim("a", "one", used=7, ends=True),
            claim("c", "one", wanted=USD),
            claim("a", "one", "tokens", limit=100),
        ],
        now,
    )
    assert grants == [
        Grant(USD // 2, USD // 4),
        Grant(USD // 2, USD // 4),
        Grant(0, USD // 2),
        Grant(USD // 2, 7),
        Grant(USD // 2, USD // 4 - 7),
        Grant(110, 0),
    ]
    assert ledger.lease([], now) == []


def test_old_calls_are_pruned_once_they_are_in_the_checkpoint(reopen: Open) -> None:
    ledger = reopen()
    ledger.add([call("a", labels={"session": "s"}), call("b")])
    late = time.time() + 60

    assert ledger.prune(late) == 0, "not in the checkpoint yet"
    ledger.checkpoint(COUNTED)
    ledger.add([call("c")])
    assert ledger.prune(0.0) == 0, "not old enough"
    assert ledger.prune(late) == 2

    assert ids(ledger) == "c"
    assert ids(ledger, Query(since=0.0)) == "c"
    assert ids(ledger, Query(session="s")) == ""
    assert ledger.totals(Query()) == {(): half_dollars(1)}
    assert replayed(reopen()) == (COUNTED, "c")
