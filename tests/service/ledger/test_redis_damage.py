"""Whatever another program has written to Redis, the service starts, ingests and reports the rest."""

from __future__ import annotations

import time
from typing import Any

import msgspec
import pytest

from llm_exporter import Call
from llm_exporter.config.model import Budget, Config
from llm_exporter.periods import span_of
from llm_exporter.service.intake import Intake
from llm_exporter.service.ledger.base import Claim, LedgerError, Query, Totals
from llm_exporter.service.ledger.redis import RedisLedger
from llm_exporter.service.schemas import Receipt
from support.awaiting import DEADLINE
from support.budgets import budget
from support.redis_server import RedisServer

PREFIX = "llm-exporter:"


def a_call(name: str, **more: Any) -> Call:
    """Return a call of half a dollar in session `s`, that has just started."""
    options: dict[str, Any] = {"cost": {"output": 0.5}, "started": time.time(), "labels": {"session": "s"}}
    return Call(id=name, provider="openai", model="gpt-5", operation="chat", **{**options, **more})


def value(intake: Intake, name: str, **labels: str) -> float:
    """Return the value of a metric, over all other labels, without waiting for scrapes that show it at 0."""
    return sum(
        sample.value
        for family in intake.metrics.collect()
        for sample in family.samples
        if sample.name == name and labels.items() <= sample.labels.items()
    )


def errors(intake: Intake) -> float:
    """Return the errors that are counted for the ledger."""
    return value(intake, "llm_exporter_errors_total", where="ledger")


def month() -> float:
    """Return the start of the month."""
    return span_of("month", time.time()).start


def store(redis: RedisServer, position: int, stored: bytes | str) -> None:
    """Store a call like the ledger does, for the instance `a:1`."""
    redis.execute("XADD", f"{PREFIX}calls", f"{position}-0", "call", stored)  # type: ignore[arg-type]
    redis.execute("ZADD", f"{PREFIX}started", time.time(), position)
    redis.execute("ZADD", f"{PREFIX}log:a:1", position, position)


# ---- calls


@pytest.mark.parametrize(
    ("stored", "reason"),
    [
        ("no JSON", "JSON is malformed"),
        ("", "Input data was truncated"),
        (b"\xff\xfe", "malformed"),
        ("[" * 100_000, ""),
        ('{"id": 1}', "Expected `str`, got `int`"),
        (msgspec.json.encode(a_call("x", started=1e15)), "started must be between the years 1970 and 9998"),
        (msgspec.json.encode(a_call("x", cost={"output": -1.0})), "cost.output must be between 0 and 10^12"),
        (msgspec.json.encode(a_call("x", tokens={"input": 10**18})), "tokens.input must be between 0 and"),
    ],
    ids=["text", "empty", "binary", "deep", "no call", "year", "negative", "large"],
)
def test_a_damaged_call_is_left_out(
    redis: RedisServer, caplog: pytest.LogCaptureFixture, stored: bytes | str, reason: str
) -> None:
    ledger = RedisLedger(redis.url, "a:1")
    ledger.add([a_call("before")])
    store(redis, 9 * 10**15, stored)
    ledger.close()

    ledger = RedisLedger(redis.url, "a:1")
    intake = Intake(Config(budgets=(budget("9", period="month"),)), ledger)
    redis.execute("SET", f"{PREFIX}position", "9000000000000000")  # as the server's clock would have it
    assert intake.submit([a_call("after")]).result(DEADLINE) == Receipt(accepted=1, duplicates=0)

    assert value(intake, "llm_calls_total") == 2
    assert value(intake, "llm_cost_usd_total") == 1.0
    for query in (Query(), Query(since=time.time() - 60), Query(match={"agent": ""})):
        assert {logged.call.id for logged in ledger.calls(query, limit=9)} <= {"before", "after"}
    assert ledger.totals(Query())[()] == Totals(calls=2, cost_usd=1.0)
    assert ledger.totals(Query(since=time.time() - 60), ["session"]) == {
        ("s",): Totals(calls=2, cost_usd=1.0)
    }
    assert ledger.session(None) == "s"
    assert errors(intake) == 1, "counted once, however often it is read"
    assert caplog.text.count("skipped call 9000000000000000, which is damaged: ") == 1
    assert reason in caplog.text
    intake.close()
    ledger.close()


