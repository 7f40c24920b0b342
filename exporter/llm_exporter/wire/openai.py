"""OpenAI's chat completions and responses, and the dialects of compatible services.

Chat completions: https://platform.openai.com/docs/api-reference/chat.
Responses: https://platform.openai.com/docs/api-reference/responses.
"""

from __future__ import annotations

import re
from collections import Counter
from typing import Any, ClassVar, Final

import msgspec
from typing_extensions import override

from ..call import Operation, TokenType
from .fields import (
    Json,
    amount,
    count,
    decoder,
    error_code,
    first_count,
    mapping,
    sequence,
    split,
    text,
    without_zeros,
)
from .reader import Reader, Reading

_USAGE: Final = re.compile(rb'"usage"\s*:\s*\{')
_ERROR: Final = re.compile(rb'"error"\s*:\s*[{"]')
_RESPONSES_ERROR: Final = re.compile(rb'"error"\s*:\s*[{"]|"type"\s*:\s*"error"')


_PROMPT_DETAILS: Final = (
    *("prompt_tokens_details", "prompt_token_details"),
    *("input_tokens_details", "input_token_details"),
)
_COMPLETION_DETAILS: Final = (
    *("completion_tokens_details", "completion_token_details"),
    *("output_tokens_details", "output_token_details"),
)
"""Some services use the singular, `prompt_token_details`."""


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


_decode_chunk: Final = decoder(_Chat)
_decode_chat: Final = decoder(_ChatBody)


class ChatReader(Reader):
    """Chat completions."""

    operation: ClassVar[Operation] = "chat"

    @override
    def may_carry_usage(self, data: bytes) -> bool:
        # Many services send `usage: null` in every chunk.
        return (b'"usage"' in data and _USAGE.search(data) is not None) or (
            b'"error"' in data and _ERROR.search(data) is not None
        )

    @override
    def read_body(self, data: bytes) -> None:
        self._update(_decode_chat(data))

    @override
    def read_event(self, data: bytes) -> None:
        # Several chunks may carry usage. It is cumulative, so only the last one matters.
        if self.reading.token_seen:
            self._update(_decode_chat(data))
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
        usage = mapping(part.usage) or mapping(mapping(part.x_groq).get("usage"))
        if usage:
            reading.tokens = tokens_of(usage)
            reading.reported_cost = reported_cost(usage)


class CompletionReader(ChatReader):
    """Legacy completions: https://platform.openai.com/docs/api-reference/completions."""

    operation = "text_completion"

    @override
    def _generated(self, choice: Json) -> object:
        return choice.get("text")


class EmbeddingsReader(ChatReader):
    """Embeddings: https://platform.openai.com/docs/api-reference/embeddings."""

    operation = "embeddings"


class _Item(msgspec.Struct):
    type: Any = None
    action: Any = None


class _Response(msgspec.Struct):
    id: Any = None
    status: Any = None
    background: Any = None
    model: Any = None
    output: msgspec.Raw = msgspec.Raw()
    tools: msgspec.Raw = msgspec.Raw()
    tool_usage: Any = None
    usage: Any = None
    service_tier: Any = None
    error: Any = None


class _Tool(msgspec.Struct):
    type: Any = None
    model: Any = None


class _ResponseEvent(msgspec.Struct):
    type: Any = None
    response: msgspec.Raw = msgspec.Raw()
    delta: Any = None
    error: Any = None
    message: Any = None
    code: Any = None


_decode_response: Final = decoder(_Response)
_decode_response_event: Final = decoder(_ResponseEvent)
_decode_items: Final = decoder(list[_Item])
_decode_tools: Final = decoder(list[_Tool])


class ResponsesReader(Reader):
    """The Responses API. In a stream, only the last event has usage; it contains the whole response."""

    operation = "chat"

    @override
    def may_carry_usage(self, data: bytes) -> bool:
        return (b'"usage"' in data and _USAGE.search(data) is not None) or (
            b'error"' in data and _RESPONSES_ERROR.search(data) is not None
        )

    @override
    def read_body(self, data: bytes) -> None:
        part = _decode_response(data)
        reading = self.reading
        reading.response_id = text(part.id)
        reading.pending = part.background is True and part.status in ("queued", "in_progress")
        reading.model = text(part.model) or reading.model
        reading.service_tier = text(part.service_tier) or reading.service_tier
        reading.error = error_code(part.error) or reading.error
        if usage := mapping(part.usage):
            reading.tokens = tokens_of(usage)
            reading.reported_cost = reported_cost(usage)
            reading.units = _tool_uses(part)
            reading.sub_calls = _images(part)

    @override
    def read_event(self, data: bytes) -> None:
        event = _decode_response_event(data)
        kind = text(event.type)
        if kind.endswith(".delta"):
            self.note_generated(event.delta)
        elif kind == "error" or event.error:
            self.reading.error = error_code(event.error) or text(event.code) or text(event.message) or "error"
        elif response := bytes(event.response):
            self.read_body(response)


class RetrievedResponseReader(ResponsesReader):
    """The retrieval of a response that an earlier request started."""

    is_retrieval = True


