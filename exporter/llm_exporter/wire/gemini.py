"""Google's generateContent, streamGenerateContent and related methods of the Gemini API and Vertex AI.

https://ai.google.dev/api/generate-content, https://ai.google.dev/api/generate-content#UsageMetadata.
"""

from __future__ import annotations

import re
from collections import Counter
from datetime import datetime
from typing import Any, ClassVar, Final, Literal, NamedTuple

import msgspec
from typing_extensions import override

from ..call import Operation, TokenType
from .fields import (
    Count,
    Json,
    count,
    decoder,
    error_code,
    mapping,
    ordinary_decoder,
    sequence,
    split,
    text,
    without_zeros,
)
from .reader import Reader

_ERROR: Final = re.compile(rb'"error"\s*:\s*\{')


class _Response(msgspec.Struct, rename="camel"):
    model_version: Any = None
    usage_metadata: Any = None
    error: Any = None


class _Text(msgspec.Struct, rename="camel", forbid_unknown_fields=True):
    modality: Literal["TEXT", "DOCUMENT"]
    token_count: Any = None


class _OrdinaryUsage(msgspec.Struct, rename="camel", forbid_unknown_fields=True):
    prompt_token_count: int
    candidates_token_count: Count = None
    total_token_count: Count = None
    thoughts_token_count: Count = None
    cached_content_token_count: Count = None
    tool_use_prompt_token_count: Count = None
    prompt_tokens_details: list[_Text] | None = None
    candidates_tokens_details: list[_Text] | None = None
    cache_tokens_details: list[_Text] | None = None
    tool_use_prompt_tokens_details: list[_Text] | None = None
    service_tier: Any = None
    traffic_type: Any = None

    def tokens(self) -> dict[TokenType, int]:
        """Return the disjoint tokens, as `tokens_of` does for any `usageMetadata` object."""
        prompt, generated = count(self.prompt_token_count), self.candidates_token_count
        tool_use, thoughts = self.tool_use_prompt_token_count or 0, self.thoughts_token_count or 0
        if generated is None:
            generated = max((self.total_token_count or 0) - prompt - tool_use - thoughts, 0)
        read = min(self.cached_content_token_count or 0, prompt)
        return without_zeros(
            {
                "input": prompt - read + tool_use,
                "cache_read": read,
                "output": generated,
                "reasoning": thoughts,
            }
        )


class _OrdinaryResponse(_Response, rename="camel", kw_only=True):
    usage_metadata: _OrdinaryUsage


class _Chunk(_Response, rename="camel"):
    candidates: Any = None


_decode_response: Final = decoder(_Response)
_decode_chunk: Final = decoder(_Chunk)
_decode_ordinary: Final = ordinary_decoder(_OrdinaryResponse)

_COUNT: Final = b'TokenCount"'
"""The end of the key of each count. Early chunks of Vertex AI have a traffic type but no counts."""
_QUERIES: Final = b'Queries"'
"""The end of the keys `webSearchQueries`, `imageSearchQueries` and `retrievalQueries`."""
_MAPS: Final = b'"maps"'
"""The key of a grounding chunk from Google Maps."""

_BILLED_BY_PROMPT: Final = re.compile(r"gemini-(?:live-)?[12]\.")
"""Models whose grounding is billed once for each prompt, not for each query."""


