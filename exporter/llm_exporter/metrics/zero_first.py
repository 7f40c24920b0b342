"""New series are seen at 0 first, so that `increase()` counts their first value.

Prometheus knows what a counter rose by only between two samples of it: of one that is born at 5, the 5 is
lost (https://github.com/prometheus/prometheus/issues/1673). So a Prometheus is shown 0 until every Prometheus
that scrapes at the configured interval has had the time to see it; what was counted then comes in one step.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterable
from typing import Final

log = logging.getLogger("llm_exporter")

SeriesKey = tuple[str, ...]
"""The name of a metric family and the values of its labels."""

INTERVALS: Final = 2.5
"""How long 0 is shown, in scrape intervals: within two, another Prometheus scrapes even if one of its scrapes
fails, and the half keeps one that comes a few milliseconds early from deciding."""


class ZeroFirst:
    """Knows the series that are shown at 0.

    The time runs from the first scrape that shows a series, not from its birth: a Prometheus may find this
    process, or come back, long after.

    Args:
        scrape_interval: of the Prometheus that scrapes the least often, in seconds.
        release: called with the series whose value is about to be shown for the first time, to keep that
            over a restart; while it raises, they stay at 0.
        clock: seconds that only go forward.
    """

    def __init__(
        self,
        scrape_interval: float,
        release: Callable[[Iterable[SeriesKey]], None] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.scrape_interval = scrape_interval
        self._release = release
        self._clock = clock
        self._lock = threading.Lock()
        self._waiting: dict[SeriesKey, float | None] = {}
        """When each was shown first; None while it has not been."""

    def born(self, series: SeriesKey) -> None:
        """Hold a series at 0."""
        with self._lock:
            self._waiting[series] = None

    def known(self, series: Iterable[SeriesKey]) -> None:
        """Show the values of series that were released before a restart."""
        with self._lock:
            for one in series:
                self._waiting.pop(one, None)

    def holds(self, series: SeriesKey) -> bool:
        """Return whether a series is still to be shown at 0.

        To be asked after its value was read: one that was born since `scraped` is held too.
        """
        return series in self._waiting

    def holds_any(self) -> bool:
        """Return whether there is any such series."""
        return bool(self._waiting)

    def scraped(self) -> None:
        """Note that a Prometheus scrapes now, and let go of the series that all have seen at 0."""
        with self._lock:
            now = self._clock()
            due = [
                series
                for series, shown in self._waiting.items()
                if shown is not None and now - shown >= self.scrape_interval * INTERVALS
            ]
            if due and self._released(due):
                for series in due:
                    del self._waiting[series]
            for series, shown in self._waiting.items():
                if shown is None:
                    self._waiting[series] = now

    def _released(self, due: list[SeriesKey]) -> bool:
        if self._release is not None:
            try:
                self._release(due)
            except Exception:
                log.exception("llm-exporter could not keep which series are known; new ones stay at 0")
                return False
        return True