def _tool_uses(response: _Response) -> dict[str, float]:
    """Return the number of tool calls that are billed per use (https://openai.com/api/pricing).

    Newer responses report the number of billed searches; older ones only list the calls in their output.
    """
    uses: Counter[str] = Counter()
    output = bytes(response.output)
    for item in _decode_items(output) if output.startswith(b"[") else []:
        # Opening a page, or finding text in it, is not another search.
        if item.type == "web_search_call" and mapping(item.action).get("type", "search") == "search":
            uses["web_searches"] += 1
        elif item.type == "file_search_call":
            uses["storage_searches"] += 1
    billed = mapping(mapping(response.tool_usage).get("web_search"))
    if "num_requests" in billed:
        uses["web_searches"] = count(billed["num_requests"])
    return {unit: number for unit, number in uses.items() if number}


def _images(response: _Response) -> list[Reading]:
    """Return the sub-call to the image model if the response used it as a tool.

    The response's own usage does not include it: see `tool_usage` at
    https://platform.openai.com/docs/api-reference/responses/object.
    """
    tokens = image_tokens_of(mapping(mapping(response.tool_usage).get("image_gen")))
    if not tokens:
        return []
    tools = bytes(response.tools)
    models = [
        text(tool.model)
        for tool in (_decode_tools(tools) if tools.startswith(b"[") else [])
        if tool.type == "image_generation"
    ]
    # The default model changes over time, so an unnamed model has no price.
    model = next(filter(None, models), "image_generation")
    return [Reading(model=model, tokens=tokens, operation="image_generation")]


def image_tokens_of(usage: Json) -> dict[TokenType, int]:
    """Return the disjoint tokens of an image model's `usage` object.

    Its output tokens are image tokens, except those that the details list as text.
    """
    tokens = tokens_of(usage)
    generated = tokens.pop("output", 0) + tokens.pop("output_image", 0)
    text_tokens = min(count(mapping(usage.get("output_tokens_details")).get("text_tokens")), generated)
    return without_zeros({**tokens, "output": text_tokens, "output_image": generated - text_tokens})


def tokens_of(usage: Json) -> dict[TokenType, int]:
    """Return the disjoint tokens of a `usage` object in any of OpenAI's formats.

    OpenAI's prompt counts include cached tokens, and its completion counts include reasoning tokens
    (https://platform.openai.com/docs/guides/prompt-caching, /docs/guides/reasoning). Some compatible services
    exclude them; their totals show which.
    """
    prompt = first_count(usage, "prompt_tokens", "input_tokens")
    completion = first_count(usage, "completion_tokens", "output_tokens")
    total = count(usage.get("total_tokens"))
    prompt_details = _details(usage, _PROMPT_DETAILS)
    completion_details = _details(usage, _COMPLETION_DETAILS)

    reasoning = count(completion_details.get("reasoning_tokens"))
    if reasoning > completion or total == prompt + completion + reasoning:
        completion += reasoning  # xAI, and Gemini behind gateways, exclude it
    audio = count(prompt_details.get("audio_tokens"))
    if audio > prompt and total == prompt + completion + audio:
        prompt += audio  # Mistral excludes it

    read = first_count(prompt_details, "cached_tokens") or first_count(
        usage, "prompt_cache_hit_tokens", "num_cached_tokens", "cached_tokens"
    )
    read = min(read, prompt)
    cached_by = mapping(prompt_details.get("cached_tokens_details"))  # in the Realtime API
    cached = split(
        read, audio=count(cached_by.get("audio_tokens")), image=count(cached_by.get("image_tokens"))
    )
    write = count(prompt_details.get("cache_write_tokens"))
    if write == read and read + write > prompt:
        fresh = prompt - read  # Gemini behind OpenRouter bills the same tokens as written and as read
    else:
        write = min(write, prompt - read)
        fresh = prompt - read - write
    into = split(
        fresh,
        audio=max(audio - cached["audio"], 0),
        image=max(count(prompt_details.get("image_tokens")) - cached["image"], 0),
        video=count(prompt_details.get("video_tokens")),
    )
    out = split(
        completion,
        reasoning=reasoning,
        audio=count(completion_details.get("audio_tokens")),
        image=count(completion_details.get("image_tokens")),
    )
    return without_zeros(
        {
            "input": into["rest"],
            "input_audio": into["audio"],
            "input_image": into["image"],
            "input_video": into["video"],
            "cache_read": cached["rest"],
            "cache_read_audio": cached["audio"],
            "cache_read_image": cached["image"],
            "cache_write": write,
            "output": out["rest"],
            "reasoning": out["reasoning"],
            "output_audio": out["audio"],
            "output_image": out["image"],
        }
    )


def reported_cost(usage: Json) -> float | None:
    """Return the cost in USD that a `usage` object reports, or None.

    OpenRouter and Vercel report a number (https://openrouter.ai/docs/use-cases/usage-accounting). If the
    user brings a provider key (BYOK), OpenRouter's number is only its fee, so the upstream cost is added.
    Perplexity reports an object with a total, and xAI reports ticks of 1e-10 USD.
    """
    cost = usage.get("cost")
    if (ticks := amount(usage.get("cost_in_usd_ticks"))) is not None:
        return ticks / 1e10
    if isinstance(cost, dict):
        return amount(cost.get("total_cost"))
    charged = amount(cost)
    if charged is not None and usage.get("is_byok") is True:
        charged += amount(mapping(usage.get("cost_details")).get("upstream_inference_cost")) or 0.0
    return charged


def _details(usage: Json, names: tuple[str, ...]) -> Json:
    """Return the first details object among alternative field names."""
    for name in names:
        if found := mapping(usage.get(name)):
            return found
    return {}
