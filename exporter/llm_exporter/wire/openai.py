"""OpenAI's chat completions, and the dialects of compatible services.

https://platform.openai.com/docs/api-reference/chat.
"""

from __future__ import annotations

import re
from typing import Any, ClassVar, Final

import msgspec
from typing_extensions import override

from ..call import Operation
from .fields import Json, decoder, error_code, mapping, ordinary_decoder, sequence, text
from .openai_usage import OrdinaryUsage, has_usage, read_usage, requested_tier
from .reader import Reader, Reading

_ERROR: Final = re.compile(rb'"error"\s*:\s*[{"]')
_SEARCH_MODEL: Final = re.compile(r"gpt-(?:4o(?:-mini)?-search-(preview)|5-search-api)")


class _Chat(msgspec.Struct):
    model: Any = None
    choices: Any = None
    usage: Any = None
    x_groq: Any = None
    service_tier: Any = None
    error: Any = None


class _ChatBody(msgspec.Struct):
    """`_Chat` without the choices, so that the generated text is not decoded."""

    model: Any = None
    usage: Any = None
    x_groq: Any = None
    service_tier: Any = None
    error: Any = None


class _OrdinaryBody(_ChatBody, kw_only=True):
    usage: OrdinaryUsage


_decode_chunk: Final = decoder(_Chat)
_decode_chat: Final = decoder(_ChatBody)
_decode_ordinary: Final = ordinary_decoder(_OrdinaryBody)


class ChatReader(Reader):
    """Chat completions."""

    operation: ClassVar[Operation] = "chat"

    @override
    def read_request(self, request: Json) -> None:
        self.reading.service_tier = requested_tier(request)

    @override
    def may_carry_usage(self, data: bytes) -> bool:
        return has_usage(data) or (b'"error"' in data and _ERROR.search(data) is not None)

    @override
    def read_body(self, data: bytes) -> None:
        self._update(_decode_ordinary(data) or _decode_chat(data))

    @override
    def read_event(self, data: bytes) -> None:
        # Several chunks may carry usage. It is cumulative, so only the last one matters.
        if self.reading.token_seen:
            self.read_body(data)
            return
        chunk = _decode_chunk(data)
        self._update(chunk)
        for choice in sequence(chunk.choices):
            self.note_generated(self._generated(mapping(choice)))

    def _generated(self, choice: Json) -> object:
        """Return the content that a choice of a chunk adds."""
        delta = mapping(choice.get("delta"))
        return {name: value for name, value in delta.items() if name != "role" and value}

    def _update(self, part: _Chat | _ChatBody) -> None:
        reading = self.reading
        reading.model = text(part.model) or reading.model
        reading.service_tier = text(part.service_tier) or reading.service_tier
        reading.error = error_code(part.error) or reading.error
        # Groq's streams report usage inside x_groq, in addition or exclusively.
        if isinstance(part.usage, OrdinaryUsage):
            read_usage(part.usage, reading)
            reading.units = _searches(reading, {})
        elif usage := mapping(part.usage) or mapping(mapping(part.x_groq).get("usage")):
            read_usage(usage, reading)
            reading.units = _searches(reading, usage)


def _searches(reading: Reading, usage: Json) -> dict[str, float]:
    """Return the web searches of a chat completion that are billed per request.

    Perplexity's fee depends on the size of the search context (https://docs.perplexity.ai/guides/pricing); it
    is part of the cost that newer responses report. OpenAI's search models search before each response
    (https://platform.openai.com/docs/guides/tools-web-search).
    """
    size = text(usage.get("search_context_size"))
    if size in ("low", "medium", "high") and reading.reported_cost is None:
        return {f"search_requests_{size}": 1}
    if "search" in reading.model and (model := _SEARCH_MODEL.search(reading.model)):
        return {"web_search_previews" if model[1] else "web_searches": 1}
    return {}


class CompletionReader(ChatReader):
    """Legacy completions: https://platform.openai.com/docs/api-reference/completions."""

    operation = "text_completion"

    @override
    def _generated(self, choice: Json) -> object:
        return choice.get("text")


class EmbeddingsReader(ChatReader):
    """Embeddings: https://platform.openai.com/docs/api-reference/embeddings."""

    operation = "embeddings"


class DecisionReader(ChatReader):
    """Answers to questions about an input: the resource `decisions` of openai 3."""

    operation = "decision"
