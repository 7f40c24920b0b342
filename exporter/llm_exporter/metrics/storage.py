"""Where series are stored: in the memory of this process, unless `multiprocess` shares them."""

from __future__ import annotations

import time
from collections.abc import Mapping

from typing_extensions import override

from ..config.model import Config
from ..guard import Report
from .registry import Registry
from .series import Histogram, Scalar, SeriesFactory, labels_text
from .zero_first import ZeroFirst


class Storage(SeriesFactory):
    """Stores the series of a single process in memory.

    Args:
        zero_first: decides which series a Prometheus is shown at 0.
    """

    shared = False
    """Whether other processes show these series too, and so cannot flush the calls of this process."""

    def __init__(self, zero_first: ZeroFirst | None = None) -> None:
        self.zero_first = zero_first or ZeroFirst(Config().scrape_interval)

    @override
    def scalar(self, family: str, labels: Mapping[str, str]) -> Scalar:
        return Scalar(labels_text(labels.items()), time.time())

    @override
    def histogram(self, family: str, labels: Mapping[str, str], bounds: dict[str, float]) -> Histogram:
        return Histogram(labels_text(labels.items()), bounds, time.time())

    def shown(self, registry: Registry, report: Report) -> Registry:
        """Return the series that `/metrics` shows, given those of this process.

        Args:
            registry: the series of this process.
            report: called with errors in the series of other processes.
        """
        del report
        return registry

    def after_fork(self) -> Storage:
        """Return the storage for a process that was forked from this one."""
        return self