# ---- keys

ACCOUNT = '["Budget", "all", "month", "usd", [], []]'


def keys() -> dict[str, str]:
    """Return the keys that a ledger can do without."""
    start = f"{month():.0f}"
    return {
        "sum": f"bucket:month:{start}",
        "sum of sessions": f"sessions:month:{start}",
        "session": "session:s",
        "reset": "reset:s",
        "account": f"account:[{ACCOUNT}, [], {month()!r}]",
        "released": "released:a:1",
        "missed": f"missed:{ACCOUNT}",
        "log of another instance": "log:c:1",
    }


@pytest.mark.parametrize("name", list(keys()))
@pytest.mark.parametrize("kind", ["a string", "a list", "a hash of text"])
def test_a_damaged_key_is_left_out(
    redis: RedisServer, caplog: pytest.LogCaptureFixture, name: str, kind: str
) -> None:
    config = Config(budgets=(budget("9", period="month"),))
    RedisLedger(redis.url, "c:1").close()
    other, found_by_other = RedisLedger(redis.url.removesuffix("/0"), "b:1"), list[None]()
    other.report_unreadable(lambda: found_by_other.append(None))
    intake = Intake(config, RedisLedger(redis.url, "a:1"))
    intake.submit([a_call("before")]).result(DEADLINE)
    intake.close()
    key = PREFIX + keys()[name]
    write = {
        "a string": ("SET", key, "x"),
        "a list": ("RPUSH", key, "x"),
        "a hash of text": ("HSET", key, "cost_usd ", "x"),
    }[kind]
    redis.execute("DEL", key)
    redis.execute(*write)

    ledger = RedisLedger(redis.url, "a:1")
    intake = Intake(config, ledger)
    assert intake.submit([a_call("after")]).result(DEADLINE) == Receipt(accepted=1, duplicates=0)
    other.add([a_call("other")])  # it knows no rules

    assert value(intake, "llm_calls_total") == 2
    assert ledger.totals(Query(since=month()))[()] == Totals(calls=3, cost_usd=1.5)
    assert ledger.totals(Query(since=month()), ["session"]) == {("s",): Totals(calls=3, cost_usd=1.5)}
    assert ledger.totals(Query())[()] == Totals(calls=3, cost_usd=1.5)
    in_session = ledger.totals(Query(session="s"))
    assert in_session == ({} if name == "session" else {(): Totals(calls=3, cost_usd=1.5)})
    intake.close()  # ends the thread that would catch up at the same time
    while intake.accounts.catch_up():
        pass
    assert intake.accounts.behind == 0
    ledger.release([("llm_calls_total", "x")])
    assert ledger.released() == ([] if name == "released" else [("llm_calls_total", "x")])
    assert ledger.prune(1.0) == 0
    ledger.check()
    if (name, kind) in (("missed", "a string"), ("missed", "a hash of text")):
        assert (errors(intake), len(found_by_other)) == (0, 1), (
            "only the service that misses the rule needs it"
        )
    else:
        assert errors(intake) == 1, "counted once, however often it is read"
        assert caplog.text.count(f"{redis.url}: skipped {key}, which is damaged: ") == 1
    ledger.checkpoint([])
    other.checkpoint([])
    assert ledger.prune(time.time() + 60) == 3
    ledger.close()
    other.close()


