"""A shared ledger in a real Redis loses and duplicates nothing, whatever fails."""

from __future__ import annotations

import asyncio
import http.server
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from llm_exporter import Call
from llm_exporter.config.loading import load
from llm_exporter.config.model import Config
from llm_exporter.errors import ConfigError
from llm_exporter.periods import RETENTION, WINDOWS, span_of
from llm_exporter.service.intake import Intake
from llm_exporter.service.ledger.base import Claim, LedgerError, Query, Totals
from llm_exporter.service.ledger.leasing import KEPT_SECONDS
from llm_exporter.service.ledger.redis import RedisLedger, masked
from llm_exporter.service.ledger.redis_sums import pieces
from llm_exporter.service.ledger.store import open_ledger
from llm_exporter.service.readiness import Readiness
from llm_exporter.service.schemas import Receipt
from support.budgets import budget
from support.redis_server import RedisServer
from tools.stack import free_port

PATIENCE = 60.0

get, post = partial(httpx.get, timeout=PATIENCE), partial(httpx.post, timeout=PATIENCE)


@pytest.fixture
def redis(tmp_path: Path) -> Iterator[RedisServer]:
    with RedisServer(tmp_path) as server:
        yield server


def calls(*names: str, **more: Any) -> list[Call]:
    """Return calls of half a dollar."""
    return [
        Call(id=name, provider="openai", model="gpt-5", operation="chat", cost={"output": 0.5}, **more)
        for name in names
    ]


def counted(intake: Intake) -> tuple[float, float, float]:
    """Return the calls, the USD and the duplicates that the metrics have counted."""
    sums = dict.fromkeys(("llm_calls_total", "llm_cost_usd_total", "llm_exporter_duplicate_calls_total"), 0.0)
    for family in intake.metrics.collect():
        for sample in family.samples:
            if sample.name in sums:
                sums[sample.name] += sample.value
    calls, dollars, duplicates = sums.values()
    return calls, dollars, duplicates


class Cutter:
    """A proxy to Redis that can forward a command and cut the connection before its reply."""

    def __init__(self, port: int) -> None:
        self._redis = port
        self.cut_after = b""
        """Cut a connection after it sent this."""
        self.cuts = 0
        self.round_trips = 0
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.url = f"redis://127.0.0.1:{self._listening.getsockname()[1]}/0"
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listening.accept()
            except OSError:
                return
            threading.Thread(target=self._relay, args=(client,), daemon=True).start()

    def _relay(self, client: socket.socket) -> None:
        with client, socket.create_connection(("127.0.0.1", self._redis)) as server:
            while data := client.recv(1 << 20):
                self.round_trips += 1
                server.sendall(data)
                answer = server.recv(1 << 20)  # it has run
                if self.cut_after and self.cut_after in data:
                    self.cuts += 1
                    return
                client.sendall(answer)

    def close(self) -> None:
        self._listening.close()


@pytest.fixture
def cutter(redis: RedisServer) -> Iterator[Cutter]:
    cutter = Cutter(redis.port)
    yield cutter
    cutter.close()


# ---- lost replies


def test_only_the_entry_of_a_call_is_written_for_each_call(redis: RedisServer) -> None:
    ledger = RedisLedger(redis.url, "host:9847")
    redis.execute("CONFIG", "RESETSTAT")

    ledger.add(calls(*map(str, range(1000))))

    commands = redis.client().info("commandstats")
    ledger.close()
    made = {name.removeprefix("cmdstat_"): each["calls"] for name, each in commands.items()}
    assert made["xadd"] == 1000
    # One for each sum: the number of calls and the dollars, by session and by the rest, of three periods.
    assert made["hincrbyfloat"] == 2 * 2 * 3
    assert sum(made.values()) < 1100


