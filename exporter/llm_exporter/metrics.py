"""The metrics, and the sink that counts calls into them."""

from __future__ import annotations

import platform
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import version
from typing import Final, Literal, cast

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.metrics import MetricWrapperBase
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from .call import Call
from .prices import PROMPT_TYPES
from .rate_limits import rate_limits
from .retrieval import Outcome

MetricType = Literal["counter", "gauge", "histogram"]

BASE_LABELS: Final = ("provider", "model", "agent", "phase")


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
ERRORS: Final = Spec(
    "llm_exporter_errors_total", "counter", "Errors inside the exporter, kept from the caller.", ("where",)
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
    ERRORS,
    BUILD_INFO,
)
"""Every metric that is exported."""


class Metrics(Collector):
    """Counts calls. Not for several threads at once: the exporter's one worker feeds it."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        self._children: dict[tuple[str, ...], MetricWrapperBase] = {}
        self._families: dict[str, MetricWrapperBase] = {spec.name: self._family(spec) for spec in METRICS}
        self._gauge(BUILD_INFO, (version("llm-exporter"), platform.python_version())).set(1)

    def _family(self, spec: Spec) -> MetricWrapperBase:
        if spec.type == "histogram":
            return Histogram(spec.name, spec.help, spec.labels, buckets=spec.buckets, registry=self._registry)
        kind = Counter if spec.type == "counter" else Gauge
        return kind(spec.name, spec.help, spec.labels, registry=self._registry)

    def collect(self) -> Iterator[Metric]:
        """Yield the families, without the `_created` series, which would double their number."""
        for family in self._registry.collect():
            family.samples = [sample for sample in family.samples if not sample.name.endswith("_created")]
            yield family

    def describe(self) -> Iterator[Metric]:
        """Yield the families without samples, as a registry asks for them."""
        for family in self._registry.collect():
            family.samples = []
            yield family

    def started(self, call: Call) -> None:
        """Count a call as under way, under the model that was asked for."""
        self._gauge(IN_FLIGHT, _asked(call)).inc()

    def ended(self, outcome: Outcome) -> None:
        """Count a call that had `started` as no longer under way, and show the rate limits of its answer."""
        call = outcome.call
        if not outcome.retrieved:
            self._gauge(IN_FLIGHT, _asked(call)).dec()
        for limit in rate_limits(outcome.headers.items()):
            spec = RATE_LIMIT if limit.kind == "limit" else RATE_LIMIT_REMAINING
            self._gauge(spec, (call.provider, call.model, limit.resource)).set(limit.value)

    def error(self, where: str) -> None:
        """Count an error inside the exporter."""
        self._counter(ERRORS, (where,)).inc()

    def record(self, call: Call) -> None:
        """Count a finished call."""
        base = (call.provider, call.model, call.agent, call.phase)
        by_operation = (*base, call.operation)
        self._counter(CALLS, by_operation).inc()
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

    # `labels()` validates and takes a lock each time: a series is looked up once and kept.

    def _counter(self, spec: Spec, labels: tuple[str, ...]) -> Counter:
        return cast("Counter", self._child(spec, labels))

    def _gauge(self, spec: Spec, labels: tuple[str, ...]) -> Gauge:
        return cast("Gauge", self._child(spec, labels))

    def _histogram(self, spec: Spec, labels: tuple[str, ...]) -> Histogram:
        return cast("Histogram", self._child(spec, labels))

    def _child(self, spec: Spec, labels: tuple[str, ...]) -> MetricWrapperBase:
        key = (spec.name, *labels)
        child = self._children.get(key)
        if child is None:
            # What is no text (half a surrogate pair, from a file name) would break every scrape.
            values = [value.encode("utf-8", "replace").decode() for value in labels]
            child = self._children[key] = self._families[spec.name].labels(*values)
        return child


def _asked(call: Call) -> tuple[str, ...]:
    return (call.provider, call.requested_model, call.agent, call.phase)
