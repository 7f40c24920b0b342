"""Estimate a call before it is sent."""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil
from typing import Final, NamedTuple, Protocol

from ..call import PROMPT_TYPES, Call, TokenType
from ..pricing.tariffs import Terms
from ..pricing.upper_bound import UpperBound
from .asked import Asked, paid_uses

_CHARACTERS_PER_TOKEN: Final = 4
"""A rule of thumb: https://help.openai.com/en/articles/4936856."""
_DEFAULT_OUTPUT_TOKENS: Final = 1024
"""The estimated output of a model that we have not observed, if the request sets no maximum."""
_MAX_DEFAULT_OUTPUT_TOKENS: Final = 4096
"""The largest estimated output of such a model: many requests set a maximum far beyond what they need."""
_DECAY: Final = 0.95
"""The factor by which each response lowers the estimate that a more expensive one has set."""
_MAX_MODELS: Final = 10_000
_WRITES_UNASKED: Final = frozenset({"openai", "azure"})
"""Providers that bill cache writes although the request asks for no cache."""


class _Pricing(Protocol):
    """What estimates need of a price list."""

    def costs_nothing(self, call: Call) -> bool: ...

    def upper_bounds(
        self, terms: Terms, started: float, cache_writes: tuple[TokenType, ...], uses: tuple[str, ...]
    ) -> Sequence[UpperBound]: ...


class _Observed(NamedTuple):
    """The most expensive of a model's recent responses."""

    model: str
    """The model name in the response."""
    tokens: float
    usd: float


class Estimates:
    """Estimates the most that a call is expected to cost.

    The input is estimated from its length, at the highest price that it may have: as a cache write, at the
    requested service tier and in the region of the address.

    The first output of a model is estimated at the request's maximum, up to 4,096 tokens, or at 1,024 tokens
    without a maximum. After that, the most expensive recent response is the estimate, up to the request's
    maximum. This covers responses without tokens (images, tool fees) too.

    Args:
        prices: prices the estimates.
    """

    def __init__(self, prices: _Pricing) -> None:
        self._prices = prices
        self._observed: dict[tuple[str, str], _Observed] = {}

    def carry_over(self, other: Estimates) -> None:
        """Keep the observed responses over a reload."""
        self._observed = other._observed

    def expected_model(self, call: Call) -> str:
        """Return the model that will answer: the one in earlier responses, else the requested one."""
        observed = self._observed.get((call.provider, call.requested_model))
        return observed.model if observed else call.requested_model

    def estimate(self, call: Call, asked: Asked) -> tuple[float, int]:
        """Return the estimated USD and tokens of a call whose request asks for this."""
        input_tokens = -(-asked.characters // _CHARACTERS_PER_TOKEN)
        observed = self._observed.get((call.provider, call.requested_model))
        if observed is None:
            maximum = asked.max_tokens
            output_tokens = min(maximum, _MAX_DEFAULT_OUTPUT_TOKENS) if maximum else _DEFAULT_OUTPUT_TOKENS
            usd = self._upper_bound(call, asked, input_tokens, output_tokens, tuple(paid_uses(asked.tools)))
            return usd, input_tokens + output_tokens
        tokens, usd = observed.tokens, observed.usd
        if asked.max_tokens and asked.max_tokens < tokens:
            usd, tokens = usd * asked.max_tokens / tokens, asked.max_tokens
        return self._upper_bound(call, asked, input_tokens) + usd, input_tokens + ceil(tokens)

    def _upper_bound(
        self, call: Call, asked: Asked, input_tokens: int, output_tokens: int = 0, uses: tuple[str, ...] = ()
    ) -> float:
        if self._prices.costs_nothing(call):
            return 0.0
        service_tier, speed, region, cache_writes = asked.terms
        terms = Terms(
            call.provider,
            call.model,
            call.requested_model,
            service_tier or call.service_tier,
            speed or call.speed,
            call.batch,
            region or call.region,
            call.host,
        )
        if call.provider in _WRITES_UNASKED:
            cache_writes = (*cache_writes, "cache_write")
        usd = 0.0
        for bound in self._prices.upper_bounds(terms, call.started, cache_writes, uses):
            usd = max(usd, float(bound.usd(input_tokens, output_tokens)))
        return usd

    def observe(self, call: Call) -> None:
        """Learn from the output of a finished call."""
        if call.error or not (call.tokens or call.cost):
            return
        tokens: float = call.output_tokens
        usd = sum(cost for kind, cost in call.cost.items() if kind not in PROMPT_TYPES)
        key = call.provider, call.requested_model
        if before := self._observed.get(key):
            tokens, usd = max(tokens, before.tokens * _DECAY), max(usd, before.usd * _DECAY)
        elif len(self._observed) >= _MAX_MODELS:
            return
        self._observed[key] = _Observed(call.model, tokens, usd)
