"""The sink that counts calls into the metrics."""

from __future__ import annotations

import logging
import platform
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence, Set
from importlib.metadata import version
from threading import Lock
from typing import Final, cast

from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector
from prometheus_client.samples import Sample

from ..call import UNATTRIBUTED, Call
from ..client.retrieval import Outcome
from ..config.model import Config, SeriesLabels
from ..pricing.updates import table_timestamp
from .multiprocess import Kept, Processes, SharedFamily, SharedZeroFirst, processes
from .rate_limits import rate_limits
from .rendering import rendered
from .saved_sample import SavedSample
from .series import Distribution, Family, LooseFamily, Value
from .specs import (
    BASE_LABELS,
    BUDGET_REJECTED,
    BUDGET_STORE,
    BUILD_INFO,
    CALL_ERRORS,
    CALLS,
    COST,
    ERRORS,
    IN_FLIGHT,
    LABELLED_APART,
    LATENCY,
    METRICS,
    OTHER,
    OUTPUT_RATE,
    PRICE_TABLE,
    RATE_LIMIT,
    RATE_LIMIT_REMAINING,
    RECEIVED,
    RELOADED,
    RELOADED_AT,
    RETRIES,
    SERIES,
    SERIES_LIMIT,
    SERIES_OVER_LIMIT,
    SHIPPING_LAG,
    TIME_TO_FIRST_TOKEN,
    TOKENS,
    UNPRICED,
    USAGE_MISSING,
    Spec,
)
from .zero_first import SeriesKey, ZeroFirst

log = logging.getLogger("llm_exporter")

_DECLARED_TYPES: Final = ("input", "cache_read", "cache_write", "output", "reasoning")
"""The token types that a series named in the configuration is there for from the start."""