def test_calls_whose_reply_was_lost_are_new_when_they_are_sent_again(
    redis: RedisServer, cutter: Cutter
) -> None:
    ledger = RedisLedger(cutter.url, "a:1")
    ledger.add(calls("known"))
    cutter.cut_after = b"lost-1"
    with pytest.raises(LedgerError, match=f"^{cutter.url}: "):
        ledger.add(calls("lost-1", "lost-2"))
    assert cutter.cuts == 2, "the reply to the retry is lost too"
    cutter.cut_after = b""

    assert ledger.totals(Query())[()].calls == 3, "they are in the ledger"
    assert ledger.add(calls("known", "lost-2", "lost-1", "next")) == [
        *ledger_calls(ledger, "lost-1", "lost-2"),
        *ledger_calls(ledger, "next"),
    ]
    assert ledger.add(calls("lost-1", "lost-2")) == []
    ledger.close()


def ledger_calls(ledger: RedisLedger, *names: str) -> list[Call]:
    by_id = {logged.call.id: logged.call for logged in ledger.calls(Query(), limit=100)}
    return [by_id[name] for name in names]


def test_calls_whose_reply_was_lost_are_counted_once_wherever_they_are_sent_again(
    redis: RedisServer, cutter: Cutter
) -> None:
    ledgers = RedisLedger(cutter.url, "a:1"), RedisLedger(redis.url, "b:1")
    ledgers[0].add([])  # loads the script, so that only the reply to calls is lost
    first, second = (Intake(Config(), ledger) for ledger in ledgers)
    cutter.cut_after = b"lost"
    with pytest.raises(LedgerError):
        first.submit(calls("lost")).result(PATIENCE)
    cutter.cut_after = b""

    assert second.submit(calls("lost")).result(PATIENCE) == Receipt(accepted=0, duplicates=1)
    assert first.submit(calls("other")).result(PATIENCE) == Receipt(accepted=1, duplicates=0)

    assert counted(first) == (2, 1.0, 0)
    assert counted(second) == (0, 0.0, 1)
    close(first, second)


def test_calls_whose_reply_was_lost_are_counted_although_no_calls_follow(
    redis: RedisServer, cutter: Cutter
) -> None:
    ledger = RedisLedger(cutter.url, "a:1")
    ledger.add([])
    intake = Intake(Config(), ledger)
    cutter.cut_after = b"lost"
    with pytest.raises(LedgerError):
        intake.submit(calls("lost")).result(PATIENCE)
    cutter.cut_after = b""

    intake.close()

    assert counted(intake) == (1, 0.5, 0)
    ledger.close()
    again = Intake(Config(), RedisLedger(redis.url, "a:1"))
    assert counted(again) == (1, 0.5, 0), "it is in the checkpoint and not also after it"
    again.close()


def test_calls_whose_reply_was_lost_are_counted_after_a_crash(redis: RedisServer, cutter: Cutter) -> None:
    crashed = RedisLedger(cutter.url, "a:1")
    crashed.add(calls("known"))
    crashed.checkpoint([])
    cutter.cut_after = b"lost"
    with pytest.raises(LedgerError):
        crashed.add(calls("lost"))

    again = Intake(Config(), RedisLedger(redis.url, "a:1"))

    assert counted(again) == (1, 0.5, 0)
    assert again.submit(calls("lost")).result(PATIENCE) == Receipt(accepted=0, duplicates=1)
    again.close()


def test_a_checkpoint_whose_reply_was_lost_can_be_retried(redis: RedisServer, cutter: Cutter) -> None:
    ledger = RedisLedger(cutter.url, "a:1")
    ledger.add(calls("a"))
    ledger.checkpoint([])
    ledger.add(calls("c"))
    cutter.cut_after = b"[[]]"
    with pytest.raises(LedgerError):
        ledger.checkpoint([[]])  # type: ignore[list-item]  # a marker for the proxy
    cutter.cut_after = b""
    ledger.add(calls("b"))

    ledger.checkpoint([])

    assert redis.execute("ZCARD", "llm-exporter:log:a:1") == 0
    ledger.close()


def close(*intakes: Intake) -> None:
    for intake in intakes:
        intake.close()


# ---- several instances