@pytest.mark.parametrize("key", ["calls", "ids", "started", "position", "rules", "instance:a:1", "log:a:1"])
def test_a_damaged_key_that_every_call_needs_is_named(redis: RedisServer, key: str) -> None:
    ledger = RedisLedger(redis.url, "a:1")
    intake = Intake(Config(), ledger)
    redis.execute("DEL", PREFIX + key)
    redis.execute("RPUSH", PREFIX + key, "x")
    message = f"{PREFIX}{key} is a list, not a "

    with pytest.raises(LedgerError, match=message):
        intake.submit([a_call("x")]).result(DEADLINE)
    with pytest.raises(LedgerError, match=message):
        RedisLedger(redis.url, "a:1")
    if "a:1" not in key:
        with pytest.raises(LedgerError, match=message):
            ledger.check()
    assert value(intake, "llm_calls_total") == 0, "/metrics is shown"

    redis.execute("DEL", PREFIX + key)
    assert intake.submit([a_call("x")]).result(DEADLINE) == Receipt(accepted=1, duplicates=0)
    intake.close()
    ledger.close()


# ---- values


def test_damaged_values_in_a_key_are_left_out(redis: RedisServer, caplog: pytest.LogCaptureFixture) -> None:
    config = Config(budgets=(budget("9", period="month"),))
    intake = Intake(config, RedisLedger(redis.url, "a:1"))
    intake.submit([a_call("before")]).result(DEADLINE)
    intake.close()
    redis.execute("ZADD", f"{PREFIX}started", time.time(), "x")
    redis.execute("ZADD", f"{PREFIX}log:a:1", 1e300, "x")
    redis.execute("ZADD", f"{PREFIX}session:s", 1e300, "1e300")
    redis.execute("SET", f"{PREFIX}reset:s", "x")
    redis.execute("HSET", f"{PREFIX}instance:a:1", "counted", "x")
    redis.execute("SADD", f"{PREFIX}released:a:1", "x")
    redis.execute("HSET", f"{PREFIX}account:x", "cost_usd ", "1")
    redis.execute("HSET", f"{PREFIX}backlogs", ACCOUNT, "x")
    redis.execute("HSET", f"{PREFIX}leases:account", "x", "x", "y", "5 x", "z", "x 5")
    redis.execute("RPUSH", f"{PREFIX}leases:other", "x")

    ledger = RedisLedger(redis.url, "a:1")
    intake = Intake(config, ledger)
    assert intake.submit([a_call("after")]).result(DEADLINE) == Receipt(accepted=1, duplicates=0)
    intake.close()  # ends the thread that would catch up at the same time
    while intake.accounts.catch_up():
        pass

    assert intake.accounts.behind == 0
    intake.accounts.refresh()
    assert intake.accounts.rows()[0].spent == 1.0
    assert value(intake, "llm_calls_total") == 1, "the metrics start again without a checkpoint"
    assert ledger.totals(Query(since=time.time() - 60), ["session"]) == {
        ("s",): Totals(calls=2, cost_usd=1.0)
    }
    assert ledger.totals(Query(session="s")) == {(): Totals(calls=2, cost_usd=1.0)}
    assert ledger.released() == []
    for account in ("account", "other"):
        grants = ledger.lease([Claim(account, name, "tokens", limit=9, used=5) for name in "ab"], time.time())
        assert [grant.amount for grant in grants] == [5 + 2, 5]
    damaged = ("started", "log:a:1", "session:s", "reset:s", "instance:a:1", "released:a:1", "account:x")
    for key in (*damaged, "backlogs", "leases:account", "leases:other"):
        assert caplog.text.count(f"skipped {PREFIX}{key}, which is damaged: ") == 1, key
    assert errors(intake) == 10
    ledger.close()


# ---- amounts


def a_huge_call(name: str) -> Call:
    """Return a call of the most USD, and the most tokens of both types, that are accepted."""
    cost = {f"part {number}": 1e12 for number in range(100)}
    return a_call(name, cost=cost, tokens={"input": 10**12, "output": 10**12}, unpriced_tokens=10**14)


