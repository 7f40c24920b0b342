"""The ledger in an SQLite file.

The metrics are derived from the calls: after a restart they are the last checkpoint and the calls after it.
So both agree, whenever the process was killed.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from threading import Lock
from typing import IO, Any, Final

import msgspec
from typing_extensions import override

from ...call import Call
from ...file_lock import lock
from ...metrics.saved_sample import SavedSample
from ...metrics.zero_first import SeriesKey
from ...periods import HOUR, Window, span_of
from .base import (
    Charge,
    Charges,
    Leases,
    Ledger,
    LedgerError,
    Logged,
    Query,
    Spent,
    Totals,
    dimension,
    no_charges,
    totals_of,
)
from .sqlite_queries import ADD_UP, COLUMNS, SPANS, TOTALS, report, where
from .sqlite_schema import APPLICATION_ID, MIGRATIONS

_MAX_IDS: Final = 500
"""Ids in one query, well below SQLite's limit of parameters."""
_INSERT: Final = f"INSERT INTO calls VALUES (NULL, {', '.join('?' * 17)})"  # noqa: S608  # marks only
_CHARGE: Final = (
    "INSERT INTO accounts VALUES (?, ?, ?, ?) ON CONFLICT (account) DO UPDATE SET"
    " usd = usd + excluded.usd, tokens = tokens + excluded.tokens, expires = max(expires, excluded.expires)"
)

_encode: Final = msgspec.json.Encoder().encode
_decode_call: Final = msgspec.json.Decoder(Call).decode
_decode_leases: Final = msgspec.json.Decoder(Leases).decode
_decode_counted: Final = msgspec.json.Decoder(list[SavedSample]).decode
_decode_series: Final = msgspec.json.Decoder(SeriesKey).decode


