"""A shared ledger in a real Redis loses and duplicates nothing, whatever fails."""

from __future__ import annotations

import signal
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from llm_exporter import Call
from llm_exporter.config.model import Config
from llm_exporter.periods import span_of
from llm_exporter.service.intake import Intake
from llm_exporter.service.ledger.base import Claim, LedgerError, Query
from llm_exporter.service.ledger.leasing import KEPT_SECONDS
from llm_exporter.service.ledger.redis import RedisLedger
from llm_exporter.service.ledger.store import open_ledger
from llm_exporter.service.schemas import Receipt
from support.awaiting import DEADLINE, until
from support.calls import calls
from support.redis_server import RedisServer


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
        first.submit(calls("lost")).result(DEADLINE)
    cutter.cut_after = b""

    assert second.submit(calls("lost")).result(DEADLINE) == Receipt(accepted=0, duplicates=1)
    assert first.submit(calls("other")).result(DEADLINE) == Receipt(accepted=1, duplicates=0)

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
        intake.submit(calls("lost")).result(DEADLINE)
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
    assert again.submit(calls("lost")).result(DEADLINE) == Receipt(accepted=0, duplicates=1)
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
        begin.wait(DEADLINE)
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
        thread.join(DEADLINE)

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


# ---- servers that fail


def test_a_full_server_stores_a_whole_batch_or_nothing(redis: RedisServer) -> None:
    ledger = RedisLedger(redis.url, "a:1")
    intake = Intake(Config(), ledger)
    intake.submit(calls("known")).result(DEADLINE)
    redis.execute("CONFIG", "SET", "maxmemory", "1mb")

    with pytest.raises(LedgerError, match="used memory > 'maxmemory'"):
        intake.submit(calls("x", "y")).result(DEADLINE)
    assert ledger.totals(Query())[()].calls == 1

    redis.execute("CONFIG", "SET", "maxmemory", "0")
    assert intake.submit(calls("x", "y")).result(DEADLINE) == Receipt(accepted=2, duplicates=0)
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
        adding.join(DEADLINE)
        redis.start()

        kept = {logged.call.id for logged in ledger.calls(Query(), limit=1_000_000)}
        assert [name for at, name in acknowledged if name not in kept and at < killed - 2] == []
        assert ledger.totals(Query(since=span_of("month", time.time()).start))[()].calls == len(kept)
        ledger.close()
