"""Estimate a call before it is sent."""

from __future__ import annotations

from math import ceil
from typing import Final, NamedTuple

from ..call import PROMPT_TYPES, Call
from ..pricing.prices import PriceList
from ..wire.fields import count
from ..wire.text_length import text_length

_CHARACTERS_PER_TOKEN: Final = 4
"""A rule of thumb: https://help.openai.com/en/articles/4936856."""
_DEFAULT_OUTPUT_TOKENS: Final = 1024
"""The estimated output of a model that we have not observed, if the request sets no maximum."""
_MAX_DEFAULT_OUTPUT_TOKENS: Final = 4096
"""The largest estimated output of such a model: many requests set a maximum far beyond what they need."""
_DECAY: Final = 0.95
"""The factor by which each response lowers the estimate that a more expensive one has set."""
_MAX_MODELS: Final = 10_000
_MAX_TOKENS_KEYS: Final = ("max_completion_tokens", "max_output_tokens", "max_tokens", "maxOutputTokens")
"""OpenAI's chat completions; OpenAI's responses; Anthropic's and OpenAI's older APIs; Google's."""


class _Observed(NamedTuple):
    """The most expensive of a model's recent responses."""

    model: str
    """The model name in the response."""
    tokens: float
    usd: float


class Estimates:
    """Estimates the input of a call from its length, and the output from the model's recent responses.

    The first output of a model is estimated at the request's maximum, up to 4,096 tokens, or at 1,024 tokens
    without a maximum. After that, the most expensive recent response is the estimate, up to the request's
    maximum. This covers responses without tokens (images, tool fees) too.

    Args:
        prices: prices the estimates.
    """

    def __init__(self, prices: PriceList) -> None:
        self._prices = prices
        self._observed: dict[tuple[str, str], _Observed] = {}

    def carry_over(self, other: Estimates) -> None:
        """Keep the observed responses over a reload."""
        self._observed = other._observed

    def expected_model(self, call: Call) -> str:
        """Return the model that will answer: the one in earlier responses, else the requested one."""
        observed = self._observed.get((call.provider, call.requested_model))
        return observed.model if observed else call.requested_model

    def estimate(self, call: Call, request: object) -> tuple[float, int]:
        """Return the estimated USD and tokens of a call with this request body."""
        input_tokens = ceil(text_length(request) / _CHARACTERS_PER_TOKEN)
        maximum = max_output_tokens(request)
        observed = self._observed.get((call.provider, call.requested_model))
        if observed is None:
            output_tokens = min(maximum, _MAX_DEFAULT_OUTPUT_TOKENS) if maximum else _DEFAULT_OUTPUT_TOKENS
            return self._prices.estimate(call, input_tokens, output_tokens), input_tokens + output_tokens
        tokens, usd = observed.tokens, observed.usd
        if maximum and maximum < tokens:
            usd, tokens = usd * maximum / tokens, maximum
        return self._prices.estimate(call, input_tokens, 0) + usd, input_tokens + ceil(tokens)

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


def max_output_tokens(request: object) -> int:
    """Return the maximum output that a request body sets, over all its choices; 0 if it sets none."""
    if not isinstance(request, dict):
        return 0
    config = request.get("generationConfig")
    maximum = 0
    for place in (request, config) if isinstance(config, dict) else (request,):
        for name in _MAX_TOKENS_KEYS:
            if name in place:
                maximum = max(maximum, count(place[name]))
    return maximum * (count(request.get("n")) or 1)
