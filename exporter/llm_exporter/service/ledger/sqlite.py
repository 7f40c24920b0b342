"""The ledger in an SQLite file.

The metrics are derived from the calls: after a restart they are the last checkpoint and the calls after it.
So both agree, whenever the process was killed.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import msgspec
from typing_extensions import override

from ...call import Call
from ...log import log
from ...metrics.saved_sample import SavedSample
from ...metrics.zero_first import SeriesKey
from ...periods import HOUR, Step
from .base import (
    DEFAULT,
    Charges,
    Claim,
    Grant,
    Leases,
    Ledger,
    LedgerError,
    Logged,
    Query,
    Rule,
    Spent,
    Totals,
    dimensions,
    no_charges,
    totals_of,
)
from .damage import Damage
from .decoding import CallDecoder
from .leasing import leased
from .sqlite_backlog import Backlog, charge, charged
from .sqlite_file import SqliteFile
from .sqlite_groups import Groups
from .sqlite_queries import ADD, ADD_UP, SPANS, TAKE_OFF, TOTALS, report, where
from .sqlite_schema import APPLICATION_ID, MIGRATIONS
from .sqlite_sums import added_by

_SLICE_CALLS: Final = 250
"""Calls that are pruned in one transaction, which delays the writers that wait for it."""
_SLICE_PAGES: Final = 250
_SLICE_ROWS: Final = 250
_FREE_SHARE: Final = 0.05
"""The share of free pages in the file that new calls may use."""
_TRIAL: Final = Call(id="llm-exporter trial", provider="", model="", operation="", started=0.0)
_MAX_PARAMETERS: Final = 500
"""Values in one query, well below SQLite's limit of parameters."""
_INSERT: Final = f"INSERT INTO calls VALUES (NULL, {', '.join('?' * 18)})"  # noqa: S608  # marks only

_encode: Final = msgspec.json.Encoder().encode
_decode_leases: Final = msgspec.json.Decoder(Leases).decode
_decode_counted: Final = msgspec.json.Decoder(list[SavedSample]).decode
_decode_series: Final = msgspec.json.Decoder(SeriesKey).decode


