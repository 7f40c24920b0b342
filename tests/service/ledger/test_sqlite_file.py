"""What happens to the file of an SQLite ledger: permissions, readiness, pruning, damage."""

from __future__ import annotations

import os
import sqlite3
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from llm_exporter.service.ledger.base import Charge, Claim, LedgerError, Query
from llm_exporter.service.ledger.sqlite import SqliteLedger
from support.awaiting import DEADLINE, until
from support.calls import a_call


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "new" / "ledger.db"


@pytest.fixture
def ledger(path: Path) -> Iterator[SqliteLedger]:
    ledger = SqliteLedger(path)
    yield ledger
    ledger.close()


def damage(path: Path, sql: str) -> None:
    with sqlite3.connect(path, isolation_level=None) as connection:
        connection.execute(sql)
    connection.close()


# ---- permissions


def test_a_new_ledger_belongs_to_its_owner_only(path: Path, ledger: SqliteLedger) -> None:
    ledger.add([a_call()])

    modes = {file.name: file.stat().st_mode & 0o777 for file in [path.parent, *path.parent.iterdir()]}

    assert modes == {
        "new": 0o700,
        **dict.fromkeys(("ledger.db", "ledger.db-wal", "ledger.db-shm", "ledger.db.lock"), 0o600),
    }


def test_an_existing_directory_keeps_its_mode(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    SqliteLedger(tmp_path / "ledger.db").close()
    assert tmp_path.stat().st_mode & 0o777 == 0o755


def test_a_link_in_place_of_the_lock_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "ledger.db.lock").symlink_to(tmp_path / "elsewhere")

    with pytest.raises(LedgerError, match=r"ledger\.db\.lock"):
        SqliteLedger(tmp_path / "ledger.db")

    assert not (tmp_path / "elsewhere").exists()


# ---- readiness


def test_a_ledger_that_takes_calls_is_ready_and_stays_as_it_is(ledger: SqliteLedger) -> None:
    ledger.add([a_call()])
    ledger.check()
    assert len(ledger.calls(Query(), limit=10)) == 1
    assert ledger.totals(Query())[()].calls == 1


def test_a_deleted_file_takes_no_calls(path: Path, ledger: SqliteLedger) -> None:
    ledger.add([a_call()])
    path.unlink()

    for attempt in (ledger.check, lambda: ledger.add([a_call()])):
        with pytest.raises(LedgerError, match="was deleted or replaced while in use"):
            attempt()


def test_a_replaced_file_takes_no_calls(path: Path, ledger: SqliteLedger) -> None:
    other = path.with_name("other.db")
    SqliteLedger(other).close()
    os.replace(other, path)

    with pytest.raises(LedgerError, match="was deleted or replaced while in use"):
        ledger.check()


@pytest.mark.parametrize("first", [0, 4096], ids=["header", "tables"])
def test_a_smashed_file_is_not_ready(path: Path, first: int) -> None:
    SqliteLedger(path).close()
    ledger = SqliteLedger(path)
    with path.open("r+b") as file:
        file.seek(first)
        file.write(b"x" * (os.path.getsize(path) - first))

    with pytest.raises(LedgerError, match=r"not a database|malformed"):
        ledger.check()
    ledger.close()