class GenerateContentReader(Reader):
    """Generated content. Each chunk of a stream repeats the counts so far; only the last counts matter."""

    operation: ClassVar[Operation] = "generate_content"

    def __init__(self) -> None:
        super().__init__()
        self._queries: set[tuple[str, str]] = set()
        self._web_unit = "web_searches"

    @override
    def read_request(self, request: Json) -> None:
        self.reading.service_tier = text(request.get("serviceTier")).lower() or None
        if any("enterpriseWebSearch" in mapping(tool) for tool in sequence(request.get("tools"))):
            self._web_unit = "enterprise_web_searches"

    @override
    def may_carry_usage(self, data: bytes) -> bool:
        return b'"usageMetadata"' in data or _has_searches_or_error(data)

    @override
    def latest_usage(self, events: bytes) -> int:
        return 0 if _has_searches_or_error(events) else max(events.rfind(_COUNT), 0)

    @override
    def read_body(self, data: bytes) -> None:
        self._update(_decode_ordinary(data) or _decode_response(data))
        if _QUERIES in data or _MAPS in data:
            self._count_searches(_decode_chunk(data))

    @override
    def read_event(self, data: bytes) -> None:
        if self.reading.token_seen:
            self.read_body(data)
            return
        chunk = _decode_chunk(data)
        self._update(chunk)
        self._count_searches(chunk)
        for candidate in sequence(chunk.candidates):
            for part in sequence(mapping(mapping(candidate).get("content")).get("parts")):
                self.note_generated(
                    {name: value for name, value in mapping(part).items() if name != "thought" and value}
                )

    def _update(self, part: _Response) -> None:
        reading = self.reading
        reading.model = text(part.model_version) or reading.model
        reading.error = error_code(part.error) or reading.error
        if isinstance(part.usage_metadata, _OrdinaryUsage):
            ordinary = part.usage_metadata
            reading.service_tier = _tier(ordinary.service_tier, ordinary.traffic_type) or reading.service_tier
            reading.tokens = ordinary.tokens()
            return
        usage = mapping(part.usage_metadata)
        reading.service_tier = tier_of(usage) or reading.service_tier
        if any(name.endswith("TokenCount") for name in usage):
            reading.tokens = tokens_of(usage)

    def _count_searches(self, part: _Chunk) -> None:
        """Count the distinct search queries. Several chunks may repeat the same ones."""
        for candidate in sequence(part.candidates):
            grounding = mapping(mapping(candidate).get("groundingMetadata"))
            for kind in ("webSearchQueries", "imageSearchQueries"):
                self._queries.update(
                    (kind, query) for query in map(text, sequence(grounding.get(kind))) if query
                )
            if grounding.get("retrievalQueries"):
                self._queries.add(("retrieval", ""))
            # The response does not name the queries to Google Maps.
            if any(mapping(chunk).get("maps") for chunk in sequence(grounding.get("groundingChunks"))):
                self._queries.add(("maps", ""))
        if self._queries:
            kinds = Counter(kind for kind, _ in self._queries)
            maps, retrieval = kinds.pop("maps", 0), kinds.pop("retrieval", 0)
            queries = {self._web_unit: kinds.total(), MAPS_SEARCHES: maps, RETRIEVALS: retrieval}
            self.reading.units = grounding_units(self.reading.model, queries)


def _has_searches_or_error(data: bytes) -> bool:
    return _QUERIES in data or _MAPS in data or (b'"error"' in data and _ERROR.search(data) is not None)


MAPS_SEARCHES: Final = "maps_searches"
RETRIEVALS: Final = "retrievals"
"""Prompts grounded with the user's own data or with another search engine."""


def grounding_units(model: str, queries: Json) -> dict[str, float]:
    """Return the billed units of a grounded response.

    Each distinct, non-empty query is billed. Gemini 2.5 and older bill each tool once for a prompt
    (https://ai.google.dev/gemini-api/docs/pricing).

    Args:
        model: the model that searched.
        queries: the number of distinct queries by unit.
    """
    by_prompt = _BILLED_BY_PROMPT.match(model) is not None
    return {unit: 1 if by_prompt else number for unit, number in queries.items() if number}


def tier_of(usage: Json) -> str | None:
    """Return the service tier of a response under its name in the price list.

    The Gemini API reports `flex` or `priority`; Vertex AI reports `ON_DEMAND_FLEX` or `ON_DEMAND_PRIORITY`.
    """
    return _tier(usage.get("serviceTier"), usage.get("trafficType"))


def _tier(service_tier: object, traffic_type: object) -> str | None:
    tier = text(service_tier) or text(traffic_type)
    return tier.removeprefix("ON_DEMAND_").lower() or None


class EmbedContentReader(GenerateContentReader):
    """Embeddings of the Gemini API: https://ai.google.dev/api/embeddings."""

    operation = "embeddings"


class _Cache(msgspec.Struct, rename="camel"):
    model: Any = None
    create_time: Any = None
    expire_time: Any = None
    usage_metadata: Any = None


_decode_cache: Final = decoder(_Cache)


class CachedContentReader(Reader):
    """Creation of a cached prompt, billed as input, and as storage until it expires.

    A cache that is deleted earlier costs less; one whose lifetime is extended costs more
    (https://cloud.google.com/vertex-ai/generative-ai/docs/context-cache/context-cache-overview).
    """

    operation = "cached_content"

    @override
    def may_carry_usage(self, data: bytes) -> bool:
        return True

    @override
    def read_body(self, data: bytes) -> None:
        cache = _decode_cache(data)
        self.reading.model = text(cache.model).rpartition("/")[2] or self.reading.model
        usage = mapping(cache.usage_metadata)
        if "totalTokenCount" in usage:
            tokens = count(usage["totalTokenCount"])
            self.reading.tokens = without_zeros({"cache_write": tokens})
            if hours := _hours_between(text(cache.create_time), text(cache.expire_time)):
                self.reading.units = {"cache_token_hours": tokens * hours}

    @override
    def read_event(self, data: bytes) -> None:
        self.read_body(data)


