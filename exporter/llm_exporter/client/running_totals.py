"""`RunningTotals`: what this process has spent, by any dimension of its calls."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import msgspec

from ..call import UNATTRIBUTED, Call, TokenType
from ..log import log
from ..threads import RLock

_MAX_VALUES: Final = 10_000
"""The most values of a dimension, such as sessions. Calls with further ones are added up as `other`."""
_MAX_DIMENSIONS: Final = 50
_MAX_RECENT: Final = 256
"""The most combinations of values that are not divided among the dimensions yet."""
_OTHER: Final = "other"
_NO_VALUES: Final[Mapping[str, str]] = {}


class Totals(msgspec.Struct, frozen=True, kw_only=True):
    """The totals of some calls."""

    calls: int = 0
    """Finished calls, including failed ones."""
    errors: int = 0
    """Failed calls."""
    cost_usd: float = 0.0
    """The cost in USD of all tokens and fees that have a price."""
    tokens: dict[TokenType, int] = {}
    """Tokens by type. Each token has exactly one type."""
    unpriced_tokens: int = 0
    """Tokens without a known price. They add no cost."""
    approximated_tokens: int = 0
    """Tokens with an approximate cost."""
    mean_latency_seconds: float | None = None
    """The mean time from a request to the last byte of its response, in seconds; None without requests."""


class RunningTotals:
    """Adds up calls on one thread, and reports them to any other.

    A call is added to the totals of its combination of values. Only a report, or many combinations, divide
    these among the dimensions.
    """

    def __init__(self) -> None:
        self._lock = RLock()  # a signal handler may ask during a report
        self.reset()

    def reset(self) -> None:
        """Start over."""
        with self._lock:
            self._all = _Sums()
            self._recent: dict[tuple[object, ...], _Sums] = {}
            self._by: dict[str, dict[str, _Sums]] = {}
            """The sums by dimension and value."""
            self._is_complete = True

    def add(self, call: Call) -> None:
        """Add a finished call."""
        key = (call.provider, call.model, call.operation, *call.labels.items())
        with self._lock:
            sums = self._recent.get(key)
            if sums is None:
                if len(self._recent) >= _MAX_RECENT:
                    self._divide()
                sums = self._recent[key] = _Sums(call)
            sums.count(call)

    def total(self) -> Totals:
        """Return the totals of all calls."""
        with self._lock:
            self._divide()
            return self._all.totals()

    def by(self, dimension: str) -> dict[str, Totals]:
        """Return the totals by the value of a dimension, most expensive first."""
        with self._lock:
            self._divide()
            sums = self._by.get(dimension)
            if sums is None:
                sums = {UNATTRIBUTED: self._all} if self._all.calls else {}
            found = [(value, one.totals()) for value, one in sums.items()]
        return dict(sorted(found, key=lambda item: (-item[1].cost_usd, -item[1].calls, item[0])))

    def _divide(self) -> None:
        """Add what is recent to the totals of each dimension."""
        for sums in self._recent.values():
            values = sums.values
            for dimension in values.keys() - self._by.keys():
                self._begin(dimension)
            for dimension, known in self._by.items():
                value = values.get(dimension, UNATTRIBUTED)
                if value not in known and len(known) >= _MAX_VALUES:
                    value = _OTHER
                known.setdefault(value, _Sums()).add(sums)
            self._all.add(sums)
        self._recent.clear()

    def _begin(self, dimension: str) -> None:
        if len(self._by) < _MAX_DIMENSIONS:
            self._by[dimension] = {}
            if self._all.calls:  # none of them has this label
                self._by[dimension][UNATTRIBUTED] = earlier = _Sums()
                earlier.add(self._all)
        elif self._is_complete:
            self._is_complete = False
            log.warning("llm-exporter: there are too many labels for totals by %s", dimension)


class _Sums:
    __slots__ = (
        "approximated",
        "calls",
        "cost",
        "errors",
        "requests",
        "seconds",
        "tokens",
        "unpriced",
        "values",
    )

    def __init__(self, of: Call | None = None) -> None:
        self.calls = self.errors = self.unpriced = self.approximated = self.requests = 0
        self.cost = self.seconds = 0.0
        self.tokens: dict[TokenType, int] = {}
        self.values = _NO_VALUES if of is None else _values(of)
        """The value of each dimension, if all of the calls have the same."""

    def count(self, call: Call) -> None:
        """Add a call."""
        self.calls += 1
        if call.error is not None:
            self.errors += 1
        for cost in call.cost.values():
            self.cost += cost
        tokens = self.tokens
        for kind, number in call.tokens.items():
            tokens[kind] = tokens.get(kind, 0) + number
        if call.unpriced_tokens:
            self.unpriced += call.unpriced_tokens
        if call.approximated:
            self.approximated += call.approximated_tokens
        if call.error != "budget":  # else nothing was sent
            self.requests += 1
            self.seconds += call.duration

    def add(self, other: _Sums) -> None:
        """Add other sums."""
        self.calls += other.calls
        self.errors += other.errors
        self.cost += other.cost
        for kind, number in other.tokens.items():
            self.tokens[kind] = self.tokens.get(kind, 0) + number
        self.unpriced += other.unpriced
        self.approximated += other.approximated
        self.requests += other.requests
        self.seconds += other.seconds

    def totals(self) -> Totals:
        """Return them as others see them."""
        return Totals(
            calls=self.calls,
            errors=self.errors,
            cost_usd=self.cost,
            tokens=dict(self.tokens),
            unpriced_tokens=self.unpriced,
            approximated_tokens=self.approximated,
            mean_latency_seconds=self.seconds / self.requests if self.requests else None,
        )


def _values(call: Call) -> dict[str, str]:
    """Return the dimensions of a call: its labels, and the names that every call has."""
    return {
        **{name: value for name, value in call.labels.items() if value},
        "agent": call.agent,
        "phase": call.phase,
        "provider": call.provider,
        "model": call.model,
        "operation": call.operation,
    }
