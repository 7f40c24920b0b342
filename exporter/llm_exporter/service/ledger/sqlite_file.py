"""The file of an SQLite ledger: its connections, its lock and its permissions.

By default, the transaction that fills the write-ahead log also copies it to the file, and after a long report
it copies much, which holds up ingestion for a second and more. A thread does that here, beside the writers.
https://www.sqlite.org/wal.html#ckpt
"""

from __future__ import annotations

import os
import shutil
import sqlite3
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from threading import Lock
from typing import IO, Any, Final

from ...file_lock import lock
from ...log import log
from ...threads import Event, Thread
from .base import LedgerError, LedgerInUse, NoLedger, abandoned
from .sqlite_queries import label_of, start_of

_MIN_FREE_BYTES: Final = 16 * 2**20
"""Below this, the file system counts as full: SQLite may still succeed in the pages that it has."""
_MAX_WAL_BYTES: Final = 64 * 2**20
"""The size of the write-ahead log that stays after a checkpoint."""
_CHECKPOINT_SECONDS: Final = 1.0
_PATIENCE_SECONDS: Final = 30.0
_POLL_SECONDS: Final = 0.02
_MAX_FRAMES: Final = 4000
"""Pages in the write-ahead log, beyond which it starts over."""
_STEPS: Final = 100_000
"""Instructions of SQLite after which a reader looks whether somebody still waits for it: milliseconds."""
_PRIVATE_FILE: Final = 0o600
_PRIVATE_DIRECTORY: Final = 0o700