class Metrics(Collector):
    """Counts calls. No two threads may feed it the same metric: calls come from one worker.

    Args:
        config: its declared labels are on every metric of a call, its series are there at 0 from the start.
        zero_first: knows which series a Prometheus is to see at 0.
        processes: whose calls are shown too; None for those of this process alone.
    """

    def __init__(
        self,
        config: Config | None = None,
        zero_first: ZeroFirst | None = None,
        processes: Processes | None = None,
    ) -> None:
        config = config or Config()
        self._processes = processes
        self.seen_by_others = processes is not None
        """Whether other processes show what is counted here, and cannot flush what waits to be."""
        if processes is not None:
            zero_first = SharedZeroFirst(config.scrape_interval, processes.directory / "series.jsonl")
        self.zero_first = zero_first or ZeroFirst(config.scrape_interval)
        self.declared = config.labels
        """The labels of the configuration, which cannot change once there are series."""
        self.used = False
        """Whether a call has been counted."""
        self._children: dict[SeriesKey, Value | Distribution] = {}
        self._specs = {spec.name: spec for spec in METRICS}
        self._families = {spec.name: self._family(spec) for spec in METRICS}
        self.more: Callable[[], Iterable[Sample]] = tuple
        """Returns samples whose labels differ within a family."""
        self._bases: set[tuple[str, ...]] = set()
        """The label sets of calls that have series."""
        self._counting = Lock()
        for spec in METRICS:
            if not spec.labels:
                self._child(spec, ())
        self.budget_store(True)
        self.reloaded(time.time())
        self._gauge(BUILD_INFO, (version("llm-exporter"), platform.python_version())).set(1)
        self.configure(config)

    def configure(self, config: Config) -> None:
        """Follow a configuration that has the same labels."""
        self._config = config
        self.zero_first.scrape_interval = config.scrape_interval
        self._max_series = config.max_series
        self._has_room = True
        self._gauge(SERIES_LIMIT, ()).set(config.max_series)
        for labels in config.series:
            self._declare(labels)

    def _family(self, spec: Spec) -> Family:
        labels = self._label_names(spec)
        if spec.name in LABELLED_APART:
            return LooseFamily(spec.name, spec.type, spec.help, labels)
        if self._processes is not None:
            return SharedFamily(
                spec.name, spec.type, spec.help, labels, spec.buckets, processes=self._processes
            )
        return Family(spec.name, spec.type, spec.help, labels, spec.buckets)

    def _label_names(self, spec: Spec) -> tuple[str, ...]:
        base = len(BASE_LABELS)
        if spec.labels[:base] != BASE_LABELS:
            return spec.labels
        return (*BASE_LABELS, *self.declared, *spec.labels[base:])

    def _declare(self, labels: SeriesLabels) -> None:
        base = (
            labels.provider,
            labels.model,
            labels.agent,
            labels.phase,
            *(labels.labels.get(name, UNATTRIBUTED) for name in self.declared),
        )
        self._bases.add(base)
        self._counter(CALLS, (*base, labels.operation))
        for token_type in _DECLARED_TYPES:
            self._counter(TOKENS, (*base, token_type))
            self._counter(COST, (*base, token_type))

    def collect(self) -> Iterator[Metric]:
        """Yield the families as they stand, as `prometheus_client` has them."""
        for family in self._shown().values():
            yield family.metric()

    def text(self, *, scrape: bool, openmetrics: bool, names: Set[str] = frozenset()) -> Iterator[bytes]:
        """Return the families as text, which is rendered piece by piece.

        Args:
            scrape: whether it is for a Prometheus: a series that it has not seen yet is shown at 0 first.
            openmetrics: whether it is to be in that format, instead of the Prometheus text format.
            names: of the families that are wanted; none for all.
        """
        shown = self._shown()
        if scrape:
            self.zero_first.scraped()
        zero_first = self.zero_first if scrape else None
        families = [family for name, family in shown.items() if not names or name in names]
        return rendered(families, zero_first, openmetrics=openmetrics)

    def _shown(self) -> dict[str, Family]:
        """Return the families with what is true of the moment, of all processes."""
        self._refresh()
        if self._processes is None:
            return self._families
        of_all = Metrics(self._config)
        for kept in self._processes.kept():
            of_all.take_in(kept)
        return of_all._families

    def forked(self) -> Metrics:
        """Return what a process forked from this one is to count into."""
        if self._processes is None:
            return self
        metrics = Metrics(self._config, processes=processes())
        metrics.more = self.more
        return metrics

    def _refresh(self) -> None:
        """Set what is true of the moment."""
        self._gauge(SERIES, ()).set(len(self._children))
        self._gauge(PRICE_TABLE, ()).set(table_timestamp())
        more: defaultdict[str, list[Sample]] = defaultdict(list)
        for sample in self.more():
            more[sample.name].append(sample)
        for family in self._families.values():
            if isinstance(family, LooseFamily):
                family.show((sample.labels, sample.value) for sample in more[family.name])

    def describe(self) -> Iterator[Metric]:
        """Yield the families without samples, as a registry asks for them."""
        for family in self._families.values():
            yield Metric(family.name.removesuffix("_total"), family.help, family.type)

    def snapshot(self) -> list[SavedSample]:
        """Return what is counted so far, to be kept over a restart."""
        return [
            SavedSample(spec.name, sample.name, sample.labels, sample.value)
            for spec, metric in zip(METRICS, self.collect(), strict=True)
            if spec.type != "gauge"
            for sample in metric.samples
        ]

    def restore(self, counted: Sequence[SavedSample]) -> None:
        """Go on counting from a snapshot, also from one of a release or a configuration with other labels."""
        for one in counted:
            spec = self._specs.get(one.family)
            if spec is None:
                continue
            values = [one.labels.get(name) or UNATTRIBUTED for name in self._label_names(spec)]
            if spec.labels[: len(BASE_LABELS)] == BASE_LABELS:
                self._bases.add(tuple(values[: len(BASE_LABELS) + len(self.declared)]))
            suffix = one.sample.removeprefix(one.family)
            self._child(spec, tuple(values)).restore((suffix, one.labels.get("le", ""), one.value))

    def take_in(self, kept: Kept) -> None:
        """Add a series of another process; one that is taken in later is of later."""
        spec = self._specs.get(kept.family)
        if spec is None or (spec.type == "gauge" and not kept.alive):
            return
        values = tuple(kept.labels.get(name) or UNATTRIBUTED for name in self._label_names(spec))
        one = self._child(spec, values)
        for sample in kept.samples:
            if spec.type == "gauge" and spec is not IN_FLIGHT:
                cast("Value", one).set(sample[2])
            else:
                one.restore(sample)

    def started(self, call: Call) -> None:
        """Count a call as under way, under the model that was asked for."""
        self.used = True
        self._gauge(IN_FLIGHT, self._base(call, call.requested_model)).inc()

    def ended(self, outcome: Outcome) -> None:
        """Count a call that had `started` as no longer under way, and show the rate limits of its answer."""
        call = outcome.call
        if not outcome.retrieved:
            self._gauge(IN_FLIGHT, self._base(call, call.requested_model)).dec()
        for limit in rate_limits(outcome.headers.items()):
            spec = RATE_LIMIT if limit.kind == "limit" else RATE_LIMIT_REMAINING
            self._gauge(spec, (call.provider, call.model, limit.resource)).set(limit.value)

    def error(self, where: str) -> None:
        """Count an error inside the exporter."""
        self.count(ERRORS, 1, where)

    def budget_store(self, up: bool) -> None:
        """Show whether the service that shares the budgets answers."""
        self._gauge(BUDGET_STORE, ()).set(up)

    def reloaded(self, when: float | None) -> None:
        """Show when the configuration was read, in seconds since 1970; None when it could not be used."""
        self._gauge(RELOADED, ()).set(when is not None)
        if when is not None:
            self._gauge(RELOADED_AT, ()).set(when)

    def count(self, spec: Spec, number: float, *labels: str) -> None:
        """Add to a counter of the exporter itself, from any thread."""
        with self._counting:
            self._counter(spec, labels).inc(number)

    def received(self, call: Call) -> None:
        """Count a call that has come into the service's ledger, beside `record`."""
        self.count(RECEIVED, 1)
        lag = max(time.time() - call.started - call.duration, 0.0)
        self._histogram(SHIPPING_LAG, ()).observe(lag)

    def record(self, call: Call) -> None:
        """Count a finished call."""
        self.used = True
        base = self._base(call, call.model)
        if base[2] == OTHER != call.agent:
            self.count(SERIES_OVER_LIMIT, 1)
        by_operation = (*base, call.operation)
        self._counter(CALLS, by_operation).inc()
        if call.error == "budget":
            self.count(BUDGET_REJECTED, 1, call.budget)
        else:
            self._histogram(LATENCY, by_operation).observe(call.duration)
        for kind, number in call.tokens.items():
            self._counter(TOKENS, (*base, kind)).inc(number)
        for cost_type, usd in call.cost.items():
            self._counter(COST, (*base, cost_type)).inc(usd)
        for retry in call.retries:
            self._counter(RETRIES, (*base, retry)).inc()
        if call.error:
            self._counter(CALL_ERRORS, (*by_operation, call.error)).inc()
        elif not call.usage_reported:
            self._counter(USAGE_MISSING, by_operation).inc()
        if call.unpriced_tokens:
            self._counter(UNPRICED, base).inc(call.unpriced_tokens)
        if call.time_to_first_token is not None:
            self._record_pace(call, by_operation, call.time_to_first_token)

    def _record_pace(self, call: Call, by_operation: tuple[str, ...], first_token: float) -> None:
        self._histogram(TIME_TO_FIRST_TOKEN, by_operation).observe(first_token)
        generated = call.output_tokens
        if generated > 1 and call.duration > first_token:
            rate = (generated - 1) / (call.duration - first_token)
            self._histogram(OUTPUT_RATE, by_operation).observe(rate)

    def _base(self, call: Call, model: str) -> tuple[str, ...]:
        declared = (call.labels.get(name) or UNATTRIBUTED for name in self.declared)
        base = (call.provider, model, call.agent, call.phase, *declared)
        return base if base in self._bases else self._admitted(base)

    def _admitted(self, base: tuple[str, ...]) -> tuple[str, ...]:
        """Return what new series are labelled with, which is less when there are too many."""
        if len(self._children) >= self._max_series:
            if self._has_room:
                self._has_room = False
                log.warning("llm-exporter: %d series: labels of new ones become %r", self._max_series, OTHER)
            others = (OTHER,) * (len(base) - 2)
            # Models are few unless they are made up; what is left of the room is for them.
            far_beyond = len(self._children) >= self._max_series * 1.1
            known = (base[0], base[1], *others) in self._bases
            base = (base[0], base[1] if known or not far_beyond else OTHER, *others)
        self._bases.add(base)
        return base

    def _counter(self, spec: Spec, labels: tuple[str, ...]) -> Value:
        return cast("Value", self._child(spec, labels))

    def _gauge(self, spec: Spec, labels: tuple[str, ...]) -> Value:
        return cast("Value", self._child(spec, labels))

    def _histogram(self, spec: Spec, labels: tuple[str, ...]) -> Distribution:
        return cast("Distribution", self._child(spec, labels))

    def _child(self, spec: Spec, labels: tuple[str, ...]) -> Value | Distribution:
        key = (spec.name, *labels)
        child = self._children.get(key)
        if child is None:
            # What is no text (half a surrogate pair, from a file name) would break every scrape.
            values = tuple(value.encode("utf-8", "replace").decode() for value in labels)
            if spec.type != "gauge" and values not in self._families[spec.name].series:
                self.zero_first.born((spec.name, *values))
            child = self._children[key] = self._families[spec.name].one(values)
        return child