def _hours_between(start: str, end: str) -> float:
    """Return the hours between two timestamps of RFC 3339, or 0 if they are not such timestamps."""
    try:
        seconds = (datetime.fromisoformat(end) - datetime.fromisoformat(start)).total_seconds()
    except (TypeError, ValueError):  # TypeError: only one of them has a time zone
        return 0
    return max(seconds / 3600, 0)


class _Predictions(msgspec.Struct):
    predictions: Any = None
    error: Any = None


_decode_predictions: Final = decoder(_Predictions)


class PredictReader(Reader):
    """Embeddings of Vertex AI: https://cloud.google.com/vertex-ai/generative-ai/docs/model-reference/text-embeddings-api."""

    operation: ClassVar[Operation] = "embeddings"

    @override
    def may_carry_usage(self, data: bytes) -> bool:
        return True

    @override
    def read_body(self, data: bytes) -> None:
        response = _decode_predictions(data)
        self.reading.error = error_code(response.error) or self.reading.error
        statistics = [
            mapping(mapping(mapping(each).get("embeddings")).get("statistics"))
            for each in sequence(response.predictions)
        ]
        if any("token_count" in each for each in statistics):
            self.reading.tokens = without_zeros(
                {"input": sum(count(each.get("token_count")) for each in statistics)}
            )

    @override
    def read_event(self, data: bytes) -> None:
        self.read_body(data)


class PredictImagesReader(PredictReader):
    """Imagen's images. They are billed per image, and the response reports no usage."""

    operation = "image_generation"


def tokens_of(usage: Json) -> dict[TokenType, int]:
    """Return the disjoint tokens of a `usageMetadata` object.

    `promptTokenCount` includes cached tokens but not the tool-use prompt; `candidatesTokenCount` excludes
    thoughts; `totalTokenCount` includes everything
    (https://ai.google.dev/api/generate-content#UsageMetadata).
    """
    prompt = count(usage.get("promptTokenCount"))
    tool_use = count(usage.get("toolUsePromptTokenCount"))
    thoughts = count(usage.get("thoughtsTokenCount"))
    generated = count(usage.get("candidatesTokenCount"))
    if usage.get("candidatesTokenCount") is None:
        generated = max(count(usage.get("totalTokenCount")) - prompt - tool_use - thoughts, 0)
    prompt_details = usage.get("promptTokensDetails") or usage.get("promptTokenDetails")
    return disjoint(
        Part(prompt, by_modality(prompt_details)),
        Part(count(usage.get("cachedContentTokenCount")), by_modality(usage.get("cacheTokensDetails"))),
        Part(tool_use, by_modality(usage.get("toolUsePromptTokensDetails"))),
        Part(generated, by_modality(usage.get("candidatesTokensDetails"))),
        thoughts,
    )


class Part(NamedTuple):
    """A count of tokens."""

    total: int
    by_modality: Counter[str]


def disjoint(
    prompt: Part, cached: Part, tool_use: Part, generated: Part, thoughts: int
) -> dict[TokenType, int]:
    """Return disjoint tokens by type.

    Args:
        prompt: the prompt, cached tokens included.
        cached: the part of the prompt that was read from a cache.
        tool_use: the results of tools that the model read.
        generated: the generated tokens without thoughts.
        thoughts: the tokens of thoughts.
    """
    read = min(cached.total, prompt.total)
    from_cache = split(read, **cached.by_modality)
    uncached = {
        kind: max(prompt.by_modality[kind] - cached.by_modality[kind], 0) for kind in prompt.by_modality
    }
    into = Counter(split(prompt.total - read, **uncached))
    into.update(split(tool_use.total, **tool_use.by_modality))
    out = split(generated.total, **generated.by_modality)
    return without_zeros(
        {
            "input": into["rest"],
            "input_audio": into["audio"],
            "input_image": into["image"],
            "input_video": into["video"],
            "cache_read": from_cache["rest"],
            "cache_read_audio": from_cache["audio"],
            "cache_read_image": from_cache["image"],
            "cache_read_video": from_cache["video"],
            "output": out["rest"],
            "reasoning": thoughts,
            "output_audio": out["audio"],
            "output_image": out["image"],
            "output_video": out["video"],
        }
    )


def by_modality(details: object, tokens: str = "tokenCount") -> Counter[str]:
    """Return the counts by modality, except text and documents, which share the base price.

    Args:
        details: the list of counts in the response.
        tokens: the field of each entry that holds its count.
    """
    counts = Counter({"audio": 0, "image": 0, "video": 0})
    for detail in map(mapping, sequence(details)):
        modality = text(detail.get("modality")).lower()
        if modality in counts:
            counts[modality] += count(detail.get(tokens))
    return counts