class SqliteFile:
    """An SQLite file with one writer at a time. Readers neither wait for it nor for one another.

    A new file and its lock can be read by their owner only; SQLite gives its other files the same mode.

    Args:
        path: The file, which is created if it does not exist.
        read_only: Whether it is only read. A service may be writing to it.
        patience: How many seconds to wait for another process that is writing to it.

    Raises:
        LedgerInUse: Another process is writing to the file.
        LedgerError: The file cannot be used.
    """

    def __init__(self, path: Path, *, read_only: bool, patience: float) -> None:
        self.path = path
        self._lock: IO[str] | None = None
        self._writing = Lock()
        self._pool = Lock()
        self._idle: list[sqlite3.Connection] = []
        self._busy: set[sqlite3.Connection] = set()
        self._closed = False
        self._identity: tuple[int, int] | None = None
        self._ended = Event()
        with self.errors():
            if not read_only:
                path.parent.mkdir(parents=True, exist_ok=True, mode=_PRIVATE_DIRECTORY)
                self._lock = _locked(path, patience)
                os.close(os.open(path, os.O_RDWR | os.O_CREAT, _PRIVATE_FILE))
            elif not path.is_file():
                raise NoLedger(f"{path}: no such ledger")
            self.writer = self.connect(read_only=read_only)
            self._identity = _identity(path)
            self._checkpoints: Thread | None = None
            if not read_only:
                self._checkpointer = self.connect(read_only=False)
                self._checkpoints = Thread(self._keep_checkpointing, "llm-exporter-wal", self._not_copied)
                self._checkpoints.start()

    def connect(self, *, read_only: bool) -> sqlite3.Connection:
        """Return a new connection."""
        mode = "ro" if read_only else "rw"
        connection = sqlite3.connect(
            f"{self.path.absolute().as_uri()}?mode={mode}",
            uri=True,
            check_same_thread=False,
            isolation_level=None,
            timeout=30,
        )
        if not read_only:
            # Effective in a new file only. Others need a VACUUM.
            connection.execute("PRAGMA auto_vacuum = INCREMENTAL")
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute(f"PRAGMA journal_size_limit = {_MAX_WAL_BYTES}")
            connection.execute("PRAGMA wal_autocheckpoint = 0")
            # Acknowledged calls survive a power failure.
            connection.execute("PRAGMA synchronous = FULL")
        connection.create_function("start_of", 2, start_of, deterministic=True)
        connection.create_function("label_of", 2, label_of, deterministic=True)
        return connection

    @contextmanager
    def errors(self) -> Iterator[None]:
        """Raise errors of SQLite and of the file system as `LedgerError`, which names the file."""
        try:
            yield
        except (sqlite3.Error, OSError) as error:
            raise LedgerError(f"{self.path}: {error}") from error

    @contextmanager
    def transaction(self, through: sqlite3.Connection | None = None) -> Iterator[sqlite3.Connection]:
        """Begin to write. Commit at the end, or undo everything if there is an error."""
        with self.errors(), self.exclusively(through) as connection:
            self._check_identity()
            connection.execute("BEGIN IMMEDIATE")
            try:
                yield connection
                connection.execute("COMMIT")
            except BaseException:
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
                raise

    @contextmanager
    def exclusively(self, connection: sqlite3.Connection | None = None) -> Iterator[sqlite3.Connection]:
        """Return a connection while nobody else writes: by default the usual one."""
        with self._writing:
            yield connection or self.writer

    def read(self, sql: str, parameters: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """Return the rows of a query."""
        with self.errors(), self._reader() as reader:
            return reader.execute(sql, parameters).fetchall()

    @contextmanager
    def snapshot(self) -> Iterator[sqlite3.Connection]:
        """Return a reader whose queries all see the file as it is at the first of them."""
        with self.errors(), self._reader() as reader:
            reader.execute("BEGIN")
            try:
                yield reader
            finally:
                if reader.in_transaction:
                    reader.execute("ROLLBACK")

    @contextmanager
    def _reader(self) -> Iterator[sqlite3.Connection]:
        with self._pool:
            if self._closed:
                raise sqlite3.ProgrammingError("the ledger is closed")
            reader = self._idle.pop() if self._idle else self.connect(read_only=True)
            self._busy.add(reader)
        reader.set_progress_handler(abandoned.get(), _STEPS)
        try:
            yield reader
        finally:
            with self._pool:
                self._busy.discard(reader)
                if self._closed:
                    reader.close()
                else:
                    self._idle.append(reader)

    def _keep_checkpointing(self) -> None:
        while not self._ended.wait(_CHECKPOINT_SECONDS):
            self.copy_log()

    def copy_log(self) -> None:
        """Copy the write-ahead log to the file. Writers wait only for the last of it."""
        copy = "PRAGMA wal_checkpoint(PASSIVE)"
        ((_, frames, _),) = self._checkpointer.execute(copy)
        if frames > _MAX_FRAMES:
            self._checkpointer.execute(copy)  # what was written meanwhile, which may be much
            # Once all of it is copied and no report needs it, the next transaction starts it over.
            with self._writing:
                self._checkpointer.execute(copy)

    def _not_copied(self, error: BaseException) -> None:
        log.error("llm-exporter: %s: the write-ahead log grows: %s", self.path, error)

    def check(self) -> None:
        """Check that the file is still the one that was opened, and that the disk has space left.

        Raises:
            LedgerError: It is not.
        """
        with self.errors():
            self._check_identity()
            with self.path.open("rb") as file:
                if file.read(16) != b"SQLite format 3\0":
                    raise LedgerError(f"{self.path}: file is not a database")
            if shutil.disk_usage(self.path.parent).free < _MIN_FREE_BYTES:
                raise LedgerError(f"{self.path}: the disk is full")

    def _check_identity(self) -> None:
        # SQLite would go on writing to a file without a name, which is lost when the service stops.
        if _identity(self.path) != self._identity:
            raise LedgerError(f"{self.path}: was deleted or replaced while in use: restart the service")

    def close(self) -> None:
        """Close all connections. Queries that still run fail."""
        self._ended.set()
        if self._checkpoints is not None:
            self._checkpoints.join(_PATIENCE_SECONDS)
        with self._pool:
            self._closed = True
            for reader in self._busy:
                reader.interrupt()
            for connection in self._idle:
                connection.close()
        with self._writing:
            if self._checkpoints is not None:
                self._checkpointer.close()
            self.writer.close()
        if self._lock is not None:
            self._lock.close()


def _identity(path: Path) -> tuple[int, int] | None:
    try:
        status = path.stat()
    except FileNotFoundError:
        return None
    return status.st_dev, status.st_ino


def _locked(path: Path, patience: float) -> IO[str]:
    """Return a file that is locked as long as it is open, so that a second service cannot count twice."""
    flags = os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0)
    file = os.fdopen(os.open(path.with_name(f"{path.name}.lock"), flags, _PRIVATE_FILE), "r+")
    deadline = time.monotonic() + patience
    while not lock(file):
        if time.monotonic() >= deadline:
            file.close()
            raise LedgerInUse(f"{path}: in use by another llm-exporter serve")
        time.sleep(_POLL_SECONDS)
    return file
