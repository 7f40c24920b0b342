"""Redis leases by the same rule as SQLite, although the one is written in Lua and the other in Python."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from itertools import count
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llm_exporter import Call
from llm_exporter.service.ledger.base import Charge, Claim, Grant, Lease
from llm_exporter.service.ledger.leasing import KEPT_SECONDS
from llm_exporter.service.ledger.redis import RedisLedger
from llm_exporter.service.ledger.sqlite import SqliteLedger
from support.redis_server import RedisServer

EXACT = 2**53
"""Lua's numbers are exact up to here."""
NEVER = 4e9
START = 1_800_000_000.0


class Ledgers(NamedTuple):
    """A ledger of each kind with the same calls and leases."""

    sqlite: SqliteLedger
    redis: RedisLedger
    file: Path
    server: RedisServer

    def add(self, call: Call, account: str) -> None:
        for ledger in (self.sqlite, self.redis):
            ledger.add([call], lambda _: [Charge(account, NEVER)])

    def lease(self, claims: list[Claim], now: float) -> tuple[list[Grant], list[Grant]]:
        return self.sqlite.lease(claims, now), self.redis.lease(claims, now)

    def stored(self, account: str) -> tuple[dict[str, Lease], dict[str, Lease]]:
        """Return the leases in both."""
        with closing(sqlite3.connect(self.file)) as reader:
            rows = reader.execute("SELECT leases FROM leases WHERE account = ?", (account,)).fetchall()
        in_sqlite = {process: Lease(**lease) for row in rows for process, lease in json.loads(row[0]).items()}
        in_redis = self.server.execute("HGETALL", f"llm-exporter:leases:{account}")
        pairs = {process: lease.split() for process, lease in in_redis.items()}
        return in_sqlite, {process: Lease(int(one), float(until)) for process, (one, until) in pairs.items()}


@pytest.fixture(scope="module")
def ledgers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ledgers]:
    directory = tmp_path_factory.mktemp("ledgers")
    with RedisServer(directory, appendonly="no") as server:
        file = directory / "ledger.db"
        ledgers = Ledgers(SqliteLedger(file), RedisLedger(server.url, "a:1"), file, server)
        yield ledgers
        ledgers.sqlite.close()
        ledgers.redis.close()


NAMES = count()
AMOUNTS = st.integers(0, 30) | st.integers(0, EXACT)
"""Amounts that meet often, and any others."""


def a_call(cost: float, tokens: int) -> Call:
    return Call(
        id=f"call {next(NAMES)}",
        provider="openai",
        model="gpt-5",
        operation="chat",
        cost={"output": cost},
        tokens={"output": tokens},
    )


# Binary fractions, whose sums are exact in both ledgers; the least is less than a trillionth of a USD.
CALLS = st.builds(
    a_call,
    cost=st.integers(0, 2**10).map(lambda each: each / 2**10)
    | st.integers(0, 9).map(lambda each: each / 2**41),
    tokens=st.integers(0, 9),
)
CLAIMS = st.fixed_dictionaries(
    {
        "account": st.sampled_from("xy"),
        "process": st.sampled_from(["a", "b", "ключ: \u2028"]),
        "unit": st.sampled_from(["usd", "tokens"]),
        "limit": AMOUNTS,
        "used": AMOUNTS,
        "keeps": AMOUNTS,
        "wanted": AMOUNTS,
        "ends": st.booleans(),
    }
)
SECONDS = st.sampled_from([0.1, KEPT_SECONDS / 2, KEPT_SECONDS, -KEPT_SECONDS / 2, -1000.0])
STEPS = st.lists(
    st.tuples(st.sampled_from("xy"), CALLS) | st.lists(CLAIMS, max_size=4) | SECONDS, max_size=20
)


@settings(max_examples=300, deadline=None)
@given(STEPS)
def test_both_ledgers_lease_the_same(ledgers: Ledgers, steps: list[Any]) -> None:
    names = {account: f"{account} {next(NAMES)}" for account in "xy"}
    now = START
    for step in steps:
        if isinstance(step, float):
            now += step
        elif isinstance(step, tuple):
            account, call = step
            ledgers.add(call, names[account])
        else:
            claims = [Claim(**{**claim, "account": names[claim["account"]]}) for claim in step]
            by_sqlite, by_redis = ledgers.lease(claims, now)
            assert by_redis == by_sqlite
            for account in names.values():
                in_sqlite, in_redis = ledgers.stored(account)
                assert in_redis == in_sqlite


@pytest.mark.parametrize("usd", [9_000, 10**6, 10**12])
def test_large_budgets_are_leased_to_fifteen_digits(ledgers: Ledgers, usd: int) -> None:
    """Their amounts are beyond the numbers that Lua has exactly."""
    account, limit = f"large {usd}", usd * 10**12
    ledgers.add(a_call(usd / 3, 0), account)
    for process, used in (("a", 10**12 + 1), ("b", limit // 7), ("c", 1), ("a", 3 * 10**11 + 7)):
        claim = Claim(account, process, "usd", limit=limit, used=used, keeps=limit, wanted=used)
        ((by_sqlite,), (by_redis,)) = ledgers.lease([claim], START)
        assert by_redis.spent == by_sqlite.spent
        assert by_redis.amount == pytest.approx(by_sqlite.amount, abs=limit * 1e-15)


def test_a_limit_may_be_larger_than_any_float(ledgers: Ledgers) -> None:
    claim = Claim("huge", "a", "tokens", limit=10**30, used=0)
    for (grant,) in ledgers.lease([claim], START):
        assert grant.amount == pytest.approx(10**30 // 2, rel=1e-15)