def test_a_call_is_known_to_all_instances(redis: RedisServer) -> None:
    first, second = RedisLedger(redis.url, "a:1"), RedisLedger(redis.url, "b:1")

    assert len(first.add(calls("x", "y"))) == 2
    assert second.add(calls("y", "z")) == ledger_calls(second, "z")
    assert first.add(calls("z")) == []

    assert first.totals(Query()) == second.totals(Query())
    assert first.totals(Query())[()].calls == 3
    assert [call.id for call in RedisLedger(redis.url, "a:1").after_checkpoint()[1]] == ["x", "y"]
    assert [call.id for call in RedisLedger(redis.url, "b:1").after_checkpoint()[1]] == ["z"]


def test_a_second_service_with_the_same_name_takes_over(redis: RedisServer) -> None:
    first, second = RedisLedger(redis.url, "a:1"), RedisLedger(redis.url, "a:1")

    for adding in (lambda: first.add(calls("x")), lambda: first.checkpoint([])):
        with pytest.raises(LedgerError, match="another llm-exporter serve uses the instance name 'a:1'"):
            adding()

    assert len(second.add(calls("x"))) == 1
    assert redis.execute("ZCARD", "llm-exporter:log:a:1") == 1


def test_calls_that_another_instance_has_not_checkpointed_are_not_pruned(redis: RedisServer) -> None:
    first, second = RedisLedger(redis.url, "a:1"), RedisLedger(redis.url, "b:1")
    first.add(calls("x"))
    second.add(calls("y"))
    second.checkpoint([])

    assert second.prune(time.time() + 60) == 1

    assert [logged.call.id for logged in second.calls(Query(), limit=9)] == ["x"]
    assert second.add(calls("x")) == []
    assert len(second.add(calls("y"))) == 1, "a call is known as long as it is kept"


def test_a_server_that_lost_all_data_can_be_used_again(redis: RedisServer) -> None:
    ledger = RedisLedger(redis.url, "a:1")
    ledger.add(calls("x"))
    redis.execute("FLUSHALL")

    assert len(ledger.add(calls("x"))) == 1
    assert ledger.totals(Query())[()].calls == 1


def test_a_read_only_ledger_does_not_take_over(redis: RedisServer) -> None:
    service = RedisLedger(redis.url, "a:1")
    service.add(calls("x"))
    redis.execute("CONFIG", "RESETSTAT")

    report = open_ledger(redis.url, read_only=True)

    assert report.totals(Query(), ["model"])[("gpt-5",)].calls == 1
    assert len(service.add(calls("y"))) == 1, "it has not taken over"


# ---- leases


def a_claim(account: str, process: str, **more: Any) -> Claim:
    """Return a claim on an account of 100 tokens."""
    return Claim(account, process, "tokens", **{"limit": 100, "used": 0, **more})


def test_a_request_for_leases_takes_one_round_trip(cutter: Cutter) -> None:
    ledgers = RedisLedger(cutter.url, "a:1"), RedisLedger(cutter.url, "b:1")
    for ledger in ledgers:
        ledger.lease([a_claim("account", "a")], time.time())  # loads the script
    before = cutter.round_trips

    for number in range(5):
        ledger = ledgers[number % 2]  # another service has changed the leases meanwhile
        ledger.lease([a_claim(f"account {one}", f"process {number}") for one in range(20)], time.time())

    assert cutter.round_trips - before == 5
    for ledger in ledgers:
        ledger.close()


