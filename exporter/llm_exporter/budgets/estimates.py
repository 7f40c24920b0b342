"""What a call may come to, before it is sent."""

from __future__ import annotations

from math import ceil
from typing import Final, NamedTuple

from ..call import PROMPT_TYPES, Call
from ..pricing.prices import PriceList
from ..wire.fields import count
from ..wire.text_length import text_length

_CHARACTERS: Final = 4
"""To a token, about: https://help.openai.com/en/articles/4936856."""
_UNSAID: Final = 1024
"""Tokens of output of a model that nothing is known of, when the request names no maximum."""
_SAID: Final = 4096
"""Tokens of output at most of such a model: many requests name a maximum far beyond what they need."""
_FADES: Final = 0.95
"""Of the dearest answer, with each one that follows."""
_MOST_MODELS: Final = 10_000
_MAXIMA: Final = ("max_completion_tokens", "max_output_tokens", "max_tokens", "maxOutputTokens")
"""Of OpenAI's chat completions, OpenAI's responses, both older and Anthropic's, and Google's."""


class _Seen(NamedTuple):
    """The dearest of the latest answers of a model."""

    model: str
    """As it answered."""
    tokens: float
    usd: float


class Estimates:
    """Estimates calls: their input from its length, their output from what the model has answered before.

    A model's first calls are estimated by the most that they ask for, up to 4,096 tokens, or else 1,024.
    From then on the dearest of its latest answers stands for the next, and the maximum of the request still
    bounds it. So answers without tokens (images, fees of tools) are estimated too.

    Args:
        prices: of the estimates.
    """

    def __init__(self, prices: PriceList) -> None:
        self._prices = prices
        self._seen: dict[tuple[str, str], _Seen] = {}

    def adopt(self, other: Estimates) -> None:
        """Go on from what was seen before the configuration changed."""
        self._seen = other._seen

    def answering(self, call: Call) -> str:
        """Return the model that will answer, as far as is known."""
        seen = self._seen.get((call.provider, call.requested_model))
        return seen.model if seen else call.requested_model

    def of(self, call: Call, request: object) -> tuple[float, int]:
        """Return what a call may come to, in USD and in tokens."""
        into = ceil(text_length(request) / _CHARACTERS)
        most = most_output(request)
        seen = self._seen.get((call.provider, call.requested_model))
        if seen is None:
            out = min(most, _SAID) if most else _UNSAID
            return self._prices.estimate(call, into, out), into + out
        tokens, usd = seen.tokens, seen.usd
        if most and most < tokens:
            usd, tokens = usd * most / tokens, most
        return self._prices.estimate(call, into, 0) + usd, into + ceil(tokens)

    def learn(self, call: Call) -> None:
        """Take note of what a call came to."""
        if call.error or not (call.tokens or call.cost):
            return
        tokens: float = call.output_tokens
        usd = sum(cost for kind, cost in call.cost.items() if kind not in PROMPT_TYPES)
        key = call.provider, call.requested_model
        if seen := self._seen.get(key):
            tokens, usd = max(tokens, seen.tokens * _FADES), max(usd, seen.usd * _FADES)
        elif len(self._seen) >= _MOST_MODELS:
            return
        self._seen[key] = _Seen(call.model, tokens, usd)


def most_output(request: object) -> int:
    """Return how many tokens a request allows for its answer, 0 when it does not say."""
    if not isinstance(request, dict):
        return 0
    config = request.get("generationConfig")
    most = 0
    for place in (request, config) if isinstance(config, dict) else (request,):
        for name in _MAXIMA:
            if name in place:
                most = max(most, count(place[name]))
    return most * (count(request.get("n")) or 1)
