"""The metrics, and the sink that counts calls into them."""

from __future__ import annotations

import logging
import platform
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence, Set
from dataclasses import dataclass
from importlib.metadata import version
from threading import Lock
from typing import Final, cast

import msgspec
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector
from prometheus_client.samples import Sample

from .call import UNATTRIBUTED, Call
from .config import Config, SeriesLabels
from .price_updates import table_timestamp
from .prices import PROMPT_TYPES
from .rate_limits import rate_limits
from .rendering import rendered
from .retrieval import Outcome
from .series import Distribution, Family, LooseFamily, MetricType, Value
from .zero_first import Series, ZeroFirst

log = logging.getLogger("llm_exporter")

_BUDGET: Final = ("budget", "period")
_THRESHOLD: Final = ("threshold", "window")

BASE_LABELS: Final = ("provider", "model", "agent", "phase")
OTHER: Final = "other"
"""The agent, phase or declared label of calls that there are too many series for."""


@dataclass(frozen=True, slots=True)
class Spec:
    """One metric family: what the README's table, the dashboards' tests and the registry are made from."""

    name: str
    """The name as it is scraped."""
    type: MetricType
    help: str
    labels: tuple[str, ...] = ()
    buckets: tuple[float, ...] = ()


def _of_call(name: str, type_: MetricType, help_: str, *labels: str, buckets: tuple[float, ...] = ()) -> Spec:
    return Spec(name, type_, help_, BASE_LABELS + labels, buckets)


