"""Shows new series at 0 first when several processes share their series."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Final

import msgspec
from typing_extensions import override

from ..log import log
from .zero_first import INTERVALS, SeriesKey, ZeroFirst


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
            with self._path.open("rb") as file:
                file.seek(self._offset)
                complete, newline, _ = file.read().rpartition(b"\n")
        except FileNotFoundError:
            return
        self._offset += len(complete) + len(newline)
        for line in complete.splitlines():
            try:
                shown, series = _decode_line(line)
            except msgspec.DecodeError:
                continue  # a line that was cut off because the disk was full
            if shown is None:
                self._mark_released([series])
            elif series not in self._released:
                self._first_shown[series] = min(shown, self._first_shown.get(series, shown))

    def _append(self, lines: Iterable[tuple[float | None, SeriesKey]]) -> bool:
        try:
            with self._path.open("ab", buffering=0) as file:
                # A single write, so that lines of two processes do not mix.
                file.write(b"".join(msgspec.json.encode(line) + b"\n" for line in lines))
        except OSError:
            log.exception("llm-exporter could not save which series were shown; new ones stay at 0")
            return False
        return True


_decode_line: Final = msgspec.json.Decoder(tuple[float | None, SeriesKey]).decode
