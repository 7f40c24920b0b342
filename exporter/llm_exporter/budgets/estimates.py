"""Estimate a call before it is sent."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from math import ceil
from typing import Final, NamedTuple, Protocol

from ..call import PROMPT_TYPES, Call, TokenType
from ..pricing.tariffs import Terms
from ..wire.fields import Json, count, mapping, sequence, text
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
_MAX_USES: Final = 100
"""The largest number of uses of a tool that an estimate includes."""
_MAX_TOKENS_KEYS: Final = ("max_completion_tokens", "max_output_tokens", "max_tokens", "maxOutputTokens")
"""OpenAI's chat completions; OpenAI's responses; Anthropic's and OpenAI's older APIs; Google's."""
_WRITES_UNASKED: Final = frozenset({"openai", "azure"})
"""Providers that bill cache writes although the request asks for no cache."""
_LIFETIMES: Final[dict[str, TokenType]] = {"1h": "cache_write_1h", "12h": "cache_write_12h"}
"""The token types of cache writes by the lifetime that a request asks for."""
_PAID_TOOLS: Final = (
    ("web_search_preview", "web_search_previews"),
    ("web_search", "web_searches"),
    ("googleSearch", "web_searches"),
    ("file_search", "storage_searches"),
    ("code_interpreter", "containers_1g"),
    ("code_execution", "code_executions"),
)
"""The beginnings of the types of paid tools, and their units."""


class _Pricing(Protocol):
    """What estimates need of a price list."""

    def costs_nothing(self, call: Call) -> bool: ...

    def upper_bound(
        self,
        terms: Terms,
        started: float,
        input_tokens: int,
        output_tokens: int,
        *,
        cache_writes: Sequence[TokenType] = (),
        uses: Sequence[str] = (),
    ) -> float: ...


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

    def estimate(self, call: Call, request: object) -> tuple[float, int]:
        """Return the estimated USD and tokens of a call with this request body."""
        input_tokens = ceil(text_length(request) / _CHARACTERS_PER_TOKEN)
        maximum = max_output_tokens(request)
        observed = self._observed.get((call.provider, call.requested_model))
        if observed is None:
            output_tokens = min(maximum, _MAX_DEFAULT_OUTPUT_TOKENS) if maximum else _DEFAULT_OUTPUT_TOKENS
            usd = self._upper_bound(call, request, input_tokens, output_tokens, list(_paid_uses(request)))
            return usd, input_tokens + output_tokens
        tokens, usd = observed.tokens, observed.usd
        if maximum and maximum < tokens:
            usd, tokens = usd * maximum / tokens, maximum
        return self._upper_bound(call, request, input_tokens) + usd, input_tokens + ceil(tokens)

    def _upper_bound(
        self,
        call: Call,
        request: object,
        input_tokens: int,
        output_tokens: int = 0,
        uses: Sequence[str] = (),
    ) -> float:
        if self._prices.costs_nothing(call):
            return 0.0
        terms = Terms.of(call)
        if isinstance(request, dict):
            terms = terms._replace(
                service_tier=text(request.get("service_tier")) or terms.service_tier,
                speed=text(request.get("speed")) or terms.speed,
                region=text(request.get("inference_geo")) or terms.region,
            )
        writes = list(_cache_writes(request))
        if call.provider in _WRITES_UNASKED:
            writes.append("cache_write")
        return self._prices.upper_bound(
            terms, call.started, input_tokens, output_tokens, cache_writes=writes, uses=uses
        )

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


def _cache_writes(request: object) -> Iterator[TokenType]:
    """Yield the cache writes that a request body asks for."""
    if isinstance(request, dict):
        for name, value in request.items():
            if name == "cache_control":
                yield _LIFETIMES.get(text(mapping(value).get("ttl")), "cache_write")
            elif name == "ttl":
                if isinstance(value, str) and value in _LIFETIMES:
                    yield _LIFETIMES[value]
            else:
                yield from _cache_writes(value)
    elif isinstance(request, list):
        for each in request:
            yield from _cache_writes(each)


def _paid_uses(request: object) -> Iterator[str]:
    """Yield the unit of each use of a paid tool that a request body allows; one use if it sets no maximum."""
    for tool in sequence(mapping(request).get("tools")):
        kind = _tool_type(mapping(tool))
        for beginning, unit in _PAID_TOOLS:
            if kind.startswith(beginning):
                yield from [unit] * min(count(mapping(tool).get("max_uses")) or 1, _MAX_USES)
                break


def _tool_type(tool: Json) -> str:
    """Return the type of a tool: Google's tools are named by their key."""
    return text(tool.get("type")) or next(iter(tool), "")