def test_sums_of_the_largest_calls_are_exact(redis: RedisServer) -> None:
    ledger = RedisLedger(redis.url, "a:1")
    intake = Intake(Config(budgets=(budget("9", period="month"),)), ledger)

    for number in range(3):
        receipt = intake.submit([a_huge_call(f"{number} {at}") for at in range(100)])
        assert receipt.result(DEADLINE) == Receipt(accepted=100, duplicates=0)

    huge = Totals(
        calls=300,
        cost_usd=3e16,
        input_tokens=3 * 10**14,
        output_tokens=3 * 10**14,
        unpriced_tokens=3 * 10**16,
    )
    assert ledger.totals(Query(since=month())) == {(): huge}
    assert ledger.totals(Query()) == {(): huge}
    assert value(intake, "llm_cost_usd_total") == 3e16
    intake.accounts.refresh()
    assert intake.accounts.rows()[0].spent == 3e16
    assert errors(intake) == 0
    intake.close()
    ledger.close()


@pytest.mark.parametrize("stored", [str(2**63 - 1), "1e300"])
def test_sums_stop_at_the_largest_integer(redis: RedisServer, stored: str) -> None:
    ledger = RedisLedger(redis.url, "a:1")
    intake = Intake(Config(budgets=(budget("9", period="month"), tokens_budget())), ledger)
    intake.submit([a_call("before", tokens={"input": 1})]).result(DEADLINE)
    for key in redis.execute("KEYS", f"{PREFIX}*"):
        if key.startswith((f"{PREFIX}bucket:", f"{PREFIX}account:")):
            for field in redis.execute("HKEYS", key):
                redis.execute("HSET", key, field, stored)

    assert intake.submit([a_huge_call("after")]).result(DEADLINE) == Receipt(accepted=1, duplicates=0)

    (totals,) = ledger.totals(Query(since=month())).values()
    assert (totals.calls, totals.input_tokens, totals.cost_usd) == (2**63 - 1, 2**63 - 1, 2.0**63)
    intake.accounts.refresh()
    assert {row.unit: row.spent for row in intake.accounts.rows()} == {"usd": 2.0**63, "tokens": 2.0**63}
    intake.close()
    again = Intake(Config(budgets=(budget("9", period="month"), tokens_budget())), ledger)
    assert value(again, "llm_budget_spent_usd") == 2.0**63
    assert errors(again) == errors(intake) == 0
    again.close()
    ledger.close()


def tokens_budget() -> Budget:
    """Return a budget of tokens per month."""
    return Budget(name="tokens", tokens=9, period="month")


@pytest.mark.parametrize("stored", ["1e4900", "inf", "nan", "-9"])
def test_a_sum_that_is_no_amount_is_left_out(redis: RedisServer, stored: str) -> None:
    ledger = RedisLedger(redis.url, "a:1")
    intake = Intake(Config(), ledger)
    intake.submit([a_call("before")]).result(DEADLINE)
    key = f"{PREFIX}bucket:month:{month():.0f}"
    for field in redis.execute("HKEYS", key):
        redis.execute("HSET", key, field, stored)

    assert intake.submit([a_call("after")]).result(DEADLINE) == Receipt(accepted=1, duplicates=0)

    assert ledger.totals(Query(since=month())) == {(): Totals(calls=2, cost_usd=1.0)}
    assert errors(intake) == 1
    intake.close()
    ledger.close()


@pytest.mark.parametrize("last", [2**53 - 2, 2**53, 10**17])
def test_positions_that_are_too_large_store_nothing(redis: RedisServer, last: int) -> None:
    ledger = RedisLedger(redis.url, "a:1")
    redis.execute("SET", f"{PREFIX}position", last)

    with pytest.raises(LedgerError, match="llm-exporter:position is not a position"):
        ledger.add([a_call("x"), a_call("y")])

    redis.execute("DEL", f"{PREFIX}position")
    assert len(ledger.add([a_call("x"), a_call("y")])) == 2
    ledger.close()


def test_a_stream_with_a_later_entry_stores_nothing(redis: RedisServer) -> None:
    ledger = RedisLedger(redis.url, "a:1")
    redis.execute("XADD", f"{PREFIX}calls", f"{10**17}-0", "call", "x")

    with pytest.raises(LedgerError, match="equal or smaller than the target stream top item"):
        ledger.add([a_call("x"), a_call("y")])

    redis.execute("DEL", f"{PREFIX}calls")
    assert len(ledger.add([a_call("x"), a_call("y")])) == 2
    ledger.close()
