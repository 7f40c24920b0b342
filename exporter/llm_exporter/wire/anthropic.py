"""Anthropic's Messages API, also on Bedrock and Vertex AI: https://docs.claude.com/en/api/messages."""

from __future__ import annotations

from typing import Any, Final

import msgspec
from typing_extensions import override

from ..call import TokenType
from .fields import (
    Count,
    Json,
    Zero,
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
from .reader import Reader, Reading


class _Message(msgspec.Struct):
    model: Any = None
    usage: Any = None
    error: Any = None


class _CacheCreation(msgspec.Struct, forbid_unknown_fields=True):
    ephemeral_5m_input_tokens: Count = None
    ephemeral_1h_input_tokens: Count = None


class _OutputDetails(msgspec.Struct, forbid_unknown_fields=True):
    thinking_tokens: Count = None


class _ServerTools(msgspec.Struct, forbid_unknown_fields=True):
    web_search_requests: Zero = None
    web_fetch_requests: Any = None


class _OrdinaryUsage(msgspec.Struct, forbid_unknown_fields=True):
    input_tokens: Count
    output_tokens: Count = None
    cache_creation_input_tokens: Count = None
    cache_read_input_tokens: Count = None
    cache_creation: _CacheCreation | None = None
    output_tokens_details: _OutputDetails | None = None
    server_tool_use: _ServerTools | None = None
    service_tier: str | None = None
    speed: str | None = None
    inference_geo: str | None = None
    iterations: None = None

    def tokens(self) -> dict[TokenType, int]:
        """Return the disjoint tokens, as `tokens_of` does for any usage object."""
        hour = thinking = 0
        written, out = self.cache_creation_input_tokens, self.output_tokens or 0
        if (lifetimes := self.cache_creation) is not None:
            hour = lifetimes.ephemeral_1h_input_tokens or 0
            if written is None:
                written = hour + (lifetimes.ephemeral_5m_input_tokens or 0)
        written = written or 0
        hour = min(hour, written)
        if self.output_tokens_details is not None:
            thinking = min(self.output_tokens_details.thinking_tokens or 0, out)
        return without_zeros(
            {
                "input": self.input_tokens or 0,
                "cache_read": self.cache_read_input_tokens or 0,
                "cache_write": written - hour,
                "cache_write_1h": hour,
                "output": out - thinking,
                "reasoning": thinking,
            }
        )


class _OrdinaryMessage(_Message, kw_only=True):
    usage: _OrdinaryUsage


class _Event(msgspec.Struct):
    type: Any = None
    message: msgspec.Raw = msgspec.Raw()
    delta: Any = None
    usage: Any = None
    error: Any = None


_decode_message: Final = decoder(_Message)
_decode_ordinary: Final = ordinary_decoder(_OrdinaryMessage)
_decode_event: Final = decoder(_Event)


class MessagesReader(Reader):
    """Messages, streamed or not."""

    operation = "chat"

    def __init__(self) -> None:
        super().__init__()
        self._usage: Json = {}

    @override
    def read_request(self, request: Json) -> None:
        self.reading.speed = text(request.get("speed")) or None
        self.reading.region = text(request.get("inference_geo"))

    @override
    def may_carry_usage(self, data: bytes) -> bool:
        return b'"usage"' in data or b'"error"' in data

    @override
    def read_body(self, data: bytes) -> None:
        if (message := _decode_ordinary(data)) is None:
            self._update(_decode_message(data))
        else:
            self._read_ordinary(message)

    @override
    def read_event(self, data: bytes) -> None:
        event = _decode_event(data)
        kind = event.type
        if kind == "content_block_delta":
            delta = mapping(event.delta)
            self.note_generated({name: value for name, value in delta.items() if name != "type" and value})
        elif kind == "message_start":
            self._update(_decode_message(event.message))
        elif kind == "message_delta":
            # Its usage is cumulative and overrides that of message_start, field by field.
            self._update(_Message(usage=event.usage))
        elif kind == "error":
            self.reading.error = error_code(event.error) or "error"

    def _read_ordinary(self, message: _OrdinaryMessage) -> None:
        reading, usage = self.reading, message.usage
        reading.model = text(message.model) or reading.model
        reading.error = error_code(message.error) or reading.error
        reading.tokens = usage.tokens()
        reading.service_tier = usage.service_tier or reading.service_tier
        reading.speed = usage.speed or reading.speed
        reading.region = usage.inference_geo or reading.region

    def _update(self, part: _Message) -> None:
        reading = self.reading
        reading.model = text(part.model) or reading.model
        reading.error = error_code(part.error) or reading.error
        usage = mapping(part.usage)
        if not usage:
            return
        self._usage.update({name: value for name, value in usage.items() if value is not None})
        reading.tokens = tokens_of(self._usage)
        reading.service_tier = text(self._usage.get("service_tier")) or reading.service_tier
        reading.speed = text(self._usage.get("speed")) or reading.speed
        reading.region = text(self._usage.get("inference_geo")) or reading.region
        if searches := count(mapping(self._usage.get("server_tool_use")).get("web_search_requests")):
            reading.units = {"web_searches": searches}
        self._read_iterations(sequence(self._usage.get("iterations")))

    def _read_iterations(self, iterations: list[Any]) -> None:
        """Add a sub-call for each iteration that the top-level usage does not include.

        The top level sums the `message` iterations or, if a fallback model served the request, the
        `fallback_message` iterations. Compactions, advisor calls and refused attempts are billed in addition.
        """
        reading = self.reading
        reading.sub_calls = []
        steps = list(map(mapping, iterations))
        fallback = next((step for step in steps if step.get("type") == "fallback_message"), None)
        included = "fallback_message" if fallback else "message"
        answered = reading.model
        if fallback:
            reading.model = text(fallback.get("model")) or answered
        for step in steps:
            if step.get("type") != included:
                model = text(step.get("model")) or answered
                reading.sub_calls.append(Reading(model=model, tokens=tokens_of(step)))


def tokens_of(usage: Json) -> dict[TokenType, int]:
    """Return the disjoint tokens of a `usage` object.

    `input_tokens` excludes cache reads and writes; `output_tokens` includes thinking
    (https://docs.claude.com/en/docs/build-with-claude/prompt-caching, .../extended-thinking).
    """
    lifetimes = mapping(usage.get("cache_creation"))
    hour = count(lifetimes.get("ephemeral_1h_input_tokens"))
    written = count(usage.get("cache_creation_input_tokens"))
    if usage.get("cache_creation_input_tokens") is None:
        written = hour + count(lifetimes.get("ephemeral_5m_input_tokens"))
    write = split(written, hour=hour)
    thinking = count(mapping(usage.get("output_tokens_details")).get("thinking_tokens"))
    out = split(count(usage.get("output_tokens")), reasoning=thinking)
    return without_zeros(
        {
            "input": count(usage.get("input_tokens")),
            "cache_read": count(usage.get("cache_read_input_tokens")),
            "cache_write": write["rest"],
            "cache_write_1h": write["hour"],
            "output": out["rest"],
            "reasoning": out["reasoning"],
        }
    )
