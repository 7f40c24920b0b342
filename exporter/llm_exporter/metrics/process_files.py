"""The files in which processes share their series: one for each process, in one directory.

A process holds a lock on its file while it lives, so others can tell whether it still runs.
"""

from __future__ import annotations

import os
import secrets
import struct
import time
import zlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final, NamedTuple
from weakref import finalize

import msgspec

from ..guard import Report
from ..private_files import open_regular
from ..threads import Lock
from .series import Sample

_SUFFIX: Final = ".llm-exporter"
_HEADER: Final = struct.Struct("<II")
"""Precedes each series: the length of its key, and the number of its values."""
_CHECKSUM_BYTES: Final = 4
"""Follow the values, to detect a value that is just being written."""
_READ_ATTEMPTS: Final = 1000
"""How often the values in one file are read again because they are just being written."""
_MAX_BYTES: Final = 2**28
"""The largest file that is read. The limit on the number of series keeps ours far below it."""


class SharedSeries(NamedTuple):
    """One series of one process, as last written."""

    written: float
    """When it was written, in Unix seconds."""
    alive: bool
    """Whether its process is running."""
    family: str
    labels: dict[str, str]
    samples: list[Sample]


class ProcessFiles:
    """The file of this process, and the files of all.

    Args:
        directory: where the files are.

    Raises:
        OSError: if the file of this process cannot be created.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._reported: set[Path] = set()
        self._lock = Lock()
        self._end = 0
        path = directory / f"{os.getpid()}-{secrets.token_hex(4)}{_SUFFIX}"
        self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
        finalize(self, os.close, self._file)
        _flock(self._file, wait=True)

    def append(self, record: bytes) -> int:
        """Append bytes, and return their position.

        Raises:
            OSError: if the disk is full.
        """
        with self._lock:
            position = self._end
            os.pwrite(self._file, record, position)
            self._end += len(record)
        return position

    def overwrite(self, values: bytes, position: int) -> None:
        """Overwrite bytes.

        Raises:
            OSError: if the disk is full.
        """
        os.pwrite(self._file, values, position)

    def read_all(self, report: Report) -> list[SharedSeries]:
        """Return the series of all processes, ordered by the time they were written.

        Args:
            report: called with the error of each file that cannot be read, the first time.
        """
        found: list[SharedSeries] = []
        for path in self.directory.glob(f"*{_SUFFIX}"):
            try:
                for series in _read(path):
                    found.append(series)  # noqa: PERF402  # keep what was read before an error
            except FileNotFoundError:
                continue
            except (OSError, ValueError) as error:
                if path not in self._reported:
                    self._reported.add(path)
                    report("multiprocess", ValueError(f"{path} is not counted: {error}"))
        return sorted(found, key=lambda series: series.written)


class SeriesRecord:
    """The place of one series in the file of its process, which is chosen with the first value."""

    __slots__ = ("_family", "_files", "_labels", "_position")

    def __init__(self, files: ProcessFiles, family: str, labels: Mapping[str, str]) -> None:
        self._files = files
        self._family = family
        self._labels = labels
        self._position: int | None = None

    def write(self, samples: Sequence[Sample]) -> None:
        """Write the current samples.

        Raises:
            OSError: if the disk is full; the next write makes up for it.
        """
        numbers = [time.time(), *(value for _, _, value in samples)]
        values = struct.pack(f"<{len(numbers)}d", *numbers)
        values += _checksum(values)
        if self._position is None:
            names = [(suffix, bound) for suffix, bound, _ in samples]
            key = msgspec.json.encode((self._family, self._labels, names))
            header = _HEADER.pack(len(key), len(numbers)) + key
            self._position = self._files.append(header + values) + len(header)
        else:
            self._files.overwrite(values, self._position)


def _read(path: Path) -> Iterator[SharedSeries]:
    """Yield the series in a file.

    Raises:
        OSError: if it cannot be read.
        ValueError: if it has another format from here on.
    """
    with open(open_regular(path), "rb") as file:
        if os.fstat(file.fileno()).st_size > _MAX_BYTES:
            raise ValueError(f"larger than {_MAX_BYTES} bytes")
        alive = not _flock(file.fileno(), wait=False)
        content = file.read(_MAX_BYTES)
        position = 0
        attempts = _READ_ATTEMPTS
        while position + _HEADER.size < len(content):
            length, number = _HEADER.unpack_from(content, position)
            begin = position + _HEADER.size + length
            end = begin + 8 * number + _CHECKSUM_BYTES
            if not length or not number or (end > len(content) and not alive):
                raise ValueError(f"not a series of llm-exporter at byte {position}")
            if end > len(content):
                return  # it is just being written
            values = content[begin:end]
            while attempts and _checksum(values[:-_CHECKSUM_BYTES]) != values[-_CHECKSUM_BYTES:]:
                attempts -= 1
                values = os.pread(file.fileno(), len(values), begin)  # it is just being written
            if _checksum(values[:-_CHECKSUM_BYTES]) == values[-_CHECKSUM_BYTES:]:
                yield _series(content[begin - length : begin], values[:-_CHECKSUM_BYTES], alive=alive)
            position = end


def _series(key: bytes, values: bytes, *, alive: bool) -> SharedSeries:
    try:
        family, labels, names = _decode_key(key)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"not a series of llm-exporter: {error}") from None
    written, *numbers = struct.unpack(f"<{len(values) // 8}d", values)
    samples = [(suffix, bound, value) for (suffix, bound), value in zip(names, numbers, strict=True)]
    return SharedSeries(written, alive, family, labels, samples)


def _checksum(values: bytes) -> bytes:
    return zlib.crc32(values).to_bytes(_CHECKSUM_BYTES, "little")


def _flock(file: int, *, wait: bool) -> bool:
    """Lock a file until it is closed; return False if another process holds the lock."""
    import fcntl  # noqa: PLC0415  # Windows has none, nor servers that fork

    try:
        fcntl.flock(file, fcntl.LOCK_EX if wait else fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


_decode_key: Final = msgspec.json.Decoder(tuple[str, dict[str, str], list[tuple[str, str]]]).decode