class SqliteLedger(Ledger):
    """A ledger in a file. One service can use it at a time, besides any number of read-only users.

    Args:
        path: The file, which is created if it does not exist.
        read_only: Whether only reports are needed. A service may be running on the file.

    Raises:
        LedgerError: The file cannot be used.
    """

    def __init__(self, path: Path, *, read_only: bool = False) -> None:
        self._path = path
        self._writing = Lock()
        self._reading = Lock()
        self._lock: IO[str] | None = None
        with self._errors():
            if not read_only:
                path.parent.mkdir(parents=True, exist_ok=True)
                self._lock = _locked(path)
            elif not path.is_file():
                raise LedgerError(f"{path}: no such ledger")
            self._writer = self._connect(read_only=read_only)
            # Acknowledged calls survive a power failure.
            self._writer.execute("PRAGMA synchronous = FULL")
            self._migrate(read_only=read_only)
            self._reader = self._connect(read_only=True)
            self._leases = self._connect(read_only=read_only)
            # Leases change many times a second. They survive a crash of this process, not a power failure.
            self._leases.execute("PRAGMA synchronous = NORMAL")

    def _connect(self, *, read_only: bool) -> sqlite3.Connection:
        mode = "ro" if read_only else "rwc"
        connection = sqlite3.connect(
            f"{self._path.absolute().as_uri()}?mode={mode}",
            uri=True,
            check_same_thread=False,
            isolation_level=None,
            timeout=30,
        )
        if not read_only:
            connection.execute("PRAGMA journal_mode = WAL")
        connection.create_function("start_of", 2, _start_of, deterministic=True)
        return connection

    def _migrate(self, *, read_only: bool) -> None:
        (version,) = self._writer.execute("PRAGMA user_version").fetchone()
        (application,) = self._writer.execute("PRAGMA application_id").fetchone()
        (tables,) = self._writer.execute("SELECT count(*) FROM sqlite_master").fetchone()
        if tables and application != APPLICATION_ID:
            raise LedgerError(f"{self._path}: an SQLite database, but not an llm-exporter ledger")
        if version > len(MIGRATIONS):
            raise LedgerError(
                f"{self._path}: schema {version} is newer than this llm-exporter supports: upgrade it"
            )
        if read_only:
            if version < len(MIGRATIONS):
                raise LedgerError(
                    f"{self._path}: schema {version} is outdated: start llm-exporter serve once to migrate it"
                )
            return
        for number, script in enumerate(MIGRATIONS[version:], version + 1):
            self._writer.executescript(
                f"BEGIN; {script}; PRAGMA application_id = {APPLICATION_ID};"
                f" PRAGMA user_version = {number}; COMMIT"
            )

    @contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except (sqlite3.Error, OSError) as error:
            raise LedgerError(f"{self._path}: {error}") from error

    @contextmanager
    def _transaction(self, connection: sqlite3.Connection | None = None) -> Iterator[sqlite3.Connection]:
        connection = connection or self._writer
        with self._errors(), self._writing:
            connection.execute("BEGIN IMMEDIATE")
            try:
                yield connection
                connection.execute("COMMIT")
            except BaseException:
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
                raise

    def _read(self, sql: str, parameters: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        with self._errors(), self._reading:
            return self._reader.execute(sql, parameters).fetchall()

    @override
    def add(self, calls: Sequence[Call], charges: Charges = no_charges) -> list[Call]:
        received = time.time()
        by_id = {call.id: call for call in reversed(calls)}  # the first call of an id wins
        with self._transaction() as writer:
            for known in _known(writer, list(by_id)):
                del by_id[known]
            new = list(reversed(by_id.values()))
            (last,) = writer.execute("SELECT coalesce(max(position), 0) FROM calls").fetchone()
            writer.executemany(_INSERT, [_row(call, received) for call in new])
            for span in SPANS:
                writer.execute(ADD_UP.format(span=span, condition="position > ?"), (last,))
            writer.executemany(_CHARGE, _charged(new, charges))
        return new

    @override
    def retain_rules(self, rules: Sequence[str]) -> set[str]:
        known = {rule for (rule,) in self._read("SELECT rule FROM rules")}
        with self._transaction() as writer:
            obsolete = [(rule,) for rule in known - {*rules}]
            writer.executemany("DELETE FROM rules WHERE rule = ?", obsolete)
        return known & {*rules}

    @override
    def open_accounts(self, rule: str, spent: Mapping[Charge, Spent]) -> None:
        with self._transaction() as writer:
            if writer.execute("INSERT OR IGNORE INTO rules VALUES (?)", (rule,)).rowcount:
                rows = [(*charge, *amounts) for charge, amounts in spent.items()]
                writer.executemany("INSERT OR REPLACE INTO accounts VALUES (?, ?, ?, ?)", rows)

    @override
    def accounts(self) -> list[str]:
        rows = self._read("SELECT account FROM accounts WHERE expires > ?", (time.time(),))
        return [account for (account,) in rows]

    @override
    def spent(self, accounts: Sequence[str]) -> list[Spent]:
        marks = ",".join("?" * len(accounts))
        rows = self._read(
            f"SELECT account, usd, tokens FROM accounts WHERE account IN ({marks}) AND expires > ?",  # noqa: S608
            [*accounts, time.time()],
        )
        known = {account: Spent(usd, tokens) for account, usd, tokens in rows}
        return [known.get(account, Spent()) for account in accounts]

    @override
    def delete_accounts(self, accounts: Sequence[str]) -> None:
        with self._transaction() as writer:
            rows = [(account,) for account in accounts]
            writer.executemany("DELETE FROM accounts WHERE account = ?", rows)

    @override
    def update_leases(self, account: str, decide: Callable[[Leases], Leases]) -> None:
        with self._transaction(self._leases) as writer:
            stored = writer.execute("SELECT leases FROM leases WHERE account = ?", (account,)).fetchone()
            leases = decide(_decode_leases(stored[0]) if stored else {})
            expires = max((lease.until for lease in leases.values()), default=0.0)
            writer.execute(
                "INSERT OR REPLACE INTO leases VALUES (?, ?, ?)", (account, expires, _encode(leases).decode())
            )

    @override
    def after_checkpoint(self) -> tuple[list[SavedSample], Iterator[Call]]:
        position, counted = next(iter(self._read("SELECT position, counted FROM checkpoint")), (0, "[]"))
        return _decode_counted(counted), self._after(position)

    def _after(self, position: int) -> Iterator[Call]:
        while rows := self._read(
            "SELECT position, call FROM calls WHERE position > ? ORDER BY position LIMIT 1000", (position,)
        ):
            yield from (_decode_call(call) for _, call in rows)
            position = rows[-1][0]

    @override
    def checkpoint(self, counted: Sequence[SavedSample]) -> None:
        with self._transaction() as writer:
            writer.execute(
                "INSERT OR REPLACE INTO checkpoint SELECT 1, coalesce(max(position), 0), ? FROM calls",
                (_encode(counted).decode(),),
            )

    @override
    def released(self) -> list[SeriesKey]:
        return [_decode_series(series) for (series,) in self._read("SELECT series FROM released")]

    @override
    def release(self, series: Iterable[SeriesKey]) -> None:
        with self._transaction() as writer:
            rows = [(_encode(one).decode(),) for one in series]
            writer.executemany("INSERT OR IGNORE INTO released VALUES (?)", rows)

    @override
    def calls(self, query: Query, *, limit: int, before: int | None = None) -> list[Logged]:
        condition, parameters = where(query)
        if before is not None:
            condition, parameters = f"{condition} AND position < ?", [*parameters, before]
        rows = self._read(
            f"SELECT position, call FROM calls WHERE {condition} ORDER BY position DESC LIMIT ?",  # noqa: S608
            [*parameters, limit],
        )
        return [Logged(position, _decode_call(call)) for position, call in rows]

    @override
    def totals(self, query: Query, by: Sequence[str] = ()) -> dict[tuple[str, ...], Totals]:
        return {key: totals for (_, key), totals in self._report(query, None, by).items()}

    @override
    def periods(
        self, query: Query, period: Window, by: Sequence[str] = ()
    ) -> dict[tuple[float, tuple[str, ...]], Totals]:
        return self._report(query, period, by)

    def _report(
        self, query: Query, period: Window | None, by: Sequence[str]
    ) -> dict[tuple[float, tuple[str, ...]], Totals]:
        statement = report(query, period, by)
        rows = self._read(*statement) if statement else []
        width = 1 + len(by)
        return {
            (float(row[0]), tuple(row[1:width])): Totals(**dict(zip(TOTALS, row[width:], strict=True)))
            for row in rows
        }

    @override
    def session(self, name: str | None) -> str | None:
        condition, parameters = ("session = ?", [name]) if name is not None else ("1", [])
        sql = f"SELECT session FROM calls WHERE {condition} ORDER BY position DESC LIMIT 1"  # noqa: S608
        return next((str(session) for (session,) in self._read(sql, parameters)), None)

    @override
    def reset_session(self, name: str) -> None:
        with self._transaction() as writer:
            writer.execute(
                "INSERT OR REPLACE INTO resets SELECT ?, coalesce(max(position), 0) FROM calls", (name,)
            )

    @override
    def prune(self, before: float) -> int:
        with self._transaction() as writer:
            writer.execute("DELETE FROM accounts WHERE expires < ?", (time.time(),))
            writer.execute("DELETE FROM leases WHERE expires < ?", (time.time(),))
            # The newest call stays: the checkpoint refers to its position.
            pruned = writer.execute(
                "DELETE FROM calls WHERE received < ? AND position <= (SELECT position FROM checkpoint)"
                " AND position < (SELECT max(position) FROM calls) RETURNING started",
                (before,),
            ).fetchall()
            for span in SPANS:
                # Sum up again: subtracting floats would leave rounding errors.
                for start in {int(started) // span * span for (started,) in pruned}:
                    writer.execute("DELETE FROM sums WHERE span = ? AND started = ?", (span, start))
                    within = "started >= ? AND started < ?"
                    writer.execute(ADD_UP.format(span=span, condition=within), (start, start + span))
        return len(pruned)

    @override
    def close(self) -> None:
        for connection in (self._leases, self._reader, self._writer):
            connection.close()
        if self._lock is not None:
            self._lock.close()


@lru_cache(maxsize=100_000)  # hours of a decade: SQLite calls it for every row of a report
def _start_of(window: Window, hour: int) -> float:
    """Return the start of the window that an hour is in; hours are counted from 1970."""
    return span_of(window, hour * HOUR).start


def _locked(path: Path) -> IO[str]:
    """Return a file that is locked as long as it is open, so that a second service cannot count twice."""
    file = path.with_name(f"{path.name}.lock").open("a")
    if not lock(file):
        file.close()
        raise LedgerError(f"{path}: in use by another llm-exporter serve")
    return file


def _known(connection: sqlite3.Connection, ids: list[str]) -> Iterator[str]:
    for first in range(0, len(ids), _MAX_IDS):
        some = ids[first : first + _MAX_IDS]
        marks = ",".join("?" * len(some))
        rows = connection.execute(f"SELECT id FROM calls WHERE id IN ({marks})", some)  # noqa: S608
        yield from [known for (known,) in rows]


def _charged(calls: Sequence[Call], charges: Charges) -> Iterator[tuple[str, float, float, int]]:
    for call in calls:
        for charge in charges(call):
            yield charge.account, charge.expires, call.total_cost, call.total_tokens


def _row(call: Call, received: float) -> tuple[Any, ...]:
    totals = totals_of(call)
    return (
        call.id,
        received,
        call.started,
        *(dimension(call, name) for name in COLUMNS),
        totals.errors,
        totals.cost_usd,
        totals.input_tokens,
        totals.output_tokens,
        totals.unpriced_tokens,
        _encode(call).decode(),
        totals.approximated_tokens,
    )
