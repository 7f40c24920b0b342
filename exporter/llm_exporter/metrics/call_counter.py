"""Counts calls: tokens, cost, errors, latency and calls in flight."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from ..bounds import clean_call
from ..call import UNATTRIBUTED, Call
from ..config.model import SeriesLabels
from .answered_models import AnsweredModels
from .families import Family
from .rate_limits import rate_limits
from .registry import Registry
from .series import Exemplar, Scalar
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


class _ByType(dict[str, Scalar]):
    """The series of one family for each type of tokens, with the same other labels.

    Args:
        family: the family.
        base: the values of the other labels.
    """

    __slots__ = ("_base", "_family")

    def __init__(self, family: Family[Scalar], base: tuple[str, ...]) -> None:
        self._family = family
        self._base = base

    def __missing__(self, token_type: str) -> Scalar:
        labels = (*self._base, token_type)
        series = self._family.at(labels)
        if self._family.series.get(labels) is series:  # else there are too many series
            self[token_type] = series
        return series


class _Group:
    """The calls with the same labels.

    Args:
        by_operation: the values of the base and declared labels, and the operation.
        tokens: the family that counts tokens.
        cost: the family that counts cost.
    """

    __slots__ = ("base", "by_operation", "cost", "tokens")

    def __init__(self, by_operation: tuple[str, ...], tokens: Family[Scalar], cost: Family[Scalar]) -> None:
        self.by_operation = by_operation
        self.base = by_operation[:-1]
        self.tokens = _ByType(tokens, self.base)
        self.cost = _ByType(cost, self.base)


class CallCounter:
    """Counts calls. Only one thread may use it.

    Args:
        registry: holds the series.
        limit: decides which labels new series get.
    """

    def __init__(self, registry: Registry, limit: SeriesLimit) -> None:
        self.has_calls = False
        """Whether a call has been counted."""
        self._registry = registry
        self._limit = limit
        self._models = AnsweredModels()
        self._in_flight_of: dict[str, Scalar] = {}
        """The gauge that each call in flight is counted in, by the id of the call."""
        self._groups: dict[tuple[str, ...], _Group] = {}
        """The groups of calls by labels that the limit leaves alone."""
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
        self._limit.allow((*base, labels.operation))
        self._calls.add((*base, labels.operation))
        for token_type in _DECLARED_TYPES:
            self._tokens.add((*base, token_type))
            self._cost.add((*base, token_type))

    def started(self, call: Call) -> None:
        """Count a call as in flight, under the model that will probably answer."""
        self.has_calls = True
        asked = self._labels(call, self._models.expected(call))
        gauge = self._in_flight_of[call.id] = self._in_flight.at(self._limit.admit(asked)[:-1])
        gauge.inc()

    def ended(self, call: Call, headers: Mapping[str, str], *, retrieved: bool) -> None:
        """Stop counting a call as in flight, and show the rate limits of its response.

        Args:
            call: the call.
            headers: the headers of the response.
            retrieved: whether the call only retrieved an earlier response, and so never `started`.
        """
        gauge = self._in_flight_of.pop(call.id, None)
        if gauge is not None:
            gauge.dec()
        if limits := rate_limits(headers):
            clean_call(call)
            provider, model, *_ = self._limit.admit(self._labels(call, self._models.of(call)))
            if OTHER in (provider, model):
                return  # a limit of several models together would mean nothing
            for limit in limits:
                family = self._rate_limit if limit.kind == "limit" else self._rate_limit_remaining
                family.at((provider, model, limit.resource)).set(limit.value)

    def record(self, call: Call) -> None:
        """Count a finished call."""
        self.has_calls = True
        self._models.learn(call)
        asked = self._labels(call, self._models.of(call))
        group = self._groups.get(asked) or self._new_group(asked)
        folded = self._registry.folded
        self._count(call, group)
        if call.trace_id and call.error != "budget":
            self._illustrate(call, group)
        if group.by_operation != asked or self._registry.folded != folded:
            self._over_limit.at(()).inc()

    def _new_group(self, asked: tuple[str, ...]) -> _Group:
        group = _Group(self._limit.admit(asked), self._tokens, self._cost)
        if group.by_operation == asked:
            self._groups[asked] = group
        return group

    def _count(self, call: Call, group: _Group) -> None:
        base, by_operation = group.base, group.by_operation
        self._calls.at(by_operation).inc()
        if call.error == "budget":
            self._budget_rejected.at((call.budget,)).inc()
        else:
            self._latency.at(by_operation).observe(call.duration)
        for token_type, number in call.tokens.items():
            group.tokens[token_type].inc(number)
        for cost_type, usd in call.cost.items():
            group.cost[cost_type].inc(usd)
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
            self._unread.at(self._by_route(base[0], call.route)).inc()
        if call.time_to_first_token is not None:
            self._record_pace(call, by_operation, call.time_to_first_token)

    def _illustrate(self, call: Call, group: _Group) -> None:
        """Let the series of the latency and the cost of a call show its trace."""
        ended = call.started + call.duration
        self._latency.at(group.by_operation).illustrate(Exemplar(call.trace_id, call.duration, ended))
        for cost_type, usd in call.cost.items():
            group.cost[cost_type].exemplar = Exemplar(call.trace_id, usd, ended)

    def _by_route(self, provider: str, route: str) -> tuple[str, str]:
        """Return the provider and the route of an unread request; the route is `other` beyond the limit."""
        known = self._unread.series
        return (provider, route if (provider, route) in known or len(known) < _MAX_ROUTES else OTHER)

    def _record_pace(self, call: Call, by_operation: tuple[str, ...], first_token: float) -> None:
        self._time_to_first_token.at(by_operation).observe(first_token)
        generated = call.output_tokens
        if generated > 1 and call.duration > first_token:
            rate = (generated - 1) / (call.duration - first_token)
            self._output_rate.at(by_operation).observe(min(rate, _MAX_RATE))

    def _labels(self, call: Call, model: str) -> tuple[str, ...]:
        """Return the base and declared labels of a call, and its operation."""
        label = call.labels.get
        agent, phase = label("agent") or UNATTRIBUTED, label("phase") or UNATTRIBUTED
        declared = [label(name) or UNATTRIBUTED for name in self._declared]
        return (call.provider, model, agent, phase, *declared, call.operation)
