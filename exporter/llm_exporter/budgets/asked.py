"""What a request asks for, as far as the cost of its call depends on it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final, NamedTuple

from ..call import TokenType
from ..wire.fields import Json, count, mapping, sequence, text
from ..wire.text_length import text_length

_MAX_TOKENS_KEYS: Final = ("max_completion_tokens", "max_output_tokens", "max_tokens", "maxOutputTokens")
"""OpenAI's chat completions; OpenAI's responses; Anthropic's and OpenAI's older APIs; Google's."""
_RELEVANT: Final = frozenset(
    {*_MAX_TOKENS_KEYS, "generationConfig", "service_tier", "speed", "inference_geo", "tools"}
)
"""The fields of a request that its cost depends on, apart from its text and its caches."""
_LIFETIMES: Final[dict[object, TokenType]] = {"1h": "cache_write_1h", "12h": "cache_write_12h"}
"""The token types of cache writes by the lifetime that a request asks for."""
_MAX_USES: Final = 100
"""The largest number of uses of a tool that an estimate includes."""
_PAID_TOOLS: Final = (
    ("web_search_preview", "web_search_previews"),
    ("web_search", "web_searches"),
    ("googleSearch", "web_searches"),
    ("file_search", "storage_searches"),
    ("code_interpreter", "containers_1g"),
    ("code_execution", "code_executions"),
)
"""The beginnings of the types of paid tools, and their units."""


class AskedTerms(NamedTuple):
    """What determines the price of a token, as far as the request says; empty if it does not."""

    service_tier: str = ""
    speed: str = ""
    region: str = ""
    cache_writes: tuple[TokenType, ...] = ()


class Asked(NamedTuple):
    """What a request asks for."""

    characters: int
    """The length of its text."""
    max_tokens: int = 0
    """The maximum output, over all its choices; 0 if it sets none."""
    terms: AskedTerms = AskedTerms()
    tools: list[Any] | tuple[()] = ()
    """The tools that it offers, as JSON."""


def asked_by(request: object) -> Asked:
    """Return what a request body asks for."""
    caches: list[object] = []
    characters = text_length(request, caches)
    if not isinstance(request, dict) or (not caches and _RELEVANT.isdisjoint(request)):
        return Asked(characters)
    terms = AskedTerms(
        text(request.get("service_tier")),
        text(request.get("speed")),
        text(request.get("inference_geo")),
        tuple(_cache_writes(caches)),
    )
    return Asked(characters, max_output_tokens(request), terms, sequence(request.get("tools")))


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


def _cache_writes(caches: list[object]) -> Iterator[TokenType]:
    """Yield the cache writes that caches ask for, each given as its lifetime or as an object with it."""
    for cache in caches:
        if isinstance(cache, str):
            if cache in _LIFETIMES:
                yield _LIFETIMES[cache]
        else:
            yield _LIFETIMES.get(mapping(cache).get("ttl"), "cache_write")


def paid_uses(tools: list[Any] | tuple[()]) -> Iterator[str]:
    """Yield the unit of each use of a paid tool among those offered; one use if it sets no maximum."""
    for tool in tools:
        kind = _tool_type(mapping(tool))
        for beginning, unit in _PAID_TOOLS:
            if kind.startswith(beginning):
                yield from [unit] * min(count(mapping(tool).get("max_uses")) or 1, _MAX_USES)
                break


def _tool_type(tool: Json) -> str:
    """Return the type of a tool: Google's tools are named by their key."""
    return text(tool.get("type")) or next(iter(tool), "")