class SqliteLedger(Ledger):
    """A ledger in a file. One service can use it at a time, besides any number of read-only users.

    Args:
        path: The file, which is created if it does not exist.
        read_only: Whether only reports are needed. A service may be running on the file.
        patience: How many seconds to wait for another process. `llm-exporter run` writes for milliseconds.

    Raises:
        LedgerInUse: Another process is writing to the file.
        LedgerError: The file cannot be used.
    """

    def __init__(self, path: Path, *, read_only: bool = False, patience: float = 1.0) -> None:
        self._path = path
        self._file = SqliteFile(path, read_only=read_only, patience=patience)
        self._read = self._file.read
        self._transaction = self._file.transaction
        self._damage = Damage(str(path))
        self._decode = CallDecoder(self._damage)
        self._backlog = Backlog(self._file, self._decode)
        self._groups = Groups()
        self._hour, self._grouped_until = -1, 0.0
        try:
            with self._file.errors():
                self._migrate(read_only=read_only)
                self._leases = self._file.connect(read_only=read_only)
                # Leases change many times a second. They survive a crash of this process, not of the machine.
                self._leases.execute("PRAGMA synchronous = NORMAL")
        except LedgerError:
            self._file.close()
            raise

    def _migrate(self, *, read_only: bool) -> None:
        writer = self._file.writer
        (version,) = writer.execute("PRAGMA user_version").fetchone()
        (application,) = writer.execute("PRAGMA application_id").fetchone()
        (tables,) = writer.execute("SELECT count(*) FROM sqlite_master").fetchone()
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
            if tables:
                log.warning(
                    "llm-exporter: %s: migrating to schema %d; a large ledger takes minutes",
                    self._path,
                    number,
                )
            writer.executescript(
                f"BEGIN; {script}; PRAGMA application_id = {APPLICATION_ID};"
                f" PRAGMA user_version = {number}; COMMIT"
            )

    @override
    def add(self, calls: Sequence[Call], charges: Charges = no_charges) -> list[Call]:
        received = time.time()
        by_id = {call.id: call for call in reversed(calls)}  # the first call of an id wins
        with self._transaction() as writer, self._grouping():
            for known in _known(writer, list(by_id)):
                del by_id[known]
            new = list(reversed(by_id.values()))
            groups = self._groups.ids_of(writer, new)
            rows = [_row(call, received, group) for call, group in zip(new, groups, strict=True)]
            writer.executemany(_INSERT, rows)
            writer.executemany(ADD, added_by(rows))
            charge(writer, charged(new, charges))
        return new

    @contextmanager
    def _grouping(self) -> Iterator[None]:
        try:
            yield
        except BaseException:
            self._groups.forget()  # new groups are not stored
            raise

    @override
    def prepare_rules(self, rules: Sequence[str]) -> None:
        self._backlog.prepare(rules)

    @override
    def register_rules(self, rules: Sequence[str]) -> None:
        self._backlog.register(rules)

    @override
    def rules_behind(self) -> set[str]:
        return self._backlog.rules()

    @override
    def charge_earlier(self, rule: Rule) -> bool:
        return self._backlog.charge(rule)

    @override
    def accounts(self) -> list[str]:
        rows = self._read("SELECT account FROM accounts WHERE expires > ?", (time.time(),))
        return [account for (account,) in rows]

    @override
    def spent(self, accounts: Sequence[str]) -> list[Spent]:
        known: dict[str, Spent] = {}
        for some in _batched(accounts):
            condition = f"account IN ({_marks(some)}) AND expires > ?"
            rows = self._read(
                f"SELECT account, usd, tokens FROM accounts WHERE {condition}",  # noqa: S608
                [*some, time.time()],
            )
            known |= {account: Spent(usd, tokens) for account, usd, tokens in rows}
        return [known.get(account, Spent()) for account in accounts]

    @override
    def delete_accounts(self, accounts: Sequence[str]) -> None:
        with self._transaction() as writer:
            rows = [(account,) for account in accounts]
            writer.executemany("DELETE FROM accounts WHERE account = ?", rows)

    @override
    def lease(self, claims: Sequence[Claim], now: float) -> list[Grant]:
        grants = []
        with self._transaction(self._leases) as writer:
            for claim, spent in zip(claims, self.spent([claim.account for claim in claims]), strict=True):
                select = "SELECT leases FROM leases WHERE account = ?"
                stored = writer.execute(select, (claim.account,)).fetchone()
                leases, grant = leased(claim, _decode_leases(stored[0]) if stored else {}, spent, now)
                expires = max((lease.until for lease in leases.values()), default=0.0)
                row = claim.account, expires, _encode(leases).decode()
                writer.execute("INSERT OR REPLACE INTO leases VALUES (?, ?, ?)", row)
                grants.append(grant)
        return grants

    @override
    def after_checkpoint(self) -> tuple[list[SavedSample], Iterator[Call]]:
        position, counted = next(iter(self._read("SELECT position, counted FROM checkpoint")), (0, "[]"))
        return _decode_counted(counted), self._after(position)

    def _after(self, position: int) -> Iterator[Call]:
        while rows := self._read(
            "SELECT position, call FROM calls WHERE position > ? ORDER BY position LIMIT 1000", (position,)
        ):
            yield from (logged.call for logged in self._decode(rows))
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
        return list(self._decode(rows))

    @override
    def totals(self, query: Query, by: Sequence[str] = ()) -> dict[tuple[str, ...], Totals]:
        return {key: totals for (_, key), totals in self._report(query, None, by).items()}

    @override
    def periods(
        self, query: Query, period: Step, by: Sequence[str] = ()
    ) -> dict[tuple[float, tuple[str, ...]], Totals]:
        return self._report(query, period, by)

    def _report(
        self, query: Query, period: Step | None, by: Sequence[str]
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
        expired = self._delete_expired()
        old = self._oldest(before)
        if not old:
            return expired
        with self._transaction() as writer:
            condition = "position BETWEEN ? AND ? AND received < ?"
            slice_ = (old[0], old[-1], before)
            select = f"SELECT DISTINCT started FROM calls WHERE {condition}"  # noqa: S608
            starts = writer.execute(select, slice_).fetchall()
            _take_off(writer, condition, slice_, starts)
            return writer.execute(f"DELETE FROM calls WHERE {condition}", slice_).rowcount  # noqa: S608

    def _delete_expired(self) -> int:
        """Delete some accounts and leases that have expired; return how many."""
        deleted = 0
        for table in ("accounts", "leases"):
            expired = f"SELECT account FROM {table} WHERE expires < ? LIMIT ?"  # noqa: S608
            if accounts := self._read(expired, (time.time(), _SLICE_ROWS)):
                with self._transaction() as writer:
                    delete = f"DELETE FROM {table} WHERE account = ? AND expires < {time.time()!r}"  # noqa: S608
                    deleted += writer.executemany(delete, accounts).rowcount
        return deleted

    def _oldest(self, before: float) -> list[int]:
        """Return the positions of the oldest calls that may be pruned, in order."""
        # The newest call stays: the checkpoint refers to its position.
        ((first, last),) = self._read(
            # Each in a query of its own, so that SQLite takes it from the index and reads no calls.
            "SELECT (SELECT min(position) FROM calls),"
            " min((SELECT position FROM checkpoint), (SELECT max(position) FROM calls) - 1)"
        )
        if first is None or last is None:
            return []
        # Positions increase with time, so a search for the last old call saves an index on `received`.
        low, high = first - 1, last
        while low < high:
            middle = (low + high + 1) // 2
            ((received,),) = self._read(
                "SELECT received FROM calls WHERE position <= ? ORDER BY position DESC LIMIT 1", (middle,)
            )
            low, high = (middle, high) if received < before else (low, middle - 1)
        rows = self._read(
            "SELECT position FROM calls WHERE position <= ? AND received < ? ORDER BY position LIMIT ?",
            (low, before, _SLICE_CALLS),
        )
        return [position for (position,) in rows]

    @override
    def catch_up(self) -> int:
        hours = self._read(
            "SELECT started FROM sums INDEXED BY sums_of_group WHERE group_id = 0 AND span = ?"
            " ORDER BY started DESC LIMIT 1",
            (HOUR,),
        )
        if not hours:
            return 0
        ((hour,),) = hours
        if hour != self._hour:
            self._hour, self._grouped_until = hour, float(hour)
        rows = self._read(
            "SELECT position, call, started FROM calls INDEXED BY calls_by_start"
            " WHERE started >= ? AND started < ? AND group_id = 0 ORDER BY started LIMIT ?",
            (self._grouped_until, hour + HOUR, _SLICE_CALLS),
        )
        with self._transaction() as writer, self._grouping():
            if not rows:  # should not happen: the sums have calls that the ledger does not have
                condition = "group_id = 0 AND span = ? AND started = ?"
                writer.execute(f"DELETE FROM sums WHERE {condition}", (HOUR, hour))  # noqa: S608
                return 1
            calls = {logged.position: logged.call for logged in self._decode(row[:2] for row in rows)}
            positions = _encode([position for position, _, _ in rows]).decode()
            chosen = "position IN (SELECT value FROM json_each(?))"
            _take_off(writer, f"{chosen} AND group_id = 0", (positions,), [(row[2],) for row in rows])
            writer.executemany(
                "UPDATE calls SET group_id = ? WHERE position = ?",
                [(self._groups.id_of(writer, calls.get(row[0], _TRIAL)), row[0]) for row in rows],
            )
            for span in SPANS:
                writer.execute(ADD_UP.format(span=span, condition=chosen), (positions,))
        self._grouped_until = rows[-1][2]
        return len(rows)

    @override
    def shrink(self) -> bool:
        # New calls will soon use a few free pages. A file of an older release never shrinks.
        pages = "SELECT * FROM pragma_freelist_count, pragma_page_count"
        ((free, before),) = self._read(pages)
        if free <= before * _FREE_SHARE:
            return False
        with self._file.errors(), self._file.exclusively() as writer:
            writer.execute(f"PRAGMA incremental_vacuum({_SLICE_PAGES})").fetchall()
        ((_, after),) = self._read(pages)
        return bool(after < before)

    @override
    def report_unreadable(self, report: Callable[[], object]) -> None:
        self._damage.report_to(report)

    @override
    def check(self) -> None:
        self._file.check()
        with self._transaction() as writer:
            # Insert a call as `add` does, take it back, and write something.
            writer.execute("SAVEPOINT trial")
            writer.execute(_INSERT, _row(_TRIAL, 0.0, 0))
            writer.execute("ROLLBACK TO trial")
            writer.execute(f"PRAGMA user_version = {len(MIGRATIONS)}")

    @override
    def close(self) -> None:
        with self._file.exclusively():
            self._leases.close()
        self._file.close()


def _take_off(
    writer: sqlite3.Connection, condition: str, parameters: Sequence[Any], starts: Iterable[tuple[float]]
) -> None:
    """Take calls off the sums. Reading the rest of their spans again could take long.

    Costs stay exact but for their last digits, until all calls of a sum are taken off.
    """
    starts = list(starts)
    for span in SPANS:
        writer.execute(TAKE_OFF.format(span=span, condition=condition), parameters)
        for start in {int(started) // span * span for (started,) in starts}:
            writer.execute("DELETE FROM sums WHERE span = ? AND started = ? AND calls <= 0", (span, start))


def _known(connection: sqlite3.Connection, ids: list[str]) -> Iterator[str]:
    for some in _batched(ids):
        rows = connection.execute(f"SELECT id FROM calls WHERE id IN ({_marks(some)})", some)  # noqa: S608
        yield from [known for (known,) in rows]


def _batched(values: Sequence[str]) -> Iterator[Sequence[str]]:
    return (values[first : first + _MAX_PARAMETERS] for first in range(0, len(values), _MAX_PARAMETERS))


def _marks(values: Sequence[str]) -> str:
    return ",".join("?" * len(values))


def _row(call: Call, received: float, group: int) -> tuple[Any, ...]:
    totals = totals_of(call)
    return (
        call.id,
        received,
        call.started,
        *dimensions(call),
        call.labels.get("session") or DEFAULT,
        totals.errors,
        totals.cost_usd,
        totals.input_tokens,
        totals.output_tokens,
        totals.unpriced_tokens,
        _encode(call).decode(),
        totals.approximated_tokens,
        group,
    )
