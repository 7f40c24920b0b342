"""Shows new series at 0 first, so that `increase()` counts their first value.

Prometheus computes an increase from two samples of a series. If the first sample of a counter is 5, those 5
are lost (https://github.com/prometheus/prometheus/issues/1673). So a new series is shown at 0 until every
Prometheus that scrapes at the configured interval has had time to see it. Then its value is shown.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from typing import Final

from ..log import log
from ..threads import Lock

SeriesKey = tuple[str, ...]
"""The name of a metric family and the values of its labels."""

INTERVALS: Final = 2.5
"""How many scrape intervals 0 is shown. Within two, every other Prometheus scrapes even if one of its scrapes
fails; the half absorbs a scrape that comes a few milliseconds early."""


class ZeroFirst:
    """Decides which series are shown at 0.

    The time starts with the first scrape that shows a series, not when the series is created: a Prometheus
    may discover this process, or come back, much later.

    Args:
        scrape_interval: the longest scrape interval of any Prometheus, in seconds.
        persist: called with the series that are about to show their value, to remember them over a restart;
            they stay at 0 while it raises.
        clock: returns monotonic seconds.
    """

    def __init__(
        self,
        scrape_interval: float,
        persist: Callable[[Iterable[SeriesKey]], None] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.scrape_interval = scrape_interval
        self._persist = persist
        self._clock = clock
        self._lock = Lock()
        self._held: dict[SeriesKey, float | None] = {}
        """When each series was first shown; None before that."""

    def hold(self, series: SeriesKey) -> None:
        """Show a new series at 0 for now."""
        with self._lock:
            self._held[series] = None

    def release(self, series: Iterable[SeriesKey]) -> None:
        """Show the values of series that were released before a restart."""
        with self._lock:
            for one in series:
                self._held.pop(one, None)

    def is_held(self, series: SeriesKey) -> bool:
        """Return whether a series is shown at 0.

        Read its value before calling this: a series that was created after `on_scrape` is held too.
        """
        return series in self._held

    def any_held(self) -> bool:
        """Return whether any series may be shown at 0."""
        return bool(self._held)

    def on_scrape(self) -> None:
        """Note that a Prometheus scrapes now, and release the series that all have seen at 0."""
        with self._lock:
            now = self._clock()
            due = [
                series
                for series, shown in self._held.items()
                if shown is not None and now - shown >= self.scrape_interval * INTERVALS
            ]
            if due and self._persisted(due):
                for series in due:
                    del self._held[series]
            for series, shown in self._held.items():
                if shown is None:
                    self._held[series] = now

    def _persisted(self, due: list[SeriesKey]) -> bool:
        if self._persist is not None:
            try:
                self._persist(due)
            except Exception:
                log.exception("llm-exporter could not save which series were shown; new ones stay at 0")
                return False
        return True