def test_services_that_lease_at_the_same_time_lease_no_more_than_what_is_left(redis: RedisServer) -> None:
    accounts = ("one", "two")
    amounts: dict[tuple[str, str], int] = {}
    begin = threading.Barrier(4)
    now = time.time()

    def work(service: int) -> None:
        ledger = RedisLedger(redis.url, f"{service}:1")
        begin.wait(PATIENCE)
        for number in range(200):
            process = f"{service}-{number % 3}"
            claims = [
                a_claim(account, process, wanted=number % 50, ends=number % 7 == 0) for account in accounts
            ]
            for account, grant in zip(accounts, ledger.lease(claims, now), strict=True):
                amounts[account, process] = grant.amount
        for number in range(3):
            for account in accounts:
                process = f"{service}-{number}"
                (grant,) = ledger.lease([a_claim(account, process, wanted=100)], now)
                amounts[account, process] = grant.amount
        ledger.close()

    threads = [threading.Thread(target=work, args=(service,)) for service in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE)

    assert len(amounts) == len(accounts) * 4 * 3
    for account in accounts:
        leased = {process: amount for (one, process), amount in amounts.items() if one == account}
        assert sum(leased.values()) <= 100
        stored = redis.execute("HGETALL", f"llm-exporter:leases:{account}")
        assert {process: int(lease.split()[0]) for process, lease in stored.items()} == {
            process: amount for process, amount in leased.items() if amount
        }


def test_no_leases_take_no_memory(redis: RedisServer) -> None:
    ledger = RedisLedger(redis.url, "a:1")
    now = time.time()
    ledger.lease([a_claim("account", "a"), a_claim("account", "b")], now)
    assert redis.execute("HLEN", "llm-exporter:leases:account") == 2
    assert 0 < redis.execute("TTL", "llm-exporter:leases:account") <= 86400
    ledger.lease([a_claim("account", "b", ends=True)], now + KEPT_SECONDS)
    assert redis.execute("EXISTS", "llm-exporter:leases:account") == 0
    ledger.close()


# ---- expiry


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


# ---- unusable servers


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        (
            "redis://user:se/cr@t@127.0.0.1:1/0",
            r"redis://\*\*\*@127.0.0.1:1/0: invalid Redis URL: ",
        ),
        (
            "redis://127.0.0.1:6379/0?decode_responses=yes",
            "unsupported option: use db,",
        ),
        ("redis://127.0.0.1:6379/0?db=x", r"redis://127.0.0.1:6379/0: invalid Redis URL: "),
        ("unix:///nowhere/redis.sock", r"unix:///nowhere/redis.sock: .*No such file"),
    ],
)
def test_the_error_for_an_invalid_url_hides_the_password(url: str, reason: str) -> None:
    with pytest.raises(LedgerError, match=reason) as caught:
        open_ledger(url, "a:1")

    assert "se/cr" not in str(caught.value)


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("redis://127.0.0.1/0", "redis://127.0.0.1/0"),
        ("redis://:s3cr3t@host:1/0", "redis://***@host:1/0"),
        ("rediss://me:p@:ss/@host:1/0", "rediss://***@host:1/0"),
        ("unix://me:s3cr3t@/run/redis.sock?password=s3cr3t", "unix://***@/run/redis.sock"),
        ("redis://s3cr3t@host:1/0", "redis://***@host:1/0"),
        ("redis://me:s3?cr3t@host:1/0", "redis://***"),
        ("redis://me:s3#cr 3t%@host:1/0", "redis://***@host:1/0"),
        ("redis://me:s3cr3t", "redis://***"),
        ("redis://host/0?password=s3@cr3t", "redis://***"),
        ("unix:///run/s?password=s3@cr3t", "unix://***"),
    ],
)
def test_a_masked_url_has_no_password(url: str, shown: str) -> None:
    assert masked(url) == shown