def test_a_full_disk_is_not_ready(ledger: SqliteLedger, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("llm_exporter.service.ledger.sqlite_file._MIN_FREE_BYTES", 2**62)

    with pytest.raises(LedgerError, match="the disk is full"):
        ledger.check()


# ---- readers and writers


def test_a_slow_report_holds_up_nothing(ledger: SqliteLedger) -> None:
    ledger.add([a_call()])
    reading, done = threading.Event(), threading.Event()

    def report() -> None:
        with ledger._file._reader() as reader:
            rows = reader.execute("SELECT call FROM calls")
            next(rows)
            reading.set()
            done.wait(DEADLINE)

    slow = threading.Thread(target=report)
    slow.start()
    assert reading.wait(DEADLINE)

    ledger.add([a_call()])
    ledger.lease([Claim("a", "process", "tokens", limit=1, used=0)], time.time())
    ledger.check()
    assert ledger.totals(Query())[()].calls == 2
    done.set()
    slow.join(DEADLINE)


def test_closing_ends_a_report(path: Path) -> None:
    ledger = SqliteLedger(path)
    ledger.add([a_call()])
    endless = "WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n) SELECT count(*) FROM n"
    errors: list[Exception] = []

    def report() -> None:
        try:
            ledger._read(endless)
        except LedgerError as error:
            errors.append(error)

    reports = threading.Thread(target=report)
    reports.start()
    while not ledger._file._busy:
        pass
    while reports.is_alive():
        ledger.close()
        reports.join(0.05)
    assert str(errors[0]).endswith(("interrupted", "closed"))


# ---- pruning


def test_calls_are_pruned_a_few_at_a_time(ledger: SqliteLedger, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("llm_exporter.service.ledger.sqlite._SLICE_CALLS", 10)
    started = 1_800_000_000.0
    calls = [a_call(started=started + 60 * number) for number in range(100)]
    for now, some in ((100.0, calls[:35]), (200.0, calls[35:])):
        monkeypatch.setattr("time.time", lambda now=now: now)
        ledger.add(some)
    ledger.checkpoint([])

    assert [ledger.prune(150.0) for _ in range(5)] == [10, 10, 10, 5, 0]

    assert [logged.call for logged in ledger.calls(Query(), limit=200)] == calls[:34:-1]
    assert ledger.totals(Query())[()].calls == 65
    assert ledger.totals(Query(since=started), ["model"])[calls[0].model,].calls == 65


def test_calls_of_a_clock_that_was_ahead_do_not_keep_later_ones(
    ledger: SqliteLedger, monkeypatch: pytest.MonkeyPatch
) -> None:
    for now, number in ((9e9, 2), (100.0, 20), (200.0, 20)):
        monkeypatch.setattr("time.time", lambda now=now: now)
        ledger.add([a_call() for _ in range(number)])
    ledger.checkpoint([])

    assert ledger.prune(150.0) == 20
    assert ledger.totals(Query())[()].calls == 22


def test_the_file_shrinks_when_most_calls_are_pruned(path: Path, ledger: SqliteLedger) -> None:
    for _ in range(5):
        ledger.add([a_call(labels={"note": "x" * 200}) for _ in range(1000)])
    ledger.checkpoint([])
    ledger._file.writer.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    full = path.stat().st_size

    while ledger.prune(4e9):
        pass
    while ledger.shrink():
        pass
    ledger._file.writer.execute("PRAGMA wal_checkpoint(TRUNCATE)")

    assert path.stat().st_size < full / 4


def test_expired_accounts_are_deleted_a_few_at_a_time(
    ledger: SqliteLedger, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("llm_exporter.service.ledger.sqlite._SLICE_ROWS", 2)
    ledger.add([a_call()], lambda _: [Charge(f"old-{number}", 1.0) for number in range(5)])
    ledger.add([a_call()], lambda _: [Charge("new", 9e9)])

    assert [ledger.prune(0.0) for _ in range(4)] == [2, 2, 1, 0]

    assert ledger._read("SELECT account FROM accounts") == [("new",)]


def test_a_slice_of_pruning_reads_only_its_calls(
    ledger: SqliteLedger, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("llm_exporter.service.ledger.sqlite._SLICE_CALLS", 10)
    ledger.add([a_call() for _ in range(5000)])
    ledger.checkpoint([])
    assert ledger.prune(4e9) == 10
    steps: list[None] = []
    for connection in (ledger._file.writer, *ledger._file._idle):
        connection.set_progress_handler(lambda: steps.append(None), 100)
    assert ledger.prune(4e9) == 10
    assert len(steps) < 200


def test_registering_a_rule_reads_no_calls(ledger: SqliteLedger) -> None:
    """However many there are: it holds up all writers."""
    ledger.add([a_call() for _ in range(2000)])
    steps: list[None] = []
    ledger._file.writer.set_progress_handler(lambda: steps.append(None), 100)
    ledger.register_rules(["a", "b"])
    assert len(steps) < 20
    assert ledger.rules_behind() == {"a", "b"}


# ---- the write-ahead log


def frames(ledger: SqliteLedger) -> int:
    """Return the pages in the write-ahead log."""
    ((_, number, _),) = ledger._file.writer.execute("PRAGMA wal_checkpoint(PASSIVE)")
    return int(number)


def test_no_transaction_copies_the_log_and_a_thread_does(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("llm_exporter.service.ledger.sqlite_file._CHECKPOINT_SECONDS", 3600)
    ledger = SqliteLedger(path)
    for _ in range(20):
        ledger.add([a_call(labels={"note": "x" * 200}) for _ in range(200)])
    log = path.with_name(f"{path.name}-wal")
    assert path.stat().st_size < log.stat().st_size / 4, "it is all in the log"
    ledger.close()

    monkeypatch.setattr("llm_exporter.service.ledger.sqlite_file._CHECKPOINT_SECONDS", 0.01)
    ledger = SqliteLedger(path)
    before = path.stat().st_size
    ledger.add([a_call(labels={"note": "x" * 200}) for _ in range(1000)])
    until(lambda: path.stat().st_size > before)
    ledger.close()


def test_the_log_starts_over_once_it_is_copied(ledger: SqliteLedger, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("llm_exporter.service.ledger.sqlite_file._MAX_FRAMES", 50)
    ledger.add([a_call() for _ in range(1000)])
    ledger._file.copy_log()
    ledger.add([a_call()])
    assert 0 < frames(ledger) < 50


# ---- whatever is in the ledger


def test_damaged_calls_are_skipped_counted_once_and_pruned(
    path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    ledger = SqliteLedger(path)
    ledger.add([a_call(labels={"team": "red"}) for _ in range(3)])
    ledger.close()
    damage(path, "UPDATE calls SET call = '{\"id\": 1}' WHERE position = 1")
    damage(path, "UPDATE calls SET call = 'not json' WHERE position = 2")

    ledger = SqliteLedger(path)
    found: list[None] = []
    ledger.report_unreadable(lambda: found.append(None))
    _, replayed = ledger.after_checkpoint()

    assert len(list(replayed)) == 1
    assert len(ledger.calls(Query(), limit=10)) == 1
    assert len(found) == 2
    assert "skipped call 2, which is damaged: " in caplog.text
    assert sum(totals.calls for totals in ledger.totals(Query(), ["team"]).values()) == 3
    ledger.checkpoint([])
    assert ledger.prune(4e9) == 2
    ledger.close()


def test_sums_stop_at_the_largest_integer(path: Path) -> None:
    ledger = SqliteLedger(path)
    ledger.add([a_call(), a_call()])
    ledger.close()
    for table in ("sums", "calls"):
        damage(path, f"UPDATE {table} SET input_tokens = {2**63 - 1}")  # noqa: S608

    ledger = SqliteLedger(path)
    ledger.add([a_call(), a_call()])

    assert ledger.totals(Query())[()].input_tokens == 2**63 - 1
    assert ledger.totals(Query(), ["session"]).popitem()[1].input_tokens == 2**63 - 1
    ledger.close()