TOKENS: Final = _of_call(
    "llm_tokens_total",
    "counter",
    "Tokens by disjoint type; their sum is what the provider counted.",
    "token_type",
)
COST: Final = _of_call(
    "llm_cost_usd_total", "counter", "Cost in USD by token type, and `tools` for per-use fees.", "token_type"
)
CALLS: Final = _of_call("llm_calls_total", "counter", "Finished calls, failed ones included.", "operation")
CALL_ERRORS: Final = _of_call(
    "llm_call_errors_total", "counter", "Calls that failed, by kind of error.", "operation", "error"
)
LATENCY: Final = _of_call(
    "llm_latency_seconds",
    "histogram",
    "Seconds from the request to the last byte of the answer, retries included.",
    "operation",
    buckets=(0.1, 0.25, 0.5, 1, 2, 4, 8, 15, 30, 60, 120, 300, 600),
)
TIME_TO_FIRST_TOKEN: Final = _of_call(
    "llm_time_to_first_token_seconds",
    "histogram",
    "Seconds from the request to the first generated token; streams only.",
    "operation",
    buckets=(0.05, 0.1, 0.2, 0.4, 0.7, 1, 1.5, 2, 4, 8, 15, 30, 60),
)
OUTPUT_RATE: Final = _of_call(
    "llm_output_tokens_per_second",
    "histogram",
    "Generated tokens a second after the first one; streams only.",
    "operation",
    buckets=(5, 10, 20, 30, 40, 60, 80, 100, 150, 200, 300, 500, 1000),
)
IN_FLIGHT: Final = _of_call("llm_calls_in_flight", "gauge", "Calls under way, by the model asked for.")
RETRIES: Final = _of_call(
    "llm_retries_total", "counter", "Attempts after the first, by what the one before failed of.", "error"
)
UNPRICED: Final = _of_call(
    "llm_unpriced_tokens_total", "counter", "Tokens for which no price is known; they add no cost."
)
USAGE_MISSING: Final = _of_call(
    "llm_usage_missing_total",
    "counter",
    "Successful calls that ended with no usage from the provider.",
    "operation",
)
RATE_LIMIT_REMAINING: Final = Spec(
    "llm_rate_limit_remaining",
    "gauge",
    "What is left of a rate limit, by the headers of the last answer.",
    ("provider", "model", "resource"),
)
RATE_LIMIT: Final = Spec(
    "llm_rate_limit_limit",
    "gauge",
    "The rate limit of a resource, by the headers of the last answer.",
    ("provider", "model", "resource"),
)
BUDGET_LIMIT_USD: Final = Spec(
    "llm_budget_limit_usd",
    "gauge",
    "What a budget allows in a period; also labelled with what it matches.",
    _BUDGET,
)
BUDGET_SPENT_USD: Final = Spec(
    "llm_budget_spent_usd", "gauge", "What is spent of a budget in the current period.", _BUDGET
)
BUDGET_LIMIT_TOKENS: Final = Spec(
    "llm_budget_limit_tokens",
    "gauge",
    "Tokens that a budget allows in a period; also labelled with what it matches.",
    _BUDGET,
)
BUDGET_SPENT_TOKENS: Final = Spec(
    "llm_budget_spent_tokens", "gauge", "Tokens used of a budget in the current period.", _BUDGET
)
BUDGET_REJECTED: Final = Spec(
    "llm_budget_rejected_calls_total", "counter", "Calls that a budget kept from being sent.", ("budget",)
)
THRESHOLD: Final = Spec(
    "llm_cost_threshold_usd",
    "gauge",
    "A threshold of spending in a window; also labelled with what it matches.",
    _THRESHOLD,
)
THRESHOLD_SPENT: Final = Spec(
    "llm_cost_threshold_spent_usd", "gauge", "What is spent in the current window of a threshold.", _THRESHOLD
)
BUDGET_STORE: Final = Spec(
    "llm_exporter_budget_store_up",
    "gauge",
    "0 if the service that shares the budgets did not answer when it was asked last.",
)
SERIES: Final = Spec(
    "llm_exporter_series", "gauge", "Series that are exported, each histogram counted as one."
)
SERIES_LIMIT: Final = Spec(
    "llm_exporter_series_limit", "gauge", "Series at which the labels of new ones become `other`."
)
SERIES_OVER_LIMIT: Final = Spec(
    "llm_exporter_series_over_limit_total",
    "counter",
    "Calls whose agent, phase and declared labels became `other` because there are too many series.",
)
RELOADED: Final = Spec(
    "llm_exporter_config_last_reload_successful",
    "gauge",
    "1 if the configuration could be used when it was read last, 0 if not.",
)
RELOADED_AT: Final = Spec(
    "llm_exporter_config_last_reload_success_timestamp_seconds",
    "gauge",
    "When a configuration that could be used was read last, in seconds since 1970.",
)
ERRORS: Final = Spec(
    "llm_exporter_errors_total", "counter", "Errors inside the exporter, kept from the caller.", ("where",)
)
RECEIVED: Final = Spec(
    "llm_exporter_received_calls_total", "counter", "Calls that the service has taken into its ledger."
)
DUPLICATES: Final = Spec(
    "llm_exporter_duplicate_calls_total", "counter", "Calls that came again, and were not counted again."
)
SHIPPED: Final = Spec(
    "llm_exporter_shipped_calls_total", "counter", "Calls that the service has acknowledged to this process."
)
DROPPED: Final = Spec(
    "llm_exporter_dropped_calls_total",
    "counter",
    "Calls that could not be kept until they were shipped.",
    ("reason",),
)
SHIPPING_LAG: Final = Spec(
    "llm_exporter_shipping_lag_seconds",
    "histogram",
    "Seconds from the end of a call to its place in the service's ledger.",
    buckets=(0.1, 0.25, 0.5, 1, 2, 5, 15, 60, 300, 3600, 86400),
)
PRICE_TABLE: Final = Spec(
    "llm_exporter_price_table_timestamp_seconds",
    "gauge",
    "When the price table in use was fetched, or installed, in seconds since 1970.",
)
BUILD_INFO: Final = Spec(
    "llm_exporter_build_info",
    "gauge",
    "Constant 1, labelled with the versions in use.",
    ("version", "python_version"),
)

