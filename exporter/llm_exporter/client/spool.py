"""`Spool`: calls on disk that wait to be shipped, as files of JSON lines.

A process writes a file of its own and holds a lock on it. Files that a process left behind when it ended are
taken over by the next process of the same user that finds them, or by the service itself on the same machine.
"""

from __future__ import annotations

import errno
import os
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, Final

import msgspec

from ..call import Call, new_id
from ..file_lock import lock
from ..log import log

_MAX_BYTES: Final = 256 * 2**20
"""The largest size of one process's file: some hundred thousand calls."""

_encode: Final = msgspec.json.Encoder().encode
_decode: Final = msgspec.json.Decoder(Call).decode


def spool_for(host: str, port: int) -> Path:
    """Return the directory for a service's calls, in `LLM_EXPORTER_SPOOL` or the user's state directory."""
    # Some file systems forbid colons, which IPv6 addresses contain.
    return _spools() / f"{host.replace(':', '-')}_{port}"


def _spools() -> Path:
    if path := os.environ.get("LLM_EXPORTER_SPOOL"):
        return Path(path)
    if state := os.environ.get("XDG_STATE_HOME"):
        return Path(state) / "llm-exporter" / "spool"
    try:
        return Path.home() / ".local" / "state" / "llm-exporter" / "spool"
    except RuntimeError:  # the user has no home directory
        return Path(tempfile.gettempdir()) / "llm-exporter" / "spool"


class Spool:
    """The files in a directory. Disk errors are raised as OSError."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._own: IO[bytes] | None = None
        self._written = 0

    def add(self, calls: Sequence[Call]) -> None:
        """Write calls to this process's file.

        Raises:
            OSError: if they cannot be written. Then none of them is in the file.
        """
        if self._own is None:
            self._own = self._new_file("jsonl")
            self._written = 0
        data = b"".join(_encode(call) + b"\n" for call in calls)
        if self._written + len(data) > _MAX_BYTES:
            raise OSError(f"{self._own.name}: already holds its maximum of {_MAX_BYTES} bytes")
        try:
            _write_all(self._own, data)
        except OSError:
            self._own.truncate(self._written)
            self._own.seek(self._written)
            raise
        self._written += len(data)

    def set_aside(self, calls: Sequence[Call]) -> Path:
        """Write calls to a file for a person to look at, and return its path."""
        with self._new_file("refused") as file:
            _write_all(file, b"".join(_encode(call) + b"\n" for call in calls))
        return Path(file.name)

    def _new_file(self, suffix: str) -> IO[bytes]:
        self._directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        file = (self._directory / f"{new_id()}.{suffix}").open("xb", buffering=0)
        lock(file)
        return file

    def release(self) -> None:
        """Close this process's file, so that anyone may send it."""
        if self._own is not None:
            self._own.close()
            self._own = None

    def waiting(self, batch_size: int) -> Iterator[list[Call]]:
        """Yield the calls of all files that no other process holds, in batches.

        A file is removed when the consumer asks for more after its last batch. A consumer that cannot send a
        batch stops iterating, and loses nothing.
        """
        self.release()
        for path in sorted(self._directory.glob("*.jsonl")):
            try:
                file = path.open("r+b")
            except FileNotFoundError:
                continue  # another process was faster
            with file:
                if not lock(file) or not path.exists():
                    continue
                yield from _batches(file, batch_size)
                path.unlink(missing_ok=True)


def _write_all(file: IO[bytes], data: bytes) -> None:
    if file.write(data) < len(data):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), file.name)


def _batches(file: IO[bytes], size: int) -> Iterator[list[Call]]:
    calls: list[Call] = []
    for number, line in enumerate(file, 1):
        try:
            calls.append(_decode(line))
        except msgspec.DecodeError as error:
            # At most the last line, of a process that was killed while it wrote.
            log.warning("llm-exporter: %s:%d: skipped, not a call: %s", file.name, number, error)
            continue
        if len(calls) >= size:
            yield calls
            calls = []
    if calls:
        yield calls
