"""The ledger in an SQLite file.

The calls are a log, and the metrics a fold of it: after a restart they are the last checkpoint and the calls
that came after it, so that both always agree, whenever the process was killed.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from math import ceil, inf
from pathlib import Path
from threading import Lock
from typing import IO, Any, Final

import msgspec

from ...call import UNATTRIBUTED, Call
from ...file_lock import lock
from ...metrics.saved_sample import SavedSample
from ...metrics.zero_first import SeriesKey
from .base import (
    DEFAULT,
    Charge,
    Leases,
    LedgerError,
    Logged,
    Period,
    Query,
    Spent,
    Totals,
    totals_of,
)

_MIGRATIONS: Final = (
    """
    CREATE TABLE calls (
        position INTEGER PRIMARY KEY AUTOINCREMENT,
        id TEXT NOT NULL UNIQUE,
        received REAL NOT NULL,
        started REAL NOT NULL,
        provider TEXT NOT NULL,
        model TEXT NOT NULL,
        operation TEXT NOT NULL,
        agent TEXT NOT NULL,
        phase TEXT NOT NULL,
        project TEXT NOT NULL,
        session TEXT NOT NULL,
        errors INTEGER NOT NULL,
        cost_usd REAL NOT NULL,
        input_tokens INTEGER NOT NULL,
        output_tokens INTEGER NOT NULL,
        unpriced_tokens INTEGER NOT NULL,
        call TEXT NOT NULL  -- all of it, as JSON
    ) STRICT;
    CREATE INDEX calls_by_start ON calls (started);
    CREATE INDEX calls_by_session ON calls (session, position);
    CREATE TABLE checkpoint (
        only INTEGER PRIMARY KEY CHECK (only = 1),
        position INTEGER NOT NULL,
        counted TEXT NOT NULL
    ) STRICT;
    CREATE TABLE released (series TEXT PRIMARY KEY) STRICT, WITHOUT ROWID;
    CREATE TABLE resets (session TEXT PRIMARY KEY, position INTEGER NOT NULL) STRICT, WITHOUT ROWID;
    """,
    """
    CREATE TABLE accounts (
        account TEXT PRIMARY KEY,
        expires REAL NOT NULL,
        usd REAL NOT NULL,
        tokens INTEGER NOT NULL
    ) STRICT, WITHOUT ROWID;
    CREATE TABLE rules (rule TEXT PRIMARY KEY) STRICT, WITHOUT ROWID;
    """,
    """
    CREATE TABLE sums (  -- what the calls of each day and of each hour came to
        span INTEGER NOT NULL,  -- seconds of it
        started INTEGER NOT NULL,
        provider TEXT NOT NULL,
        model TEXT NOT NULL,
        operation TEXT NOT NULL,
        agent TEXT NOT NULL,
        phase TEXT NOT NULL,
        project TEXT NOT NULL,
        calls INTEGER NOT NULL,
        errors INTEGER NOT NULL,
        cost_usd REAL NOT NULL,
        input_tokens INTEGER NOT NULL,
        output_tokens INTEGER NOT NULL,
        unpriced_tokens INTEGER NOT NULL,
        PRIMARY KEY (span, started, provider, model, operation, agent, phase, project)
    ) STRICT, WITHOUT ROWID;
    INSERT INTO sums
        SELECT value, CAST(started AS INTEGER) / value * value,
            provider, model, operation, agent, phase, project,
            count(*), sum(errors), sum(cost_usd), sum(input_tokens), sum(output_tokens), sum(unpriced_tokens)
        FROM calls, json_each('[86400, 3600]') GROUP BY 1, 2, 3, 4, 5, 6, 7, 8;
    """,
    """
    CREATE TABLE leases (
        account TEXT PRIMARY KEY,
        expires REAL NOT NULL,
        leases TEXT NOT NULL  -- of all processes, as JSON
    ) STRICT, WITHOUT ROWID;
    """,
)
"""What makes each version of the schema from the one before; `user_version` says how many have been made."""

_APPLICATION_ID: Final = 0x6C6C6D65  # "llme": whose file it is
_SUMMED_BY: Final = ("provider", "model", "operation", "agent", "phase", "project")
_COLUMNS: Final = (*_SUMMED_BY, "session")
_DAY: Final = 86400
_HOUR: Final = 3600
_SPANS: Final[dict[Period | None, tuple[int, ...]]] = {
    None: (_DAY, _HOUR),
    "hour": (_HOUR,),
    "day": (_DAY, _HOUR),
    "month": (_DAY, _HOUR),
}
"""Which sums a report by a period is made of, the longest first."""
_SUMS: Final = ("errors", "cost_usd", "input_tokens", "output_tokens", "unpriced_tokens")
_PERIODS: Final[dict[Period, str]] = {
    "hour": "%Y-%m-%d %H:00:00",
    "day": "%Y-%m-%d 00:00:00",
    "month": "%Y-%m-01 00:00:00",
}
_IDS_AT_ONCE: Final = 500

_encode: Final = msgspec.json.Encoder().encode
_decode_call: Final = msgspec.json.Decoder(Call).decode
_decode_leases: Final = msgspec.json.Decoder(Leases).decode
_decode_counted: Final = msgspec.json.Decoder(list[SavedSample]).decode
_decode_series: Final = msgspec.json.Decoder(SeriesKey).decode


class SqliteLedger:
    """A ledger in a file, for one service at a time; anyone may read along.

    Args:
        path: made when it is not there.
        read_only: for reports beside a running service.
    """

    def __init__(self, path: Path, *, read_only: bool = False) -> None:
        self._path = path
        self._writing = Lock()
        self._reading = Lock()
        self._lock: IO[str] | None = None
        self.charges: Callable[[Call], Iterable[Charge]] = lambda _: ()
        with self._errors():
            if not read_only:
                path.parent.mkdir(parents=True, exist_ok=True)
                self._lock = _locked(path)
            elif not path.is_file():
                raise LedgerError(f"{path}: there is no ledger here")
            self._writer = self._connect(read_only=read_only)
            # What is acknowledged is on disk, also when the power fails.
            self._writer.execute("PRAGMA synchronous = FULL")
            self._migrate(read_only=read_only)
            self._reader = self._connect(read_only=True)
            self._leases = self._connect(read_only=read_only)
            # Leases change many times a second, and outlive this process but not a power failure.
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
        return connection

    def _migrate(self, *, read_only: bool) -> None:
        (version,) = self._writer.execute("PRAGMA user_version").fetchone()
        (application,) = self._writer.execute("PRAGMA application_id").fetchone()
        (tables,) = self._writer.execute("SELECT count(*) FROM sqlite_master").fetchone()
        if tables and application != _APPLICATION_ID:
            raise LedgerError(f"{self._path}: an SQLite file, and not a ledger of llm-exporter")
        if version > len(_MIGRATIONS):
            raise LedgerError(
                f"{self._path}: written by a newer llm-exporter (schema {version}): upgrade this one"
            )
        if read_only:
            if version < len(_MIGRATIONS):
                raise LedgerError(
                    f"{self._path}: an older ledger (schema {version}): start the service on it once"
                )
            return
        for number, script in enumerate(_MIGRATIONS[version:], version + 1):
            self._writer.executescript(
                f"BEGIN; {script}; PRAGMA application_id = {_APPLICATION_ID};"
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

    def add(self, calls: Sequence[Call]) -> list[Call]:
        """See `Ledger.add`."""
        received = time.time()
        by_id = {call.id: call for call in reversed(calls)}  # the first one of an id counts
        with self._transaction() as writer:
            for known in _known(writer, list(by_id)):
                del by_id[known]
            new = list(reversed(by_id.values()))
            (last,) = writer.execute("SELECT coalesce(max(position), 0) FROM calls").fetchone()
            writer.executemany(_INSERT, [_row(call, received) for call in new])
            for span in (_DAY, _HOUR):
                writer.execute(_SUM_UP.format(span=span, which="position > ?"), (last,))
            writer.executemany(_CHARGE, self._charged(new))
        return new

    def _charged(self, calls: Sequence[Call]) -> Iterator[tuple[str, float, float, int]]:
        for call in calls:
            for charge in self.charges(call):
                yield charge.account, charge.expires, call.total_cost, call.total_tokens

    def begun(self, rules: Sequence[str]) -> set[str]:
        """See `Ledger.begun`."""
        known = {rule for (rule,) in self._read("SELECT rule FROM rules")}
        with self._transaction() as writer:
            gone = [(rule,) for rule in known - {*rules}]
            writer.executemany("DELETE FROM rules WHERE rule = ?", gone)
        return known & {*rules}

    def begin(self, rule: str, spent: Mapping[Charge, Spent]) -> None:
        """See `Ledger.begin`."""
        with self._transaction() as writer:
            if writer.execute("INSERT OR IGNORE INTO rules VALUES (?)", (rule,)).rowcount:
                rows = [(*charge, *came_to) for charge, came_to in spent.items()]
                writer.executemany("INSERT OR REPLACE INTO accounts VALUES (?, ?, ?, ?)", rows)

    def accounts(self) -> list[str]:
        """See `Ledger.accounts`."""
        rows = self._read("SELECT account FROM accounts WHERE expires > ?", (time.time(),))
        return [account for (account,) in rows]

    def spent(self, accounts: Sequence[str]) -> list[Spent]:
        """See `Ledger.spent`."""
        marks = ",".join("?" * len(accounts))
        rows = self._read(
            f"SELECT account, usd, tokens FROM accounts WHERE account IN ({marks}) AND expires > ?",  # noqa: S608
            [*accounts, time.time()],
        )
        known = {account: Spent(usd, tokens) for account, usd, tokens in rows}
        return [known.get(account, Spent()) for account in accounts]

    def forget(self, accounts: Sequence[str]) -> None:
        """See `Ledger.forget`."""
        with self._transaction() as writer:
            rows = [(account,) for account in accounts]
            writer.executemany("DELETE FROM accounts WHERE account = ?", rows)

    def lease(self, account: str, decide: Callable[[Leases], Leases]) -> None:
        """See `Ledger.lease`."""
        with self._transaction(self._leases) as writer:
            there = writer.execute("SELECT leases FROM leases WHERE account = ?", (account,)).fetchone()
            leases = decide(_decode_leases(there[0]) if there else {})
            expires = max((lease.until for lease in leases.values()), default=0.0)
            writer.execute(
                "INSERT OR REPLACE INTO leases VALUES (?, ?, ?)", (account, expires, _encode(leases).decode())
            )

    def after_checkpoint(self) -> tuple[list[SavedSample], Iterator[Call]]:
        """See `Ledger.after_checkpoint`."""
        position, counted = next(iter(self._read("SELECT position, counted FROM checkpoint")), (0, "[]"))
        return _decode_counted(counted), self._after(position)

    def _after(self, position: int) -> Iterator[Call]:
        while rows := self._read(
            "SELECT position, call FROM calls WHERE position > ? ORDER BY position LIMIT 1000", (position,)
        ):
            yield from (_decode_call(call) for _, call in rows)
            position = rows[-1][0]

    def checkpoint(self, counted: Sequence[SavedSample]) -> None:
        """See `Ledger.checkpoint`."""
        with self._transaction() as writer:
            writer.execute(
                "INSERT OR REPLACE INTO checkpoint SELECT 1, coalesce(max(position), 0), ? FROM calls",
                (_encode(counted).decode(),),
            )

    def released(self) -> list[SeriesKey]:
        """See `Ledger.released`."""
        return [_decode_series(series) for (series,) in self._read("SELECT series FROM released")]

    def release(self, series: Iterable[SeriesKey]) -> None:
        """See `Ledger.release`."""
        with self._transaction() as writer:
            rows = [(_encode(one).decode(),) for one in series]
            writer.executemany("INSERT OR IGNORE INTO released VALUES (?)", rows)

    def calls(self, query: Query, *, limit: int, before: int | None = None) -> list[Logged]:
        """See `Ledger.calls`."""
        where, parameters = _where(query)
        if before is not None:
            where, parameters = f"{where} AND position < ?", [*parameters, before]
        rows = self._read(
            f"SELECT position, call FROM calls WHERE {where} ORDER BY position DESC LIMIT ?",  # noqa: S608
            [*parameters, limit],
        )
        return [Logged(position, _decode_call(call)) for position, call in rows]

    def totals(self, query: Query, by: Sequence[str] = ()) -> dict[tuple[str, ...], Totals]:
        """See `Ledger.totals`."""
        return {key: totals for (_, key), totals in self._grouped(query, None, by).items()}

    def periods(
        self, query: Query, period: Period, by: Sequence[str] = ()
    ) -> dict[tuple[float, tuple[str, ...]], Totals]:
        """See `Ledger.periods`."""
        return self._grouped(query, period, by)

    def _grouped(
        self, query: Query, period: Period | None, by: Sequence[str]
    ) -> dict[tuple[float, tuple[str, ...]], Totals]:
        start = f"unixepoch(strftime('{_PERIODS[period]}', started, 'unixepoch'))" if period else "0"
        bounds: list[float] = []
        if query.session is None and {*by, *query.match} <= {*_SUMMED_BY}:
            since = -inf if query.since is None else query.since
            until = inf if query.until is None else query.until
            parts = [*_parts(since, until, _SPANS[period])]
            if not parts:
                return {}
            source = " UNION ALL ".join(sql for sql, _ in parts)
            bounds = [bound for _, pair in parts for bound in pair]
            query = msgspec.structs.replace(query, since=None, until=None)
        else:
            source = "SELECT *, 1 AS calls FROM calls"
        where, parameters = _where(query)
        keys = [_column(name) for name in by]
        sums = ", ".join(f"sum({name})" for name in ("calls", *_SUMS))
        groups = ", ".join(str(number + 1) for number in range(1 + len(by)))
        rows = self._read(
            f"SELECT {', '.join([start, *(sql for sql, _ in keys)])}, {sums}"  # noqa: S608
            f" FROM ({source}) WHERE {where} GROUP BY {groups} ORDER BY {groups}",
            [*(parameter for _, more in keys for parameter in more), *bounds, *parameters],
        )
        width = 1 + len(by)
        return {
            (float(row[0]), tuple(row[1:width])): Totals(
                **dict(zip(("calls", *_SUMS), row[width:], strict=True))
            )
            for row in rows
        }

    def session(self, name: str | None) -> str | None:
        """See `Ledger.session`."""
        where, parameters = ("session = ?", [name]) if name is not None else ("1", [])
        sql = f"SELECT session FROM calls WHERE {where} ORDER BY position DESC LIMIT 1"  # noqa: S608
        return next((str(session) for (session,) in self._read(sql, parameters)), None)

    def reset_session(self, name: str) -> None:
        """See `Ledger.reset_session`."""
        with self._transaction() as writer:
            writer.execute(
                "INSERT OR REPLACE INTO resets SELECT ?, coalesce(max(position), 0) FROM calls", (name,)
            )

    def prune(self, before: float) -> int:
        """See `Ledger.prune`."""
        with self._transaction() as writer:
            writer.execute("DELETE FROM accounts WHERE expires < ?", (time.time(),))
            writer.execute("DELETE FROM leases WHERE expires < ?", (time.time(),))
            # The newest one stays: what is checkpointed is counted by its position.
            gone = writer.execute(
                "DELETE FROM calls WHERE received < ? AND position <= (SELECT position FROM checkpoint)"
                " AND position < (SELECT max(position) FROM calls) RETURNING started",
                (before,),
            ).fetchall()
            for span in (_DAY, _HOUR):
                # Anew, for a sum of dollars less some of them is not exactly what is left.
                for start in {int(started) // span * span for (started,) in gone}:
                    writer.execute("DELETE FROM sums WHERE span = ? AND started = ?", (span, start))
                    within = "started >= ? AND started < ?"
                    writer.execute(_SUM_UP.format(span=span, which=within), (start, start + span))
        return len(gone)

    def close(self) -> None:
        """See `Ledger.close`."""
        for connection in (self._leases, self._reader, self._writer):
            connection.close()
        if self._lock is not None:
            self._lock.close()


def _locked(path: Path) -> IO[str]:
    """Return an open file that is locked while this process has it open: two services would both count."""
    file = path.with_name(f"{path.name}.lock").open("a")
    if not lock(file):
        file.close()
        raise LedgerError(f"{path}: in use by another llm-exporter serve")
    return file


def _known(connection: sqlite3.Connection, ids: list[str]) -> Iterator[str]:
    for first in range(0, len(ids), _IDS_AT_ONCE):
        some = ids[first : first + _IDS_AT_ONCE]
        marks = ",".join("?" * len(some))
        rows = connection.execute(f"SELECT id FROM calls WHERE id IN ({marks})", some)  # noqa: S608
        yield from [known for (known,) in rows]


_INSERT: Final = f"INSERT INTO calls VALUES (NULL, {', '.join('?' * 16)})"  # noqa: S608  # marks only


_CHARGE: Final = (
    "INSERT INTO accounts VALUES (?, ?, ?, ?) ON CONFLICT (account) DO UPDATE SET"
    " usd = usd + excluded.usd, tokens = tokens + excluded.tokens, expires = max(expires, excluded.expires)"
)


def _row(call: Call, received: float) -> tuple[Any, ...]:
    sums = totals_of(call)
    return (
        call.id,
        received,
        call.started,
        call.provider,
        call.model,
        call.operation,
        call.agent,
        call.phase,
        call.labels.get("project") or DEFAULT,
        call.labels.get("session") or DEFAULT,
        sums.errors,
        sums.cost_usd,
        sums.input_tokens,
        sums.output_tokens,
        sums.unpriced_tokens,
        _encode(call).decode(),
    )


_KEY: Final = f"started, {', '.join(_SUMMED_BY)}"
_SUM_UP: Final = (
    "INSERT INTO sums SELECT {span}, CAST(started AS INTEGER) / {span} * {span},"  # noqa: S608  # names only
    f" {', '.join(_SUMMED_BY)}, count(*), {', '.join(f'sum({name})' for name in _SUMS)}"
    f" FROM calls WHERE {{which}} GROUP BY {', '.join(map(str, range(1, len(_SUMMED_BY) + 3)))}"
    f" ON CONFLICT (span, {_KEY}) DO UPDATE SET"
    f" {', '.join(f'{name} = {name} + excluded.{name}' for name in ('calls', *_SUMS))}"
)
"""Adds some calls to the sums of their days or hours."""


def _parts(since: float, until: float, spans: Sequence[int]) -> Iterator[tuple[str, tuple[float, float]]]:
    """Yield the SQL and the bounds of what makes up a time: whole days and hours, and the calls around them.

    A month has a hundred times fewer of those than calls.
    """
    if since >= until:
        return
    if not spans:
        yield f"SELECT {_KEY}, 1 AS calls, {', '.join(_SUMS)} FROM calls WHERE {_BETWEEN}", (since, until)  # noqa: S608
        return
    span, *shorter = spans
    first = since if since == -inf else ceil(since / span) * span
    last = until if until == inf else until // span * span
    if first >= last:
        yield from _parts(since, until, shorter)
        return
    which = f"span = {span} AND {_BETWEEN}"
    yield f"SELECT {_KEY}, calls, {', '.join(_SUMS)} FROM sums WHERE {which}", (first, last)  # noqa: S608
    yield from _parts(since, first, shorter)
    yield from _parts(last, until, shorter)


_BETWEEN: Final = "started >= ? AND started < ?"


def _where(query: Query) -> tuple[str, list[Any]]:
    conditions = ["1"]
    parameters: list[Any] = []

    def add(condition: str, *values: Any) -> None:
        conditions.append(condition)
        parameters.extend(values)

    if query.since is not None:
        add("started >= ?", query.since)
    if query.until is not None:
        add("started < ?", query.until)
    if query.session is not None:
        add(
            "session = ? AND position > coalesce((SELECT position FROM resets WHERE session = ?), 0)",
            query.session,
            query.session,
        )
    for name, value in query.match.items():
        column, names = _column(name)
        add(f"{column} = ?", *names, value)
    return " AND ".join(conditions), parameters


def _column(name: str) -> tuple[str, list[str]]:
    """Return the SQL of a dimension and its parameters: names of labels come from outside."""
    if name in _COLUMNS:
        return name, []
    value = "(SELECT value FROM json_each(call, '$.labels') WHERE key = ?)"
    return f"coalesce(nullif({value}, ''), '{UNATTRIBUTED}')", [name]
