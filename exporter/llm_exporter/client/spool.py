"""`Spool`: calls on disk that wait to be shipped, as files of JSON lines.

A process writes files of its own and holds a lock on each. Files that a process left behind when it ended are
taken over by the next process of the same user that finds them, or by the service itself on the same machine.

What is in the directory may be anything. A file that is none of ours is set aside as `*.bad`, and lines that
are no calls are set aside in a file `*.refused`, so that they hold up nothing else.
"""

from __future__ import annotations

import errno
import io
import os
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, NamedTuple
from weakref import WeakSet

import msgspec

from .. import environment
from ..bounds import clean_call, mistake
from ..call import Call, new_id
from ..file_lock import lock
from ..log import log
from ..private_files import make_private_directory, names_in, open_regular
from .spool_file import MAX_BYTES, SpoolFile

_MAX_LINE: Final = 2**20
"""The longest line that is read as a call, in bytes. Calls have some hundred."""
_NONE_OF_OURS: Final = frozenset(
    {errno.EACCES, errno.EPERM, errno.ELOOP, errno.EISDIR, errno.ENXIO, errno.EINVAL}
)
"""The errors of files that will never be readable: links, directories, sockets, files of others."""

_decode: Final = msgspec.json.Decoder(Call).decode


def spool_for(host: str, port: int) -> Path:
    """Return the directory for a service's calls, in `LLM_EXPORTER_SPOOL` or the user's state directory."""
    # Some file systems forbid colons, which IPv6 addresses contain.
    return spools() / f"{host.replace(':', '-')}_{port}"


def ledger_spool() -> Path:
    """Return the directory for calls that wait for whoever writes to the default ledger."""
    return spools() / "ledger"


def spools() -> Path:
    """Return the directory of all spools: `LLM_EXPORTER_SPOOL`, or in the user's state directory."""
    if path := environment.SPOOL.value:
        return Path(path)
    if state := environment.STATE_HOME.value:
        return Path(state) / "llm-exporter" / "spool"
    try:
        return Path.home() / ".local" / "state" / "llm-exporter" / "spool"
    except RuntimeError:  # the user has no home directory
        user = os.geteuid() if hasattr(os, "geteuid") else "user"
        return Path(tempfile.gettempdir()) / f"llm-exporter-{user}" / "spool"


class _BadLine(NamedTuple):
    """The place of a line that is no call."""

    at: int
    size: int


