"""Which Redis servers a ledger can use, what the errors say, and a server that hangs."""

from __future__ import annotations

import asyncio
import http.server
import json
import re
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from llm_exporter.config.loading import load
from llm_exporter.config.model import Config
from llm_exporter.errors import ConfigError
from llm_exporter.service.intake import Intake
from llm_exporter.service.ledger.base import LedgerError, Query
from llm_exporter.service.ledger.redis import RedisLedger, masked
from llm_exporter.service.ledger.store import open_ledger
from llm_exporter.service.readiness import Readiness
from llm_exporter.service.schemas import Receipt
from support.awaiting import DEADLINE
from support.budgets import budget
from support.calls import calls
from support.redis_server import RedisServer
from tools.stack import free_port


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
    intake.submit(calls("x")).result(DEADLINE)
    readiness = Readiness(ledger)
    stopped()

    text = b"".join(intake.metrics.text(scrape=True, openmetrics=False)).decode()
    assert 'llm_budget_limit_usd{budget="all",period="day"} 9.0' in text
    with pytest.raises(LedgerError, match="no answer from the store"):
        asyncio.run(readiness.check())

    receipt = intake.submit(calls("y"))
    redis._process.send_signal(signal.SIGCONT)
    assert receipt.result(DEADLINE) == Receipt(accepted=1, duplicates=0)
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
