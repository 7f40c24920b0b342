"""Shows new series at 0 first when several processes share their series."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Final

import msgspec
from typing_extensions import override

from ..log import log
from ..private_files import open_regular
from .zero_first import INTERVALS, SeriesKey, ZeroFirst

_MAX_BYTES: Final = 2**28
"""Bytes that are read at once. The limit on the number of series keeps the file far below it."""


class SharedZeroFirst(ZeroFirst):
    """Decides which series are shown at 0, whichever process a Prometheus scrapes.

    All processes append to one file: when a series was first shown at 0, and when it was released.

    Args:
        scrape_interval: the longest scrape interval of any Prometheus, in seconds.
        path: the file.
        clock: returns seconds that all processes agree on.
    """

    def __init__(self, scrape_interval: float, path: Path, clock: Callable[[], float] = time.time) -> None:
        super().__init__(scrape_interval, clock=clock)
        self._path = path
        self._offset = 0
        self._said = False
        """Whether the last error was logged."""
        self._first_shown: dict[SeriesKey, float] = {}
        self._released: set[SeriesKey] = set()

    @override
    def hold(self, series: SeriesKey) -> None:
        pass  # `is_held` holds every series that has not been released, of any process

    @override
    def any_held(self) -> bool:
        return True

    @override
    def is_held(self, series: SeriesKey) -> bool:
        if series in self._released:
            return False
        with self._lock:
            if series not in self._first_shown and self._append([(self._clock(), series)]):
                self._first_shown[series] = self._clock()
        return True

    @override
    def on_scrape(self) -> None:
        with self._lock:
            self._read_new_lines()
            latest = self._clock() - self.scrape_interval * INTERVALS
            due = [series for series, shown in self._first_shown.items() if shown <= latest]
            if due and self._append((None, series) for series in due):
                self._mark_released(due)

    def _mark_released(self, due: Iterable[SeriesKey]) -> None:
        for series in due:
            self._released.add(series)
            self._first_shown.pop(series, None)

    def _read_new_lines(self) -> None:
        try:
            with open(open_regular(self._path), "rb") as file:
                file.seek(self._offset)
                complete, newline, _ = file.read(_MAX_BYTES).rpartition(b"\n")
        except FileNotFoundError:
            return
        except OSError as error:
            self._say(error)
            return
        self._offset += len(complete) + len(newline)
        for line in complete.splitlines():
            try:
                shown, series = _decode_line(line)
            except (msgspec.DecodeError, UnicodeDecodeError):
                continue  # a line that was cut off because the disk was full
            if shown is None:
                self._mark_released([series])
            elif series not in self._released:
                self._first_shown[series] = min(shown, self._first_shown.get(series, shown))

    def _append(self, lines: Iterable[tuple[float | None, SeriesKey]]) -> bool:
        try:
            flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT
            with open(open_regular(self._path, flags), "ab", buffering=0) as file:
                # A single write, so that lines of two processes do not mix.
                file.write(b"".join(msgspec.json.encode(line) + b"\n" for line in lines))
        except OSError as error:
            self._say(error)
            return False
        self._said = False
        return True

    def _say(self, error: OSError) -> None:
        if not self._said:
            self._said = True
            log.error(
                "llm-exporter could not save which series were shown; new ones stay at 0: %s: %s",
                self._path,
                error,
            )


_decode_line: Final = msgspec.json.Decoder(tuple[float | None, SeriesKey]).decode
