"""The exporter's metrics about itself."""

from __future__ import annotations

import platform
import time
from collections.abc import Sequence
from importlib.metadata import version

from ..call import Call
from ..pricing.updates import table_timestamp
from ..threads import Lock
from .registry import Registry
from .specs import (
    BUDGET_STORE,
    BUILD_INFO,
    ERRORS,
    METRICS,
    PRICE_TABLE,
    RECEIVED,
    RELOADED,
    RELOADED_AT,
    SERIES,
    SERIES_LIMIT,
    SHIPPING_LAG,
    Spec,
)


class ExporterMetrics:
    """Counts what the exporter itself does. Any thread may use it.

    Args:
        registry: holds the series; those without labels are added at 0.
    """

    def __init__(self, registry: Registry) -> None:
        self._registry = registry
        self._lock = Lock()
        for spec in METRICS:
            if not spec.labels:
                registry.families[spec.name].at(())
        self.set_budget_store_up(up=True)
        self.set_reloaded(time.time())
        registry.scalars(BUILD_INFO).at((version("llm-exporter"), platform.python_version())).set(1)

    def count(self, spec: Spec, number: float, *labels: str) -> None:
        """Add to a counter."""
        with self._lock:
            self._registry.scalars(spec).at(labels).inc(number)

    def count_error(self, where: str) -> None:
        """Count an error inside the exporter."""
        self.count(ERRORS, 1, where)

    def count_received(self, calls: Sequence[Call]) -> None:
        """Count calls that the service has added to its ledger."""
        self.count(RECEIVED, len(calls))
        now, lag = time.time(), self._registry.histograms(SHIPPING_LAG).at(())
        for call in calls:
            lag.observe(max(now - call.started - call.duration, 0.0))

    def set_budget_store_up(self, *, up: bool) -> None:
        """Show whether the service that shares the budgets responds."""
        self._set(BUDGET_STORE, up)

    def set_reloaded(self, at: float | None) -> None:
        """Show when the configuration was read, in Unix seconds; None if it was invalid."""
        self._set(RELOADED, at is not None)
        if at is not None:
            self._set(RELOADED_AT, at)

    def set_series_limit(self, max_series: int) -> None:
        """Show the limit on the number of series."""
        self._set(SERIES_LIMIT, max_series)

    def refresh(self) -> None:
        """Set the gauges that are computed for each scrape."""
        self._set(SERIES, self._registry.size())
        self._set(PRICE_TABLE, table_timestamp())

    def _set(self, gauge: Spec, value: float) -> None:
        self._registry.scalars(gauge).at(()).set(value)