@pytest.mark.parametrize("character", ["@", ":", "/", "?", "#", "%", " ", "[", "\\", "\n"])
@pytest.mark.parametrize(
    "form",
    [
        "redis://me:{}@127.0.0.1:1/0",
        "redis://:{}@127.0.0.1:1",
        "redis://127.0.0.1:1/0?password={}",
        "redis:/me:{}@127.0.0.1:1/0",
        "redis:me:{}@127.0.0.1",
        "rediss:///me:{}@127.0.0.1",
        ":{}@127.0.0.1",
        "REDIS://me:{}@127.0.0.1",
    ],
)
def test_no_error_and_no_file_contains_a_password(
    form: str, character: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    store = form.format(f"s3cr3t{character}pa55")

    with pytest.raises(LedgerError) as caught:
        open_ledger(store, "a:1")

    assert not re.search("s3cr3t|pa55", str(caught.value)), str(caught.value)
    assert not any(tmp_path.iterdir())
    (tmp_path / "llm-exporter.yml").write_text(f"store: {json.dumps(store)}\n")
    with suppress(ConfigError):
        load(tmp_path / "llm-exporter.yml")
        return
    with pytest.raises(ConfigError) as refused:
        load(tmp_path / "llm-exporter.yml")
    assert not re.search("s3cr3t|pa55", str(refused.value)), str(refused.value)


def test_a_path_with_a_colon_begins_with_a_dot_or_a_slash(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(LedgerError, match=r"must be a redis:// URL .*begin a relative path .* with \./$"):
        open_ledger("a:b.db")
    open_ledger("./a:b.db").close()
    open_ledger(f"sqlite://{tmp_path}/c:d.db").close()
    assert (tmp_path / "a:b.db").exists()
    assert (tmp_path / "c:d.db").exists()


def test_the_error_names_an_unavailable_server() -> None:
    port = free_port()
    with pytest.raises(LedgerError, match=f"^redis://127.0.0.1:{port}/0: .*refused"):
        open_ledger(f"redis://127.0.0.1:{port}/0", "a:1")


def test_the_error_for_a_wrong_password_hides_it(tmp_path: Path) -> None:
    with RedisServer(tmp_path, requirepass="s3cr3t") as redis:
        for userinfo, reason in (("", "Authentication required"), (":wr0ng@", "invalid username-password")):
            with pytest.raises(LedgerError, match=f"^redis://.*127.0.0.1.*{reason}") as caught:
                open_ledger(redis.url.replace("//", f"//{userinfo}"), "a:1")
            assert "wr0ng" not in str(caught.value)

        ledger = open_ledger(redis.url.replace("//", "//default:s3cr3t@"), "a:1")
        assert len(ledger.add(calls("x"))) == 1
        ledger.close()


def test_unix_sockets_and_other_databases_are_supported(tmp_path: Path) -> None:
    with RedisServer(tmp_path, unixsocket=str(tmp_path / "s")) as redis:
        ledger = open_ledger(f"unix://{tmp_path}/s?db=3", "a:1")
        assert len(ledger.add(calls("x"))) == 1
        ledger.close()
        assert open_ledger(redis.url, "a:1").totals(Query()) == {}
        assert open_ledger(f"{redis.url[:-1]}3", "a:1").totals(Query())[()].calls == 1


def test_a_server_that_is_not_redis_is_an_error() -> None:
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), http.server.SimpleHTTPRequestHandler) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        with pytest.raises(LedgerError, match=f"^redis://127.0.0.1:{server.server_port}: ."):
            open_ledger(f"redis://127.0.0.1:{server.server_port}", "a:1")
        server.shutdown()


def test_a_replica_serves_reports_only(redis: RedisServer, tmp_path: Path) -> None:
    RedisLedger(redis.url, "a:1").add(calls("x"))
    (tmp_path / "replica").mkdir()
    with RedisServer(tmp_path / "replica", replicaof=f"127.0.0.1 {redis.port}") as replica:
        assert redis.execute("WAIT", 1, 20_000) == 1
        with pytest.raises(LedgerError, match="read only replica"):
            open_ledger(replica.url, "a:1")
        report = open_ledger(replica.url, read_only=True)
        assert report.totals(Query())[()].calls == 1
        assert [logged.call.id for logged in report.calls(Query(since=0.0), limit=9)] == ["x"]


def test_a_server_that_evicts_keys_is_refused(tmp_path: Path) -> None:
    with (
        RedisServer(tmp_path, maxmemory="100mb", **{"maxmemory-policy": "allkeys-lru"}) as redis,
        pytest.raises(LedgerError, match=r"maxmemory-policy allkeys-lru.: set maxmemory-policy noeviction"),
    ):
        open_ledger(redis.url, "a:1")


