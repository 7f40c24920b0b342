"""Calls on disk that wait to be shipped, as files of JSON lines that any process of this user may send.

A process writes a file of its own and holds its lock; what it leaves behind when it ends is taken over by the
next one that finds it, or by the service itself where both are on one machine.
"""

from __future__ import annotations

import errno
import logging
import os
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, Final

import msgspec

from ..call import Call, new_id
from ..file_lock import lock

log = logging.getLogger("llm_exporter")

_MAX_BYTES: Final = 256 * 2**20
"""Of one process's own file: some hundred thousand calls."""

_encode: Final = msgspec.json.Encoder().encode
_decode: Final = msgspec.json.Decoder(Call).decode


def spool_for(host: str, port: int) -> Path:
    """Return where calls to a service wait: in `LLM_EXPORTER_SPOOL`, else in this user's state directory."""
    # A colon is no part of a file's name everywhere, and an IPv6 address has some.
    return _spools() / f"{host.replace(':', '-')}_{port}"


def _spools() -> Path:
    if path := os.environ.get("LLM_EXPORTER_SPOOL"):
        return Path(path)
    if state := os.environ.get("XDG_STATE_HOME"):
        return Path(state) / "llm-exporter" / "spool"
    try:
        return Path.home() / ".local" / "state" / "llm-exporter" / "spool"
    except RuntimeError:  # a user with no home
        return Path(tempfile.gettempdir()) / "llm-exporter" / "spool"


class Spool:
    """The files of a directory. Errors of the disk are OSError."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._own: IO[bytes] | None = None
        self._written = 0

    def add(self, calls: Sequence[Call]) -> None:
        """Keep calls.

        Raises:
            OSError: when they cannot be kept; none of them is then.
        """
        if self._own is None:
            self._own = self._new_file("jsonl")
            self._written = 0
        data = b"".join(_encode(call) + b"\n" for call in calls)
        if self._written + len(data) > _MAX_BYTES:
            raise OSError(f"{self._own.name}: {_MAX_BYTES} bytes wait there already")
        try:
            _write_all(self._own, data)
        except OSError:
            self._own.truncate(self._written)
            self._own.seek(self._written)
            raise
        self._written += len(data)

    def set_aside(self, calls: Sequence[Call]) -> Path:
        """Keep calls for a person to look at, and return where."""
        with self._new_file("refused") as file:
            _write_all(file, b"".join(_encode(call) + b"\n" for call in calls))
        return Path(file.name)

    def _new_file(self, suffix: str) -> IO[bytes]:
        self._directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        file = (self._directory / f"{new_id()}.{suffix}").open("xb", buffering=0)
        lock(file)
        return file

    def release(self) -> None:
        """Let go of this process's own file, for whoever sends it."""
        if self._own is not None:
            self._own.close()
            self._own = None

    def waiting(self, at_once: int) -> Iterator[list[Call]]:
        """Yield the calls of all files that nobody else works with.

        A file is removed once its calls have been yielded and the next ones are asked for: whoever cannot
        send some stops asking, and loses none.
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
                yield from _batches(file, at_once)
                path.unlink(missing_ok=True)


def _write_all(file: IO[bytes], data: bytes) -> None:
    if file.write(data) < len(data):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), file.name)


def _batches(file: IO[bytes], at_once: int) -> Iterator[list[Call]]:
    calls: list[Call] = []
    for number, line in enumerate(file, 1):
        try:
            calls.append(_decode(line))
        except msgspec.DecodeError as error:
            # The last line of a process that was killed while it wrote it, at most.
            log.warning("llm-exporter: %s:%d: not a call, and left out: %s", file.name, number, error)
            continue
        if len(calls) >= at_once:
            yield calls
            calls = []
    if calls:
        yield calls
