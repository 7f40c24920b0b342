"""What is exported: a `Spec` for each metric family."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from .series import MetricType

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

LABELLED_APART: Final = {spec.name for spec in METRICS if spec.labels in (_BUDGET, _THRESHOLD)}
"""Those whose samples are also labelled with what a budget or threshold matches."""