def test_a_server_without_an_append_only_file_causes_a_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with RedisServer(tmp_path, appendonly="no") as redis:
        open_ledger(redis.url, "a:1").close()

    assert "a crash loses calls since the last snapshot: set appendonly yes" in caplog.text


def test_a_full_server_stores_a_whole_batch_or_nothing(redis: RedisServer) -> None:
    ledger = RedisLedger(redis.url, "a:1")
    intake = Intake(Config(), ledger)
    intake.submit(calls("known")).result(PATIENCE)
    redis.execute("CONFIG", "SET", "maxmemory", "1mb")

    with pytest.raises(LedgerError, match="used memory > 'maxmemory'"):
        intake.submit(calls("x", "y")).result(PATIENCE)
    assert ledger.totals(Query())[()].calls == 1

    redis.execute("CONFIG", "SET", "maxmemory", "0")
    assert intake.submit(calls("x", "y")).result(PATIENCE) == Receipt(accepted=2, duplicates=0)
    assert counted(intake) == (3, 1.5, 0)
    intake.close()


@pytest.mark.parametrize("key", ["started", "calls", "log:a:1", "rules"])
def test_a_key_of_a_wrong_type_stores_nothing(redis: RedisServer, key: str) -> None:
    ledger = RedisLedger(redis.url, "a:1")
    redis.execute("SET", f"llm-exporter:{key}", "x")

    with pytest.raises(LedgerError, match=f"llm-exporter:{key} is a string|WRONGTYPE"):
        ledger.add([*calls("x"), *calls("y", labels={"session": "s"})])

    redis.execute("DEL", f"llm-exporter:{key}")
    assert ledger.totals(Query(since=span_of("month", time.time()).start)) == {}
    assert len(ledger.add([*calls("x"), *calls("y", labels={"session": "s"})])) == 2
    ledger.close()


def test_the_error_without_redis_py_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "llm_exporter.service.ledger.redis")
    monkeypatch.setitem(sys.modules, "redis", None)

    with pytest.raises(LedgerError, match=r"pip install 'llm-exporter\[redis\]'"):
        open_ledger("redis://127.0.0.1", "a:1")


def test_an_unsupported_store_is_a_configuration_error(tmp_path: Path) -> None:
    file = tmp_path / "llm-exporter.yml"
    file.write_text("retention: 7d\nstore: postgres://me:s3cr3t@host/db\n")

    with pytest.raises(ConfigError) as caught:
        load(file)
    assert str(caught.value) == (
        f"{file}:2: store: must be a redis:// URL or the path of an SQLite file, not postgres://;"
        " begin a relative path that contains a colon with ./"
    )
    with pytest.raises(LedgerError, match=r"^store: must be .* not postgres://;") as opened:
        open_ledger("postgres://me:s3cr3t@host/db")
    assert "s3cr3t" not in str(opened.value)
    file.write_text("store: rediss://me:s3cr3t@host/0\n")
    assert load(file).store == "rediss://me:s3cr3t@host/0"


# ---- a server that hangs


@pytest.fixture
def stopped(redis: RedisServer) -> Iterator[Callable[[], None]]:
    """Stop the server until the end of the test."""
    yield lambda: redis._process.send_signal(signal.SIGSTOP)
    redis._process.send_signal(signal.SIGCONT)


