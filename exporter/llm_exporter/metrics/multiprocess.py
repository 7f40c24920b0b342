"""One `/metrics` of all the workers of a server such as gunicorn, from whichever of them is asked.

With `PROMETHEUS_MULTIPROC_DIR` set, each process keeps its series in a file of that directory. Whoever is
scraped reads all of them, those of processes that have ended too. A process holds a lock on its file for as
long as it lives.
"""

from __future__ import annotations

import logging
import os
import secrets
import struct
import threading
import time
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Final, NamedTuple
from weakref import finalize

import msgspec

from .series import Distribution, Family, MetricType, Sample, Value, as_written
from .zero_first import INTERVALS, SeriesKey, ZeroFirst

log = logging.getLogger("llm_exporter")

_SUFFIX: Final = ".llm-exporter"
_HEAD: Final = struct.Struct("<II")
"""Before each series: how long what names it is, and how many numbers it has."""
_CHECK: Final = 4
"""Bytes after the numbers, by which they are known to be of one time."""
_READINGS: Final = 100


class Kept(NamedTuple):
    """One series of one process, as it was written last."""

    written: float
    alive: bool
    """Whether its process lives."""
    family: str
    labels: dict[str, str]
    samples: list[Sample]


class Processes:
    """The files of all processes, and this one's among them."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._lock = threading.Lock()
        self._end = 0
        path = directory / f"{os.getpid()}-{secrets.token_hex(4)}{_SUFFIX}"
        self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o644)
        finalize(self, os.close, self._file)
        _flock(self._file, wait=True)

    def append(self, record: bytes) -> int:
        """Add a series, and return where it is.

        Raises:
            OSError: when there is no room.
        """
        with self._lock:
            position = self._end
            os.pwrite(self._file, record, position)
            self._end += len(record)
        return position

    def write(self, values: bytes, position: int) -> None:
        """Write anew what a series came to."""
        os.pwrite(self._file, values, position)

    def kept(self) -> list[Kept]:
        """Return the series of all processes, those written last at the end."""
        found = [kept for path in self.directory.glob(f"*{_SUFFIX}") for kept in _read(path)]
        return sorted(found, key=lambda kept: kept.written)


def _read(path: Path) -> Iterator[Kept]:
    with path.open("rb") as file:
        alive = not _flock(file.fileno(), wait=False)
        content = file.read()
        position = 0
        while position + _HEAD.size < len(content):
            length, number = _HEAD.unpack_from(content, position)
            begin = position + _HEAD.size + length
            position = begin + 8 * number + _CHECK
            values = content[begin:position]
            for _ in range(_READINGS):
                if _check(values[:-_CHECK]) == values[-_CHECK:]:
                    break
                values = os.pread(file.fileno(), len(values), begin)  # it was just being written
            else:
                continue
            family, labels, names = _decode_key(content[begin - length : begin])
            written, *numbers = struct.unpack(f"<{number}d", values[:-_CHECK])
            samples = [(suffix, bound, value) for (suffix, bound), value in zip(names, numbers, strict=True)]
            yield Kept(written, alive, family, labels, samples)


def _check(values: bytes) -> bytes:
    return zlib.crc32(values).to_bytes(_CHECK, "little")


def _flock(file: int, *, wait: bool) -> bool:
    """Lock a file until it is closed; return whether nobody else does."""
    import fcntl  # noqa: PLC0415  # which Windows does not have, nor such servers

    try:
        fcntl.flock(file, fcntl.LOCK_EX if wait else fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


_decode_key: Final = msgspec.json.Decoder(tuple[str, dict[str, str], list[tuple[str, str]]]).decode


class _Record:
    """Where one series is written, from when it has a value on."""

    __slots__ = ("_family", "_labels", "_position", "_processes")

    def __init__(self, processes: Processes, family: str, labels: dict[str, str]) -> None:
        self._processes = processes
        self._family = family
        self._labels = labels
        self._position: int | None = None

    def write(self, one: Value | Distribution) -> None:
        """Write what the series comes to; what there is no room for is written when it changes again."""
        samples = list(one.samples())
        numbers = [time.time(), *(value for _, _, value in samples)]
        values = struct.pack(f"<{len(numbers)}d", *numbers)
        values += _check(values)
        try:
            if self._position is None:
                names = [(suffix, bound) for suffix, bound, _ in samples]
                key = msgspec.json.encode((self._family, self._labels, names))
                head = _HEAD.pack(len(key), len(numbers)) + key
                self._position = self._processes.append(head + values) + len(head)
            else:
                self._processes.write(values, self._position)
        except OSError:
            log.exception("llm-exporter could not share %s with other processes", self._family)


class _SharedValue(Value):
    __slots__ = ("_record",)

    def __init__(self, labels: str, record: _Record) -> None:
        super().__init__(labels)
        self._record = record

    def inc(self, more: float = 1) -> None:
        """See `Value.inc`."""
        super().inc(more)
        self._record.write(self)

    def dec(self) -> None:
        """See `Value.dec`."""
        super().dec()
        self._record.write(self)

    def set(self, value: float) -> None:
        """See `Value.set`."""
        super().set(value)
        self._record.write(self)


class _SharedDistribution(Distribution):
    __slots__ = ("_record",)

    def __init__(self, labels: str, bounds: dict[str, float], record: _Record) -> None:
        super().__init__(labels, bounds)
        self._record = record

    def observe(self, value: float) -> None:
        """See `Distribution.observe`."""
        super().observe(value)
        self._record.write(self)


class SharedFamily(Family):
    """Series of one name, of which other processes know."""

    def __init__(
        self,
        name: str,
        type_: MetricType,
        help_: str,
        labels: Sequence[str],
        buckets: Sequence[float],
        *,
        processes: Processes,
    ) -> None:
        super().__init__(name, type_, help_, labels, buckets)
        self._processes = processes

    def one(self, values: tuple[str, ...]) -> Value | Distribution:
        """See `Family.one`."""
        known = self.series.get(values)
        return self.series.setdefault(values, self._new(values)) if known is None else known

    def _new(self, values: tuple[str, ...]) -> Value | Distribution:
        labels = dict(zip(self.labels, values, strict=True))
        written = as_written(labels.items())
        record = _Record(self._processes, self.name, labels)
        if self.type == "histogram":
            return _SharedDistribution(written, self.bounds, record)
        return _SharedValue(written, record)


def processes() -> Processes | None:
    """Return the processes that share their series with this one; None when it is by itself."""
    directory = os.environ.get("PROMETHEUS_MULTIPROC_DIR")
    if not directory:
        return None
    try:
        return Processes(Path(directory))
    except OSError as error:
        log.error("llm-exporter shows this process alone: PROMETHEUS_MULTIPROC_DIR: %s", error)  # noqa: TRY400
        return None


class SharedZeroFirst(ZeroFirst):
    """Knows which series of any process are shown at 0, wherever a Prometheus has been answered before.

    All processes append to one file: when a series was shown at 0 first, and that it is no longer.

    Args:
        scrape_interval: of the Prometheus that scrapes the least often, in seconds.
        path: the file.
        clock: seconds on which the processes agree.
    """

    def __init__(self, scrape_interval: float, path: Path, clock: Callable[[], float] = time.time) -> None:
        super().__init__(scrape_interval, clock=clock)
        self._path = path
        self._read = 0
        self._shown: dict[SeriesKey, float] = {}
        self._known: set[SeriesKey] = set()

    def born(self, series: SeriesKey) -> None:
        """Take no note: a series of this process is found among those of all."""

    def holds_any(self) -> bool:
        """Return whether there may be any such series."""
        return True

    def holds(self, series: SeriesKey) -> bool:
        """Return whether a series is still to be shown at 0."""
        if series in self._known:
            return False
        with self._lock:
            if series not in self._shown and self._append([(self._clock(), series)]):
                self._shown[series] = self._clock()
        return True

    def scraped(self) -> None:
        """Note that a Prometheus scrapes now, and let go of the series that all have seen at 0."""
        with self._lock:
            self._catch_up()
            seen = self._clock() - self.scrape_interval * INTERVALS
            due = [series for series, shown in self._shown.items() if shown <= seen]
            if due and self._append((None, series) for series in due):
                self._release_all(due)

    def _release_all(self, due: Iterable[SeriesKey]) -> None:
        for series in due:
            self._known.add(series)
            self._shown.pop(series, None)

    def _catch_up(self) -> None:
        """Read what has been appended since."""
        try:
            with self._path.open("rb") as file:
                file.seek(self._read)
                whole, end, _ = file.read().rpartition(b"\n")
        except FileNotFoundError:
            return
        self._read += len(whole) + len(end)
        for line in whole.splitlines():
            try:
                shown, series = _decode_line(line)
            except msgspec.DecodeError:
                continue  # half a line, of when there was no room for the rest
            if shown is None:
                self._release_all([series])
            elif series not in self._known:
                self._shown[series] = min(shown, self._shown.get(series, shown))

    def _append(self, lines: Iterable[tuple[float | None, SeriesKey]]) -> bool:
        try:
            with self._path.open("ab", buffering=0) as file:
                # One write, so that lines of two processes do not mix.
                file.write(b"".join(msgspec.json.encode(line) + b"\n" for line in lines))
        except OSError:
            log.exception("llm-exporter could not keep which series are known; new ones stay at 0")
            return False
        return True


_decode_line: Final = msgspec.json.Decoder(tuple[float | None, SeriesKey]).decode
