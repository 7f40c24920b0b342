"""Redis is killed in the middle of a write, started, and killed again: each call is stored once."""

from __future__ import annotations

import signal
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from llm_exporter import Call
from llm_exporter.service.ledger.base import LedgerError, Query, Totals
from llm_exporter.service.ledger.redis import RedisLedger
from support.awaiting import DEADLINE, until
from support.redis_server import RedisServer

CALLS = [
    Call(id=name, provider="openai", model="gpt-5", operation="chat", cost={"output": 0.5})
    for name in "abcde"
]


def killed_while_adding(
    redis: RedisServer, directory: Path, missing_bytes: int, before: Sequence[Call] = ()
) -> None:
    """Leave a file behind that ends in the middle of the transaction that adds the calls.

    Args:
        redis: The server.
        directory: Where it has its files.
        missing_bytes: The bytes of the transaction that were not written.
        before: Calls that were added, and acknowledged, before.
    """
    RedisLedger(redis.url, "a:1").close()  # a rewrite starts another file
    with_calls = RedisLedger(redis.url, "a:1")
    with_calls.add(before)
    with_calls.add(CALLS)
    with_calls.close()
    redis.stop(signal.SIGKILL)
    file = max(directory.glob("appendonlydir/*.incr.aof"), key=lambda file: file.stat().st_mtime)
    content = file.read_bytes()
    file.write_bytes(content[: len(content) - missing_bytes])
    redis.start()


def totals(ledger: RedisLedger) -> Totals:
    return ledger.totals(Query())[()]


@pytest.mark.parametrize("missing_bytes", [1, 20, 120, 500])
def test_calls_are_stored_once(redis: RedisServer, tmp_path: Path, missing_bytes: int) -> None:
    killed_while_adding(redis, tmp_path, missing_bytes)
    ledger = RedisLedger(redis.url, "a:1")
    assert ledger.add(CALLS) == CALLS
    redis.stop(signal.SIGKILL)
    redis.start()

    assert ledger.add(CALLS) == []
    assert (totals(ledger).calls, totals(ledger).cost_usd) == (5, 2.5)
    assert redis.execute("XLEN", "llm-exporter:calls") == 5


def test_a_connection_from_before_the_start_writes_nothing_before_the_rewrite(
    redis: RedisServer, tmp_path: Path
) -> None:
    ledger = RedisLedger(redis.url, "b:1")
    killed_while_adding(redis, tmp_path, 120)
    assert ledger.add(CALLS) == CALLS
    redis.stop(signal.SIGKILL)
    redis.start()
    assert totals(ledger).calls == 5


def test_calls_are_stored_once_if_redis_is_killed_again_while_it_rewrites_its_file(
    redis: RedisServer, tmp_path: Path
) -> None:
    redis.options["rdb-key-save-delay"] = "300000"  # µs, for each of at least 10 keys
    killed_while_adding(redis, tmp_path, 20, before=CALLS[:1])
    with ThreadPoolExecutor() as threads:
        connecting = threads.submit(RedisLedger, redis.url, "a:1")
        until(lambda: redis.execute("INFO", "persistence")["aof_rewrite_in_progress"] == 1)
        redis.stop(signal.SIGKILL)
        assert isinstance(connecting.exception(DEADLINE), LedgerError)
    del redis.options["rdb-key-save-delay"]

    with pytest.raises(AssertionError, match="Fatal error: the truncated file is not the last file"):
        redis.start()
    redis.start()  # the first start has repaired the file

    ledger = RedisLedger(redis.url, "a:1")
    assert totals(ledger).calls == 1, "no acknowledged call is lost"
    assert ledger.add(CALLS) == CALLS[1:]
    redis.stop(signal.SIGKILL)
    redis.start()
    assert (totals(ledger).calls, totals(ledger).cost_usd) == (5, 2.5)
    assert redis.execute("XLEN", "llm-exporter:calls") == 5


def test_requests_wait_for_two_seconds_and_the_first_connection_until_the_rewrite_is_done(
    redis: RedisServer,
) -> None:
    ledger = RedisLedger(redis.url, "a:1")
    ledger.add(CALLS)
    redis.stop(signal.SIGKILL)
    redis.options["rdb-key-save-delay"] = "300000"  # µs, for each of at least 10 keys
    redis.start()
    with pytest.raises(LedgerError, match="Redis has restarted and is rewriting its append-only file"):
        ledger.add(CALLS)
    assert redis.execute("GET", "llm-exporter:rewritten") != redis.execute("INFO", "server")["run_id"]

    other = RedisLedger(redis.url, "b:1")
    assert redis.execute("GET", "llm-exporter:rewritten") == redis.execute("INFO", "server")["run_id"]
    assert ledger.add(CALLS) == []
    assert totals(other).calls == 5


def test_a_file_is_rewritten_once_and_not_by_reports(redis: RedisServer) -> None:
    RedisLedger(redis.url, read_only=True).close()
    assert rewrites(redis) == 0
    for instance in ("a:1", "b:1"):
        RedisLedger(redis.url, instance).close()
    assert rewrites(redis) == 1


def rewrites(redis: RedisServer) -> int:
    return int(redis.execute("INFO", "persistence")["aof_rewrites"])


def test_a_server_that_must_not_rewrite_its_file_is_used_and_the_log_says_so(
    redis: RedisServer, caplog: pytest.LogCaptureFixture
) -> None:
    redis.execute("ACL", "SETUSER", "default", "-bgrewriteaof")
    ledger = RedisLedger(redis.url, "a:1")
    assert ledger.add(CALLS) == CALLS
    assert "cannot rewrite the append-only file (BGREWRITEAOF: " in caplog.text
    assert "no permissions to run the 'bgrewriteaof' command" in caplog.text