def test_nothing_that_is_shown_waits_for_a_server_that_hangs(
    redis: RedisServer, stopped: Callable[[], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("llm_exporter.service.ledger.redis._TIMEOUT_SECONDS", 3600.0)
    monkeypatch.setattr("llm_exporter.service.readiness._FRESH_SECONDS", -1.0)
    monkeypatch.setattr("llm_exporter.service.readiness._PATIENCE_SECONDS", -1.0)
    ledger = RedisLedger(redis.url, "a:1")
    intake = Intake(Config(budgets=(budget("9"),)), ledger)
    intake.submit(calls("x")).result(PATIENCE)
    readiness = Readiness(ledger)
    stopped()

    text = b"".join(intake.metrics.text(scrape=True, openmetrics=False)).decode()
    assert 'llm_budget_limit_usd{budget="all",period="day"} 9.0' in text
    with pytest.raises(LedgerError, match="no answer from the store"):
        asyncio.run(readiness.check())

    receipt = intake.submit(calls("y"))
    redis._process.send_signal(signal.SIGCONT)
    assert receipt.result(PATIENCE) == Receipt(accepted=1, duplicates=0)
    intake.close()


def test_a_server_that_did_not_answer_is_not_asked_again_at_once(
    redis: RedisServer, stopped: Callable[[], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("llm_exporter.service.ledger.redis._TIMEOUT_SECONDS", 0.1)
    monkeypatch.setattr("llm_exporter.service.ledger.redis._SILENCE_SECONDS", 3600.0)
    ledger = RedisLedger(redis.url, "a:1")
    stopped()
    with pytest.raises(LedgerError, match=r"did not answer within 0\.1 seconds"):
        ledger.add(calls("x"))
    redis._process.send_signal(signal.SIGCONT)

    with pytest.raises(LedgerError, match=r"did not answer within 0\.1 seconds"):
        ledger.check()

    monkeypatch.setattr(ledger, "_silent_until", 0.0)
    monkeypatch.setattr(ledger, "_client", RedisLedger(redis.url, "b:1")._client)
    ledger.check()
    ledger.close()


# ---- services and clients in separate processes


@contextmanager
def service(
    store: str, directory: Path, port: int = 0, end: signal.Signals = signal.SIGTERM
) -> Iterator[str]:
    """Run `llm-exporter serve`, and return its URL."""
    command = [sys.executable, "-m", "llm_exporter.cli", "serve", "--port", str(port), "--store", store]
    environment = {**os.environ, "LLM_EXPORTER_SPOOL": str(directory / "spool")}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as process:
        assert process.stdout is not None
        found = re.search(r"http://\S+", process.stdout.readline())
        try:
            assert found, "it has not started"
            yield found[0]
        finally:
            process.send_signal(end)
            process.wait(PATIENCE)


CLIENT = """
import sys, time, llm_exporter
llm_exporter.instrument()
name, number = sys.argv[1], int(sys.argv[2])
for at in range(number):
    with llm_exporter.labels(project=name, session=f"{name}-{at % 3}"):
        llm_exporter.record(provider="openai", model="gpt-5", tokens={"input": 1000, "output": 100})
    if at % 50 == 0:
        time.sleep(0.02)
"""
DOLLARS = 1000 * 1.25e-6 + 100 * 10e-6
"""The cost of one call at the published price of gpt-5."""


def client(url: str, name: str, number: int, directory: Path) -> subprocess.Popen[bytes]:
    """Start a process that records calls and ships them. Calls that it cannot ship stay in the spool."""
    environment = {**os.environ, "LLM_EXPORTER_URL": url, "LLM_EXPORTER_SPOOL": str(directory / "spool")}
    return subprocess.Popen([sys.executable, "-c", CLIENT, name, str(number)], env=environment)


def scraped(*urls: str) -> tuple[float, Any]:
    """Return the calls and the USD in the metrics of all services."""
    number = dollars = 0.0
    for url in urls:
        for family in text_string_to_metric_families(get(f"{url}/metrics").text):
            for sample in family.samples:
                number += sample.value * (sample.name == "llm_calls_total")
                dollars += sample.value * (sample.name == "llm_cost_usd_total")
    return number, dollars


def until(true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def projects(url: str) -> dict[str, tuple[int, float]]:
    """Return the calls and the USD of each project this month."""
    since = span_of("month", time.time()).start
    answer = get(f"{url}/api/v1/cost", params={"since": since, "by": "project"}).json()
    return {one["project"]: (one["calls"], one["cost_usd"]) for one in answer["by_project"]}


def spent(number: int) -> dict[str, tuple[int, Any]]:
    """Return the calls and the USD that each of four clients should have."""
    return {name: (number, pytest.approx(number * DOLLARS)) for name in "abcd"}


def test_reports_and_metrics_of_two_services_include_all_calls(redis: RedisServer, tmp_path: Path) -> None:
    with service(redis.url, tmp_path) as first, service(redis.url, tmp_path) as second:
        urls = first, second
        clients = [client(urls[at % 2], name, 500, tmp_path) for at, name in enumerate("abcd")]
        assert [each.wait(PATIENCE) for each in clients] == [0] * 4
        until(lambda: scraped(*urls)[0] >= 2000)

        assert scraped(*urls) == (2000, pytest.approx(2000 * DOLLARS))
        assert scraped(first) == scraped(second) == (1000, pytest.approx(1000 * DOLLARS))
        assert projects(first) == projects(second) == spent(500)
        usage = get(f"{second}/api/v1/usage?scope=session&id=a-0&period=month").json()["periods"]
        assert [month["calls"] for month in usage] == [167]


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL], ids=lambda how: how.name)
def test_a_restart_of_redis_under_load_loses_and_duplicates_nothing(
    redis: RedisServer, tmp_path: Path, how: signal.Signals
) -> None:
    with service(redis.url, tmp_path) as first, service(redis.url, tmp_path) as second:
        urls = first, second
        clients = [client(urls[at % 2], name, 3000, tmp_path) for at, name in enumerate("abcd")]
        until(lambda: scraped(*urls)[0] > 0)

        redis.stop(how)
        answer = post(f"{first}/api/v1/calls", content=b"[]", headers=JSON)
        assert answer.status_code == 503
        assert "refused" in answer.json()["detail"]
        assert get(f"{second}/-/ready").status_code == 503
        assert get(f"{second}/-/healthy").status_code == 200
        assert scraped(*urls)[0] < 12_000, "there is more to come"
        redis.start()

        assert [each.wait(PATIENCE) for each in clients] == [0] * 4
        until(lambda: scraped(*urls)[0] >= 12_000)
        assert scraped(*urls) == (12_000, pytest.approx(12_000 * DOLLARS))
        assert projects(first) == projects(second) == spent(3000)


def test_metrics_continue_after_a_service_is_killed(redis: RedisServer, tmp_path: Path) -> None:
    port = free_port()
    with service(redis.url, tmp_path, port, end=signal.SIGKILL) as url:
        post(f"{url}/api/v1/calls", content=CALL % b"x", headers=JSON).raise_for_status()
    with service(redis.url, tmp_path, port) as url:
        assert scraped(url) == (1, 0.5)
        post(f"{url}/api/v1/calls", content=CALL % b"x", headers=JSON).raise_for_status()
        post(f"{url}/api/v1/calls", content=CALL % b"y", headers=JSON).raise_for_status()
        assert scraped(url) == (2, 1.0)


JSON = {"content-type": "application/json"}
CALL = b'[{"id": "%b", "provider": "openai", "model": "gpt-5", "operation": "chat", "cost": {"output": 0.5}}]'


def test_a_server_that_syncs_every_second_loses_two_seconds_at_most(tmp_path: Path) -> None:
    acknowledged: list[tuple[float, str]] = []
    with RedisServer(tmp_path, appendfsync="everysec") as redis:
        ledger = RedisLedger(redis.url, "a:1")

        def add() -> None:
            for number in range(1_000_000):
                try:
                    ledger.add(calls(str(number)))
                except LedgerError:
                    return
                acknowledged.append((time.monotonic(), str(number)))

        adding = threading.Thread(target=add)
        adding.start()
        until(lambda: bool(acknowledged) and acknowledged[-1][0] - acknowledged[0][0] > 2.5)
        killed = time.monotonic()
        redis.stop(signal.SIGKILL)
        adding.join(PATIENCE)
        redis.start()

        kept = {logged.call.id for logged in ledger.calls(Query(), limit=1_000_000)}
        assert [name for at, name in acknowledged if name not in kept and at < killed - 2] == []
        assert ledger.totals(Query(since=span_of("month", time.time()).start))[()].calls == len(kept)
        ledger.close()