METRICS: Final[tuple[Spec, ...]] = (
    TOKENS,
    COST,
    CALLS,
    CALL_ERRORS,
    LATENCY,
    TIME_TO_FIRST_TOKEN,
    OUTPUT_RATE,
    IN_FLIGHT,
    RETRIES,
    UNPRICED,
    USAGE_MISSING,
    RATE_LIMIT_REMAINING,
    RATE_LIMIT,
    BUDGET_LIMIT_USD,
    BUDGET_SPENT_USD,
    BUDGET_LIMIT_TOKENS,
    BUDGET_SPENT_TOKENS,
    BUDGET_REJECTED,
    THRESHOLD,
    THRESHOLD_SPENT,
    BUDGET_STORE,
    SERIES,
    SERIES_LIMIT,
    SERIES_OVER_LIMIT,
    RELOADED,
    RELOADED_AT,
    ERRORS,
    RECEIVED,
    DUPLICATES,
    SHIPPED,
    DROPPED,
    SHIPPING_LAG,
    PRICE_TABLE,
    BUILD_INFO,
)
"""Every metric that is exported."""

_LABELLED_APART: Final = {spec.name for spec in METRICS if spec.labels in (_BUDGET, _THRESHOLD)}
"""Those whose samples are also labelled with what a budget or threshold matches."""
_DECLARED_TYPES: Final = ("input", "cache_read", "cache_write", "output", "reasoning")
"""The token types that a series named in the configuration is there for from the start."""


class Counted(msgspec.Struct, array_like=True):
    """One sample of a counter or histogram, as it is kept over a restart."""

    family: str
    """The name of its `Spec`."""
    sample: str
    labels: dict[str, str]
    """By name: those of the call may be others after the restart."""
    value: float


class Metrics(Collector):
    """Counts calls. No two threads may feed it the same metric: calls come from one worker.

    Args:
        config: its declared labels are on every metric of a call, its series are there at 0 from the start.
        zero_first: knows which series a Prometheus is to see at 0.
    """

    def __init__(self, config: Config | None = None, zero_first: ZeroFirst | None = None) -> None:
        config = config or Config()
        self.zero_first = zero_first or ZeroFirst(config.scrape_interval)
        self.declared = config.labels
        """The labels of the configuration, which cannot change once there are series."""
        self.used = False
        """Whether a call has been counted."""
        self._children: dict[Series, Value | Distribution] = {}
        self._specs = {spec.name: spec for spec in METRICS}
        self._families = {
            spec.name: (Family if spec.name not in _LABELLED_APART else LooseFamily)(
                spec.name, spec.type, spec.help, self._label_names(spec), spec.buckets
            )
            for spec in METRICS
        }
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
        self.zero_first.scrape_interval = config.scrape_interval
        self._max_series = config.max_series
        self._has_room = True
        self._gauge(SERIES_LIMIT, ()).set(config.max_series)
        for labels in config.series:
            self._declare(labels)

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
        self._refresh()
        for family in self._families.values():
            yield family.metric()

    def text(self, *, scrape: bool, openmetrics: bool, names: Set[str] = frozenset()) -> Iterator[bytes]:
        """Return the families as text, which is rendered piece by piece.

        Args:
            scrape: whether it is for a Prometheus: a series that it has not seen yet is shown at 0 first.
            openmetrics: whether it is to be in that format, instead of the Prometheus text format.
            names: of the families that are wanted; none for all.
        """
        self._refresh()
        if scrape:
            self.zero_first.scraped()
        zero_first = self.zero_first if scrape else None
        families = [family for name, family in self._families.items() if not names or name in names]
        return rendered(families, zero_first, openmetrics=openmetrics)

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

    def snapshot(self) -> list[Counted]:
        """Return what is counted so far, to be kept over a restart."""
        return [
            Counted(spec.name, sample.name, sample.labels, sample.value)
            for spec, metric in zip(METRICS, self.collect(), strict=True)
            if spec.type != "gauge"
            for sample in metric.samples
        ]

    def restore(self, counted: Sequence[Counted]) -> None:
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
        if call.error != "budget":  # which was not sent
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
        generated = sum(number for kind, number in call.tokens.items() if kind not in PROMPT_TYPES)
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
