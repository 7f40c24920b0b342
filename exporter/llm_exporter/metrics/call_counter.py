"""Counts calls: tokens, cost, errors, latency and calls in flight."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from ..call import UNATTRIBUTED, Call
from ..config.model import SeriesLabels
from .rate_limits import rate_limits
from .registry import Registry
from .series_limit import SeriesLimit
from .specs import (
    APPROXIMATED,
    BUDGET_REJECTED,
    CALL_ERRORS,
    CALLS,
    COST,
    IN_FLIGHT,
    LATENCY,
    OTHER,
    OUTPUT_RATE,
    RATE_LIMIT,
    RATE_LIMIT_REMAINING,
    RETRIES,
    SERIES_OVER_LIMIT,
    TIME_TO_FIRST_TOKEN,
    TOKENS,
    UNPRICED,
    UNREAD_REQUESTS,
    USAGE_MISSING,
)

_DECLARED_TYPES: Final = ("input", "cache_read", "cache_write", "output", "reasoning")
"""The token types of a series that the configuration declares."""
_MAX_ROUTES: Final = 100
"""The maximum number of series of unread requests, apart from `other`: routes come from outside."""
_MAX_RATE: Final = 1e6
"""The largest output rate that is observed. No model generates faster: the text came in one piece."""


class CallCounter:
    """Counts calls. Only one thread may use it.

    Args:
        registry: holds the series.
        limit: decides which labels new series get.
    """

    def __init__(self, registry: Registry, limit: SeriesLimit) -> None:
        self.has_calls = False
        """Whether a call has been counted."""
        self._limit = limit
        self._declared = registry.declared_labels
        self._calls = registry.scalars(CALLS)
        self._tokens = registry.scalars(TOKENS)
        self._cost = registry.scalars(COST)
        self._errors = registry.scalars(CALL_ERRORS)
        self._retries = registry.scalars(RETRIES)
        self._unpriced = registry.scalars(UNPRICED)
        self._approximated = registry.scalars(APPROXIMATED)
        self._unread = registry.scalars(UNREAD_REQUESTS)
        self._usage_missing = registry.scalars(USAGE_MISSING)
        self._budget_rejected = registry.scalars(BUDGET_REJECTED)
        self._over_limit = registry.scalars(SERIES_OVER_LIMIT)
        self._in_flight = registry.scalars(IN_FLIGHT)
        self._rate_limit = registry.scalars(RATE_LIMIT)
        self._rate_limit_remaining = registry.scalars(RATE_LIMIT_REMAINING)
        self._latency = registry.histograms(LATENCY)
        self._time_to_first_token = registry.histograms(TIME_TO_FIRST_TOKEN)
        self._output_rate = registry.histograms(OUTPUT_RATE)

    def declare(self, labels: SeriesLabels) -> None:
        """Add a series that the configuration declares, at 0."""
        declared = (labels.labels.get(name, UNATTRIBUTED) for name in self._declared)
        base = (labels.provider, labels.model, labels.agent, labels.phase, *declared)
        self._limit.allow(base)
        self._calls.at((*base, labels.operation))
        for token_type in _DECLARED_TYPES:
            self._tokens.at((*base, token_type))
            self._cost.at((*base, token_type))

    def started(self, call: Call) -> None:
        """Count a call as in flight, under the requested model."""
        self.has_calls = True
        self._in_flight.at(self._base(call, call.requested_model)).inc()

    def ended(self, call: Call, headers: Mapping[str, str], *, retrieved: bool) -> None:
        """Stop counting a call as in flight, and show the rate limits of its response.

        Args:
            call: the call.
            headers: the headers of the response.
            retrieved: whether the call only retrieved an earlier response, and so never `started`.
        """
        if not retrieved:
            self._in_flight.at(self._base(call, call.requested_model)).dec()
        for limit in rate_limits(headers.items()):
            family = self._rate_limit if limit.kind == "limit" else self._rate_limit_remaining
            family.at((call.provider, call.model, limit.resource)).set(limit.value)

    def record(self, call: Call) -> None:
        """Count a finished call."""
        self.has_calls = True
        base = self._base(call, call.model)
        if base[2] == OTHER != call.agent:
            self._over_limit.at(()).inc()
        by_operation = (*base, call.operation)
        self._calls.at(by_operation).inc()
        if call.error == "budget":
            self._budget_rejected.at((call.budget,)).inc()
        else:
            self._latency.at(by_operation).observe(call.duration)
        for token_type, number in call.tokens.items():
            self._tokens.at((*base, token_type)).inc(number)
        for cost_type, usd in call.cost.items():
            self._cost.at((*base, cost_type)).inc(usd)
        for error in call.retries:
            self._retries.at((*base, error)).inc()
        if call.error:
            self._errors.at((*by_operation, call.error)).inc()
        elif not call.usage_reported:
            self._usage_missing.at(by_operation).inc()
        if call.unpriced_tokens:
            self._unpriced.at(base).inc(call.unpriced_tokens)
        for reason, number in call.approximated.items():
            self._approximated.at((*base, reason)).inc(number)
        if call.route and not call.error:
            self._unread.at(self._by_route(call)).inc()
        if call.time_to_first_token is not None:
            self._record_pace(call, by_operation, call.time_to_first_token)

    def _by_route(self, call: Call) -> tuple[str, str]:
        """Return the provider and the route of an unread request; the route is `other` beyond the limit."""
        by_route = call.provider, call.route
        known = self._unread.series
        return by_route if by_route in known or len(known) < _MAX_ROUTES else (call.provider, OTHER)

    def _record_pace(self, call: Call, by_operation: tuple[str, ...], first_token: float) -> None:
        self._time_to_first_token.at(by_operation).observe(first_token)
        generated = call.output_tokens
        if generated > 1 and call.duration > first_token:
            rate = (generated - 1) / (call.duration - first_token)
            self._output_rate.at(by_operation).observe(min(rate, _MAX_RATE))

    def _base(self, call: Call, model: str) -> tuple[str, ...]:
        declared = (call.labels.get(name) or UNATTRIBUTED for name in self._declared)
        return self._limit.admit((call.provider, model, call.agent, call.phase, *declared))
