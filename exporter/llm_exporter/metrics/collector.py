"""`Metrics`: counts calls and the exporter's own work, and exposes the counts to Prometheus."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence, Set
from typing import TYPE_CHECKING, Any

from ..bounds import clean_text, mistake
from ..call import Call
from ..config.model import Config
from ..guard import guarded
from ..log import log
from . import snapshot
from .call_counter import CallCounter
from .exporter_metrics import ExporterMetrics
from .families import Family
from .protobuf import encoded
from .registry import GaugeSample, Registry
from .rendering import rendered
from .saved_sample import SavedSample
from .series_limit import SeriesLimit
from .specs import Spec
from .storage import Storage
from .zero_first import SeriesKey, ZeroFirst

if TYPE_CHECKING:
    from prometheus_client import Metric


class Metrics:
    """The metrics of one process or of the service.

    Only one thread may call `started`, `ended` and `record`.

    Args:
        config: its declared labels are on every metric of a call, and its series exist at 0 from the start.
        storage: where the series are stored; in memory by default.
        gauges: returns the samples of budgets and thresholds; called on every scrape.
    """

    def __init__(
        self,
        config: Config | None = None,
        storage: Storage | None = None,
        gauges: Callable[[], Iterable[GaugeSample]] = tuple,
    ) -> None:
        config = config or Config()
        self._storage = storage or Storage()
        self._gauges = gauges
        self.zero_first = self._storage.zero_first
        self.shared = self._storage.shared
        """Whether other processes show these series too, and so cannot flush the calls of this process."""
        if config.native_histograms and self.shared:
            log.warning("llm-exporter: native_histograms has no effect with PROMETHEUS_MULTIPROC_DIR")
        self._registry = Registry(
            config.labels,
            self._storage,
            self.zero_first.hold,
            native_histograms=config.native_histograms and not self.shared,
        )
        self._limit = SeriesLimit(self._registry, config.max_series)
        self._calls = CallCounter(self._registry, self._limit)
        self._exporter = ExporterMetrics(self._registry)
        self.configure(config)

    def fixed_setting(self, config: Config) -> str:
        """Return a setting of a configuration that cannot change once there are series, but does; else ""."""
        fixed = ("labels", "native_histograms")
        return next((name for name in fixed if getattr(config, name) != getattr(self._config, name)), "")

    def configure(self, config: Config) -> None:
        """Use a configuration without a changed `fixed_setting` from now on."""
        self._config = config
        self.zero_first.scrape_interval = config.scrape_interval
        self._limit.configure(config.max_series)
        self._exporter.set_series_limit(config.max_series)
        for labels in config.series:
            self._calls.declare(labels)

    def after_fork(self) -> Metrics:
        """Return the metrics for a process that was forked from this one."""
        storage = self._storage.after_fork()
        return self if storage is self._storage else Metrics(self._config, storage, self._gauges)

    @property
    def has_calls(self) -> bool:
        """Whether a call has been counted."""
        return self._calls.has_calls

    def started(self, call: Call) -> None:
        """Count a call as in flight, under the model that will probably answer."""
        self._calls.started(call)

    def ended(self, call: Call, headers: Mapping[str, str], *, retrieved: bool) -> None:
        """Stop counting a call as in flight, and show the rate limits of its response.

        Args:
            call: the call.
            headers: the headers of the response.
            retrieved: whether the call only retrieved an earlier response, and so never `started`.
        """
        self._calls.ended(call, headers, retrieved=retrieved)

    def record(self, call: Call) -> None:
        """Count a finished call, if it can be counted."""
        if self.can_count(call):
            self.add(call)

    def add(self, call: Call) -> None:
        """Count a finished call that `can_count`."""
        self._calls.record(call)

    def can_count(self, call: Call) -> bool:
        """Return whether a call can be counted. If not, log why, and count that as an error."""
        reason = mistake(call)
        if reason:
            log.error("llm-exporter: call %s is left out: %s", clean_text(call.id), reason)
            self.count_error("call")
        return not reason

    def count(self, spec: Spec, number: float, *labels: str) -> None:
        """Add to a counter of the exporter itself, from any thread."""
        self._exporter.count(spec, number, *labels)

    def count_error(self, where: str) -> None:
        """Count an error inside the exporter, from any thread."""
        self._exporter.count_error(where)

    def count_received(self, calls: Sequence[Call]) -> None:
        """Count calls that the service has added to its ledger, in addition to `record`."""
        self._exporter.count_received(calls)

    def set_budget_store_up(self, *, up: bool) -> None:
        """Show whether the service that shares the budgets responds."""
        self._exporter.set_budget_store_up(up=up)

    def set_reloaded(self, at: float | None) -> None:
        """Show when the configuration was read, in Unix seconds; None if it was invalid."""
        self._exporter.set_reloaded(at)

    def snapshot(self) -> list[SavedSample]:
        """Return every sample of the counters and histograms, to be saved over a restart."""
        return snapshot.save(self._registry)

    def restore(self, samples: Iterable[SavedSample]) -> None:
        """Continue from a snapshot, perhaps of a release or a configuration with other labels."""
        snapshot.restore(self._registry, self._limit, samples)

    def resume(self, released: Collection[SeriesKey]) -> None:
        """Show the values of series that a Prometheus was shown before a restart.

        Their start is unknown: if it were that of this process, a Prometheus would count their value again.
        """
        self.zero_first.release(released)
        self._registry.forget_starts(released)

    def collect(self) -> Iterator[Metric]:
        """Yield the current families as `prometheus_client` metrics."""
        for family in self._shown().families.values():
            yield family.metric()

    def describe(self) -> Iterator[Metric]:
        """Yield the families without samples, which a registry needs on registration."""
        from prometheus_client import Metric  # noqa: PLC0415  # takes as long as the rest of the metrics

        for family in self._registry.families.values():
            yield Metric(family.name.removesuffix("_total"), family.help, family.type)

    def text(self, *, scrape: bool, openmetrics: bool, names: Set[str] = frozenset()) -> Iterator[bytes]:
        """Yield the families as text, piece by piece.

        Args:
            scrape: whether a Prometheus asks, which is shown new series at 0 first.
            openmetrics: whether to use OpenMetrics instead of the Prometheus text format.
            names: the families to include; all if empty.
        """
        families, zero_first = self._asked_for(names, scrape=scrape)
        return rendered(families, zero_first, openmetrics=openmetrics)

    def protobuf(self, *, scrape: bool, names: Set[str] = frozenset()) -> Iterator[bytes]:
        """Yield the families in the protobuf format, piece by piece.

        Args:
            scrape: whether a Prometheus asks, which is shown new series at 0 first, and the start of each.
            names: the families to include; all if empty.
        """
        scraped = time.time() if scrape else 0.0
        families, zero_first = self._asked_for(names, scrape=scrape)
        return encoded(families, zero_first, scraped=scraped)

    def _asked_for(self, names: Set[str], *, scrape: bool) -> tuple[list[Family[Any]], ZeroFirst | None]:
        """Return the families of these names, and what decides which of their series are shown at 0."""
        shown = self._shown().families
        if scrape:
            self.zero_first.on_scrape()
        families = [family for name, family in shown.items() if not names or name in names]
        return families, self.zero_first if scrape else None

    def _shown(self) -> Registry:
        self._exporter.refresh()
        guarded("gauges", self._replace_gauges, report=self._report)
        return self._storage.shown(self._registry, self._report)

    def _replace_gauges(self) -> None:
        self._registry.replace_varying_gauges(self._gauges())

    def _report(self, where: str, error: BaseException) -> None:
        log.error("llm-exporter failed in %s", where, exc_info=error)
        self.count_error(where)
