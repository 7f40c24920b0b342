"""The specification of every metric: name, type, help text, labels and buckets."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from .series import MetricType

_BUDGET: Final = ("budget", "period")
_THRESHOLD: Final = ("threshold", "window")

BASE_LABELS: Final = ("provider", "model", "agent", "phase")
OTHER: Final = "other"
"""The value of labels beyond the limit on the number of series."""


@dataclass(frozen=True, slots=True)
class Spec:
    """One metric family. The registry, the README's table and the dashboards' tests are made from it."""

    name: str
    """The name as it is scraped."""
    type: MetricType
    help: str
    labels: tuple[str, ...] = ()
    buckets: tuple[float, ...] = ()
    varying_labels: bool = False
    """Whether each series also has the labels that its budget or threshold matches."""

    few_values: bool = False
    """Whether our code alone chooses the values of the labels, so that they are few."""

    @property
    def has_few_series(self) -> bool:
        """Whether nothing from outside can add series."""
        return self.few_values or not self.labels

    @property
    def has_call_labels(self) -> bool:
        """Whether series have the base labels, and so the declared ones."""
        return self.labels[: len(BASE_LABELS)] == BASE_LABELS


def _call_spec(
    name: str, type_: MetricType, help_: str, *labels: str, buckets: tuple[float, ...] = ()
) -> Spec:
    return Spec(name, type_, help_, BASE_LABELS + labels, buckets)


TOKENS: Final = _call_spec(
    "llm_tokens_total",
    "counter",
    "Tokens by type. Each token has exactly one type, so the sum is the total that the provider counted.",
    "token_type",
)
COST: Final = _call_spec(
    "llm_cost_usd_total",
    "counter",
    "Cost in USD by token type. Per-use fees, such as web searches, have the type `tools`.",
    "token_type",
)
CALLS: Final = _call_spec("llm_calls_total", "counter", "Finished calls, including failed ones.", "operation")
CALL_ERRORS: Final = _call_spec(
    "llm_call_errors_total", "counter", "Failed calls, by kind of error.", "operation", "error"
)
LATENCY: Final = _call_spec(
    "llm_latency_seconds",
    "histogram",
    "Seconds from the request to the last byte of the response, including retries.",
    "operation",
    buckets=(0.1, 0.25, 0.5, 1, 2, 4, 8, 15, 30, 60, 120, 300, 600),
)
TIME_TO_FIRST_TOKEN: Final = _call_spec(
    "llm_time_to_first_token_seconds",
    "histogram",
    "Seconds from the request to the first generated token. Streams only.",
    "operation",
    buckets=(0.05, 0.1, 0.2, 0.4, 0.7, 1, 1.5, 2, 4, 8, 15, 30, 60),
)
OUTPUT_RATE: Final = _call_spec(
    "llm_output_tokens_per_second",
    "histogram",
    "Generated tokens per second after the first token. Streams only.",
    "operation",
    buckets=(5, 10, 20, 30, 40, 60, 80, 100, 150, 200, 300, 500, 1000),
)
IN_FLIGHT: Final = _call_spec(
    "llm_calls_in_flight", "gauge", "Calls in flight, by the model that last answered to the requested name."
)
RETRIES: Final = _call_spec(
    "llm_retries_total", "counter", "Retries, by the error that caused them.", "error"
)
UNPRICED: Final = _call_spec(
    "llm_unpriced_tokens_total", "counter", "Tokens of models without a known price. They add no cost."
)
APPROXIMATED: Final = _call_spec(
    "llm_price_approximated_tokens_total",
    "counter",
    "Tokens with an approximate cost, because the price list lacks their tier, region, fee or the like.",
    "reason",
)
USAGE_MISSING: Final = _call_spec(
    "llm_usage_missing_total",
    "counter",
    "Successful calls for which the provider reported no usage.",
    "operation",
)
RATE_LIMIT_REMAINING: Final = Spec(
    "llm_rate_limit_remaining",
    "gauge",
    "Remaining rate limit of a resource, from the headers of the last response.",
    ("provider", "model", "resource"),
)
RATE_LIMIT: Final = Spec(
    "llm_rate_limit_limit",
    "gauge",
    "Rate limit of a resource, from the headers of the last response.",
    ("provider", "model", "resource"),
)
BUDGET_LIMIT_USD: Final = Spec(
    "llm_budget_limit_usd",
    "gauge",
    "USD limit of a budget per period. Also has the labels that the budget matches.",
    _BUDGET,
    varying_labels=True,
)
BUDGET_SPENT_USD: Final = Spec(
    "llm_budget_spent_usd",
    "gauge",
    "USD spent from a budget in the current period.",
    _BUDGET,
    varying_labels=True,
)
BUDGET_LIMIT_TOKENS: Final = Spec(
    "llm_budget_limit_tokens",
    "gauge",
    "Token limit of a budget per period. Also has the labels that the budget matches.",
    _BUDGET,
    varying_labels=True,
)
BUDGET_SPENT_TOKENS: Final = Spec(
    "llm_budget_spent_tokens",
    "gauge",
    "Tokens used from a budget in the current period.",
    _BUDGET,
    varying_labels=True,
)
BUDGET_BLOCKING: Final = Spec(
    "llm_budget_blocking",
    "gauge",
    "Whether a budget rejects calls that could exceed it (1) or only warns (0).",
    _BUDGET,
    varying_labels=True,
)
BUDGET_REJECTED: Final = Spec(
    "llm_budget_rejected_calls_total",
    "counter",
    "Calls rejected by a budget before they were sent.",
    ("budget",),
)
THRESHOLD: Final = Spec(
    "llm_cost_threshold_usd",
    "gauge",
    "Cost threshold in USD per window. Also has the labels that the threshold matches.",
    _THRESHOLD,
    varying_labels=True,
)
THRESHOLD_SPENT: Final = Spec(
    "llm_cost_threshold_spent_usd",
    "gauge",
    "USD spent in the current window of a threshold.",
    _THRESHOLD,
    varying_labels=True,
)
ACCOUNTS_LEFT_OUT: Final = Spec(
    "llm_exporter_accounts_left_out",
    "gauge",
    "Accounts of a budget or threshold without series, because they are not among its 1,000 fullest.",
    ("rule",),
    varying_labels=True,
)
BUDGET_STORE: Final = Spec(
    "llm_exporter_budget_store_up",
    "gauge",
    "1 if the service that shares the budgets responded to the last request, 0 if not.",
)
CATCHING_UP: Final = Spec(
    "llm_exporter_budgets_catching_up",
    "gauge",
    "Budgets and thresholds that do not include all calls from before they were configured yet.",
    varying_labels=True,
)
SERIES: Final = Spec("llm_exporter_series", "gauge", "Exported series. A histogram counts as one.")
SERIES_LIMIT: Final = Spec(
    "llm_exporter_series_limit", "gauge", "Number of series beyond which new label values become `other`."
)
SERIES_OVER_LIMIT: Final = Spec(
    "llm_exporter_series_over_limit_total",
    "counter",
    "Calls counted under `other` because the limit on the number of series was reached.",
)
RELOADED: Final = Spec(
    "llm_exporter_config_last_reload_successful",
    "gauge",
    "1 if the last attempt to load the configuration succeeded, 0 if not.",
)
RELOADED_AT: Final = Spec(
    "llm_exporter_config_last_reload_success_timestamp_seconds",
    "gauge",
    "Unix time of the last successful load of the configuration.",
)
UNREAD_REQUESTS: Final = Spec(
    "llm_exporter_unread_requests_total",
    "counter",
    "Requests to a known provider whose response no reader takes. Their usage and cost are unknown.",
    ("provider", "route"),
)
ERRORS: Final = Spec(
    "llm_exporter_errors_total",
    "counter",
    "Errors inside the exporter. They never reach the caller.",
    ("where",),
    few_values=True,
)
AUTHENTICATION_FAILURES: Final = Spec(
    "llm_exporter_authentication_failures_total",
    "counter",
    "Requests to the service with a wrong token or password, or a session that has ended.",
    ("credentials",),
    few_values=True,
)
RECEIVED: Final = Spec(
    "llm_exporter_received_calls_total", "counter", "Calls that the service has added to its ledger."
)
DUPLICATES: Final = Spec(
    "llm_exporter_duplicate_calls_total",
    "counter",
    "Calls received more than once. They are counted only once.",
)
REFUSED: Final = Spec(
    "llm_exporter_refused_requests_total",
    "counter",
    "Requests that the service refused because of a limit: `size`, `memory` or `streams`.",
    ("reason",),
    few_values=True,
)
MISSED_EVENTS: Final = Spec(
    "llm_exporter_missed_events_total",
    "counter",
    "Events that slow subscribers of the service missed.",
)
SHIPPED: Final = Spec(
    "llm_exporter_shipped_calls_total",
    "counter",
    "Calls shipped by this process and acknowledged by the service.",
)
DROPPED: Final = Spec(
    "llm_exporter_dropped_calls_total",
    "counter",
    "Calls dropped before the service acknowledged them.",
    ("reason",),
    few_values=True,
)
SHIPPING_LAG: Final = Spec(
    "llm_exporter_shipping_lag_seconds",
    "histogram",
    "Seconds from the end of a call until the service has added it to its ledger.",
    buckets=(0.1, 0.25, 0.5, 1, 2, 5, 15, 60, 300, 3600, 86400),
)
PRICE_TABLE: Final = Spec(
    "llm_exporter_price_table_timestamp_seconds",
    "gauge",
    "Unix time when the current price table was fetched or installed.",
)
BUILD_INFO: Final = Spec(
    "llm_exporter_build_info",
    "gauge",
    "Always 1. The labels are the versions in use.",
    ("version", "python_version"),
    few_values=True,
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
    APPROXIMATED,
    USAGE_MISSING,
    RATE_LIMIT_REMAINING,
    RATE_LIMIT,
    BUDGET_LIMIT_USD,
    BUDGET_SPENT_USD,
    BUDGET_LIMIT_TOKENS,
    BUDGET_SPENT_TOKENS,
    BUDGET_BLOCKING,
    BUDGET_REJECTED,
    THRESHOLD,
    THRESHOLD_SPENT,
    ACCOUNTS_LEFT_OUT,
    BUDGET_STORE,
    CATCHING_UP,
    SERIES,
    SERIES_LIMIT,
    SERIES_OVER_LIMIT,
    RELOADED,
    RELOADED_AT,
    UNREAD_REQUESTS,
    ERRORS,
    AUTHENTICATION_FAILURES,
    RECEIVED,
    DUPLICATES,
    REFUSED,
    MISSED_EVENTS,
    SHIPPED,
    DROPPED,
    SHIPPING_LAG,
    PRICE_TABLE,
    BUILD_INFO,
)
"""Every metric that is exported."""