class Spool:
    """The files in a directory.

    Args:
        directory: where they are. It is made when the first file is.
        dropped: called with the number of calls that were set aside because they cannot be read. A file
            counts as one call.
    """

    def __init__(self, directory: Path, dropped: Callable[[int], object] = lambda _: None) -> None:
        self._directory = directory
        self._dropped = dropped
        self._said: set[tuple[str, int | None]] = set()
        """The names of files that could not be handled, each with the number of the error."""
        self._open: WeakSet[SpoolFile | io.FileIO] = WeakSet()

    def after_fork(self) -> None:
        """Close the files of the parent in a forked process, which would keep their locks otherwise."""
        for file in list(self._open):
            file.close()

    def new_file(self, suffix: str = "jsonl") -> SpoolFile:
        """Return a new file of this process.

        Raises:
            OSError: if it cannot be made.
        """
        make_private_directory(self._directory)
        while True:
            file = SpoolFile(self._directory / f"{new_id()}.{suffix}")
            self._open.add(file)
            try:
                if file.lock():
                    return file
            except OSError:
                file.remove()
                raise
            file.close()  # another process found it in the moment before it was locked

    def set_aside(self, lines: Iterable[bytes]) -> Path:
        """Write lines to a file for a person to look at, and return its path.

        Raises:
            OSError: if they cannot be written.
        """
        file = self.new_file("refused")
        try:
            file.append(lines)
        except OSError:
            file.remove()
            raise
        file.close()
        return file.path

    def waiting(self, batch_size: int) -> Iterator[list[Call]]:
        """Yield the calls of all files that no other process holds, in batches.

        A file is removed when the consumer asks for more after its last batch. A consumer that cannot send a
        batch stops iterating, and loses nothing.
        """
        for path in self._paths():
            try:
                file = self._take(path)
                if file is None:
                    continue
                with file:
                    with _buffered(file) as reader:
                        yield from self._calls(reader, path, batch_size)
                    self._remove(file, path)
            except OSError as error:
                self._leave_out(path, error)

    def _paths(self) -> list[Path]:
        try:
            names = names_in(self._directory)
        except FileNotFoundError:
            return []
        except OSError as error:
            self._say(self._directory, error)
            return []
        return [self._directory / name for name in sorted(names) if name.endswith(".jsonl")]

    def _take(self, path: Path) -> io.FileIO | None:
        """Return a file, locked; None if another process has it.

        Raises:
            OSError: if it cannot be read, or is none of ours.
        """
        try:
            file = io.FileIO(open_regular(path, os.O_RDWR), "r+b")
        except FileNotFoundError:
            return None  # another process was faster
        self._open.add(file)
        try:
            if lock(file) and self._is_ours(file, path):
                return file
        except OSError:
            file.close()
            raise
        file.close()
        return None

    def _is_ours(self, file: io.FileIO, path: Path) -> bool:
        """Return whether a file is still there, now that it is locked.

        Raises:
            OSError: if it cannot have been written by a process of this user.
        """
        found = os.fstat(file.fileno())
        if hasattr(os, "geteuid") and found.st_uid not in (os.geteuid(), self._directory.stat().st_uid):
            raise PermissionError(errno.EPERM, "belongs to another user", str(path))
        if found.st_size > MAX_BYTES:
            raise OSError(errno.EINVAL, f"larger than {MAX_BYTES} bytes", str(path))
        return found.st_nlink > 0

    def _calls(self, file: io.BufferedReader[Any], path: Path, batch_size: int) -> Iterator[list[Call]]:
        calls: list[Call] = []
        bad: list[_BadLine] = []
        reason = ""
        at = 0
        while line := file.readline(_MAX_LINE):
            try:
                if not line.isspace():
                    calls.append(_parse(line))
            except ValueError as error:
                reason = reason or str(error)
                bad.append(_BadLine(at, len(line)))
            at += len(line)
            if len(calls) >= batch_size:
                yield calls
                calls = []
        if calls:
            yield calls
        if bad:  # only now, since a file whose calls cannot be sent yet is read again
            aside = self.set_aside(_lines(file, bad))
            self._dropped(len(bad))
            log.error(
                "llm-exporter: %s: %d lines are no calls and are in %s: %s", path, len(bad), aside, reason
            )

    def _remove(self, file: io.FileIO, path: Path) -> None:
        try:
            path.unlink(missing_ok=True)
        except OSError as error:
            file.truncate(0)  # its calls have been sent
            self._say(path, error)

    def _leave_out(self, path: Path, error: OSError) -> None:
        """Go on without a file: set it aside if it will never be readable, else try again another time."""
        if error.errno not in _NONE_OF_OURS:
            self._say(path, error)
            return
        aside = path.with_name(f"{path.name}.bad")
        if os.path.lexists(aside):
            aside = path.with_name(f"{path.name}.{new_id()}.bad")
        try:
            path.rename(aside)
        except FileNotFoundError:
            return  # another process was faster
        except OSError:
            if self._say(path, error):
                self._dropped(1)
            return
        self._dropped(1)
        log.error("llm-exporter: %s cannot be read and is now %s: %s", path, aside.name, error.strerror)

    def _say(self, path: Path, error: OSError) -> bool:
        """Log what is wrong with a file, and return whether this is new."""
        said = path.name, error.errno
        if is_new := said not in self._said:
            self._said.add(said)
            log.error("llm-exporter: %s cannot be shipped: %s", path, error)
        return is_new


@contextmanager
def _buffered(file: io.FileIO) -> Iterator[io.BufferedReader[Any]]:
    reader = io.BufferedReader(file)
    try:
        yield reader
    finally:
        reader.detach()  # else it would close the file, and so unlock it


def _parse(line: bytes) -> Call:
    """Return the call in a line.

    Raises:
        ValueError: if there is none, or one that nobody can count.
    """
    try:
        call = _decode(line)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise ValueError(str(error)) from None
    if reason := mistake(call):
        raise ValueError(reason)
    clean_call(call)
    return call


def _lines(file: io.BufferedReader[Any], places: Iterable[_BadLine]) -> Iterator[bytes]:
    for at, size in places:
        file.seek(at)
        yield file.read(size).rstrip(b"\n")
