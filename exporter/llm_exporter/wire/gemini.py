"""Google's generateContent and streamGenerateContent, as the Gemini API and Vertex AI speak them.

https://ai.google.dev/api/generate-content, https://ai.google.dev/api/generate-content#UsageMetadata.
"""

from __future__ import annotations

import re
from collections import Counter
from typing import Any, ClassVar, Final

import msgspec

from ..call import TokenType
from .fields import Json, count, decoder, error_code, mapping, sequence, split, text, without_zeros
from .reader import Reader

_ERROR: Final = re.compile(rb'"error"\s*:\s*\{')


class _Answer(msgspec.Struct, rename="camel"):
    model_version: Any = None
    usage_metadata: Any = None
    error: Any = None


class _Chunk(_Answer, rename="camel"):
    candidates: Any = None


_decode_answer: Final = decoder(_Answer)
_decode_chunk: Final = decoder(_Chunk)

_SEARCHED: Final = b'SearchQueries"'
"""Ends the key of a list of queries."""

_BILLED_BY_PROMPT: Final = re.compile(r"gemini-(?:live-)?[12]\.")


class GenerateContentReader(Reader):
    """Gemini's answers; each chunk of a stream repeats the counts so far, and the last one holds."""

    operation: ClassVar[str] = "generate_content"

    def __init__(self) -> None:
        super().__init__()
        self._queries: set[tuple[str, str]] = set()

    def may_carry_usage(self, data: bytes) -> bool:
        """See `Reader.may_carry_usage`."""
        return (
            b'"usageMetadata"' in data
            or _SEARCHED in data
            or (b'"error"' in data and _ERROR.search(data) is not None)
        )

    def read_body(self, data: bytes) -> None:
        """Read an answer."""
        self._take(_decode_answer(data))
        if _SEARCHED in data:
            self._ground(_decode_chunk(data))

    def read_event(self, data: bytes) -> None:
        """Read one chunk."""
        if self.reading.token_seen:
            self.read_body(data)
            return
        chunk = _decode_chunk(data)
        self._take(chunk)
        self._ground(chunk)
        for candidate in sequence(chunk.candidates):
            for part in sequence(mapping(mapping(candidate).get("content")).get("parts")):
                self.note_generated(
                    {name: value for name, value in mapping(part).items() if name != "thought" and value}
                )

    def _take(self, part: _Answer) -> None:
        reading = self.reading
        reading.model = text(part.model_version) or reading.model
        reading.error = error_code(part.error) or reading.error
        usage = mapping(part.usage_metadata)
        reading.service_tier = tier_of(usage) or reading.service_tier
        # Early chunks of Vertex have a traffic type and no counts yet.
        if any(name.endswith("TokenCount") for name in usage):
            reading.tokens = tokens_of(usage)

    def _ground(self, part: _Chunk) -> None:
        """Note the searches of the candidates; several chunks may have the same ones."""
        for candidate in sequence(part.candidates):
            grounding = mapping(mapping(candidate).get("groundingMetadata"))
            for kind in ("webSearchQueries", "imageSearchQueries"):
                self._queries.update(
                    (kind, query) for query in map(text, sequence(grounding.get(kind))) if query
                )
        self.reading.units = searches(self.reading.model, len(self._queries))


def searches(model: str, queries: int) -> dict[str, float]:
    """Return what is billed of a grounding by Google Search.

    Each distinct query that is not empty; with Gemini 2.5 and older, the prompt that led to them
    (https://ai.google.dev/gemini-api/docs/google-search#pricing).

    Args:
        model: the model that searched.
        queries: how many distinct queries it made.
    """
    if queries and _BILLED_BY_PROMPT.match(model):
        queries = 1
    return {"web_searches": queries} if queries else {}


def tier_of(usage: Json) -> str | None:
    """Return the tier that served the request, by the name that price tables have for it.

    The Gemini API says `flex` or `priority`, Vertex AI `ON_DEMAND_FLEX` or `ON_DEMAND_PRIORITY`.
    """
    tier = text(usage.get("serviceTier")) or text(usage.get("trafficType"))
    return tier.removeprefix("ON_DEMAND_").lower() or None


class EmbedContentReader(GenerateContentReader):
    """Embeddings of the Gemini API: https://ai.google.dev/api/embeddings."""

    operation: ClassVar[str] = "embeddings"


class _Cache(msgspec.Struct, rename="camel"):
    model: Any = None
    usage_metadata: Any = None


_decode_cache: Final = decoder(_Cache)


class CachedContentReader(Reader):
    """Prompts that are put into a cache, at the price of input; what it costs to keep them there is not told.

    https://cloud.google.com/vertex-ai/generative-ai/docs/context-cache/context-cache-overview.
    """

    operation: ClassVar[str] = "cached_content"

    def may_carry_usage(self, data: bytes) -> bool:
        """See `Reader.may_carry_usage`."""
        return True

    def read_body(self, data: bytes) -> None:
        """Read a cache."""
        cache = _decode_cache(data)
        self.reading.model = text(cache.model).rpartition("/")[2] or self.reading.model
        usage = mapping(cache.usage_metadata)
        if "totalTokenCount" in usage:
            self.reading.tokens = without_zeros({"cache_write": count(usage["totalTokenCount"])})

    def read_event(self, data: bytes) -> None:
        """Read a cache, which never comes in events."""
        self.read_body(data)


class _Predictions(msgspec.Struct):
    predictions: Any = None
    error: Any = None


_decode_predictions: Final = decoder(_Predictions)


class PredictReader(Reader):
    """Embeddings of Vertex AI: https://cloud.google.com/vertex-ai/generative-ai/docs/model-reference/text-embeddings-api."""

    operation: ClassVar[str] = "embeddings"

    def may_carry_usage(self, data: bytes) -> bool:
        """See `Reader.may_carry_usage`."""
        return True

    def read_body(self, data: bytes) -> None:
        """Read the predictions, each of which has its own count."""
        answer = _decode_predictions(data)
        self.reading.error = error_code(answer.error) or self.reading.error
        statistics = [
            mapping(mapping(mapping(each).get("embeddings")).get("statistics"))
            for each in sequence(answer.predictions)
        ]
        if any("token_count" in each for each in statistics):
            self.reading.tokens = without_zeros(
                {"input": sum(count(each.get("token_count")) for each in statistics)}
            )

    def read_event(self, data: bytes) -> None:
        """Read an answer, which never comes in events."""
        self.read_body(data)


class PredictImagesReader(PredictReader):
    """Imagen's images, which are billed by the piece and report no usage."""

    operation: ClassVar[str] = "image_generation"


def tokens_of(usage: Json) -> dict[TokenType, int]:
    """Return the disjoint tokens of a `usageMetadata` object.

    The prompt includes what was cached; thoughts stand outside the candidates, the prompts of tool use
    outside the prompt, and the total includes them all.
    """
    prompt = count(usage.get("promptTokenCount"))
    read = min(count(usage.get("cachedContentTokenCount")), prompt)
    tool_use = count(usage.get("toolUsePromptTokenCount"))
    thoughts = count(usage.get("thoughtsTokenCount"))
    generated = count(usage.get("candidatesTokenCount"))
    if usage.get("candidatesTokenCount") is None:
        generated = max(count(usage.get("totalTokenCount")) - prompt - tool_use - thoughts, 0)

    prompt_by = by_modality(usage.get("promptTokensDetails") or usage.get("promptTokenDetails"))
    cached_by = by_modality(usage.get("cacheTokensDetails"))
    cached = split(read, **cached_by)
    into = split(prompt - read, **{kind: max(prompt_by[kind] - cached_by[kind], 0) for kind in prompt_by})
    out = split(generated, **by_modality(usage.get("candidatesTokensDetails")))
    return without_zeros(
        {
            "input": into["rest"] + tool_use,
            "input_audio": into["audio"],
            "input_image": into["image"],
            "input_video": into["video"],
            "cache_read": cached["rest"],
            "cache_read_audio": cached["audio"],
            "cache_read_image": cached["image"],
            "cache_read_video": cached["video"],
            "output": out["rest"],
            "reasoning": thoughts,
            "output_audio": out["audio"],
            "output_image": out["image"],
            "output_video": out["video"],
        }
    )


def by_modality(details: object, tokens: str = "tokenCount") -> Counter[str]:
    """Return the counts of a list by modality that are priced apart from text and documents.

    Args:
        details: what stands in the body.
        tokens: the name of the count in each entry.
    """
    counts = Counter({"audio": 0, "image": 0, "video": 0})
    for detail in map(mapping, sequence(details)):
        modality = text(detail.get("modality")).lower()
        if modality in counts:
            counts[modality] += count(detail.get(tokens))
    return counts
