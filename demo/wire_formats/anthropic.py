"""Anthropic: the Messages API."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import ClassVar

from typing_extensions import override

from llm_exporter.call import TokenType

from ..completions import Completion, Part, Prompt, ProviderError
from .base import Json, WireFormat, server_sent_event, text_of


class Messages(WireFormat):
    """Messages: https://docs.claude.com/en/api/messages, .../messages-streaming, .../errors."""

    statuses: ClassVar = {
        "rate_limited": 429,
        "overloaded": 529,
        "unknown_model": 404,
        "prompt_too_long": 400,
    }

    @override
    def prompt(self, request: Json) -> Prompt:
        # Only what precedes a `cache_control` mark is cached, for the lifetime that the mark names.
        parts: list[Part] = []
        unmarked = ""
        for block in _blocks(request):
            unmarked += text_of(block)
            if mark := block.get("cache_control"):
                write: TokenType = "cache_write_1h" if mark.get("ttl") == "1h" else "cache_write"
                parts.append(Part(unmarked, write))
                unmarked = ""
        return Prompt(
            model=request["model"],
            prefix=tuple(parts),
            rest=unmarked,
            max_output=request["max_tokens"],
            reasoning=(request.get("thinking") or {}).get("type", "disabled") != "disabled",
        )

    @override
    def response(self, completion: Completion) -> Json:
        content: list[Json] = [{"type": "text", "text": "".join(completion.text)}]
        if completion.reasoning:
            thinking = "".join(completion.reasoning)
            content.insert(0, {"type": "thinking", "thinking": thinking, "signature": completion.id})
        end = {"stop_reason": self._stop_reason(completion), "stop_sequence": None}
        return {**self._message(completion), "content": content, **end, "usage": self._usage(completion)}

    @override
    def events(self, completion: Completion, request: Json) -> Iterator[str]:
        for kind, fields in self._sequence(completion):
            yield server_sent_event({"type": kind, **fields}, name=kind)

    def _sequence(self, completion: Completion) -> Iterator[tuple[str, Json]]:
        usage = {**self._prompt_usage(completion), "output_tokens": 1, "service_tier": "standard"}
        yield "message_start", {"message": {**self._message(completion), "usage": usage}}
        yield "ping", {}
        index = 0
        if completion.reasoning:
            block = {"type": "thinking", "thinking": "", "signature": ""}
            deltas: list[Json] = [
                {"type": "thinking_delta", "thinking": piece} for piece in completion.reasoning
            ]
            deltas.append({"type": "signature_delta", "signature": completion.id})
            yield from self._block(index, block, deltas)
            index = 1
        deltas = [{"type": "text_delta", "text": piece} for piece in completion.text]
        yield from self._block(index, {"type": "text", "text": ""}, deltas)
        end = {"stop_reason": self._stop_reason(completion), "stop_sequence": None}
        usage = self._usage(completion)  # cumulative
        del usage["cache_creation"], usage["service_tier"]  # sent in message_start only
        yield "message_delta", {"delta": end, "usage": usage}
        yield "message_stop", {}

    def _block(self, index: int, block: Json, deltas: list[Json]) -> Iterator[tuple[str, Json]]:
        yield "content_block_start", {"index": index, "content_block": block}
        for delta in deltas:
            yield "content_block_delta", {"index": index, "delta": delta}
        yield "content_block_stop", {"index": index}

    def _message(self, completion: Completion) -> Json:
        return {
            "id": f"msg_{completion.id}",
            "type": "message",
            "role": "assistant",
            "model": completion.model.dated_name,
            "content": [],
            "stop_reason": None,
            "stop_sequence": None,
        }

    def _stop_reason(self, completion: Completion) -> str:
        return "max_tokens" if completion.truncated else "end_turn"

    def _usage(self, completion: Completion) -> Json:
        return {
            **self._prompt_usage(completion),
            "output_tokens": completion.output_tokens,
            "output_tokens_details": {"thinking_tokens": completion.tokens["reasoning"]},
            "service_tier": "standard",
        }

    def _prompt_usage(self, completion: Completion) -> Json:
        five_minutes, hour = completion.tokens["cache_write"], completion.tokens["cache_write_1h"]
        return {
            "input_tokens": completion.tokens["input"],
            "cache_read_input_tokens": completion.tokens["cache_read"],
            "cache_creation_input_tokens": five_minutes + hour,
            "cache_creation": {"ephemeral_5m_input_tokens": five_minutes, "ephemeral_1h_input_tokens": hour},
        }

    @override
    def headers(self) -> dict[str, str]:
        headers = {"request-id": f"req_{secrets.token_hex(12)}", "anthropic-organization-id": "demo"}
        for name, quota in (("requests", self.requests), ("tokens", self.tokens)):
            reset_at = datetime.now(UTC) + timedelta(seconds=quota.reset_after)
            headers |= {
                f"anthropic-ratelimit-{name}-limit": str(quota.limit),
                f"anthropic-ratelimit-{name}-remaining": str(quota.remaining),
                f"anthropic-ratelimit-{name}-reset": f"{reset_at:%Y-%m-%dT%H:%M:%SZ}",
            }
        return headers

    @override
    def error(self, error: ProviderError) -> Json:
        kind, message = {
            "rate_limited": (
                "rate_limit_error",
                f"This request would exceed the rate limit for your organization of {self.tokens.limit:,} "
                "tokens per minute.",
            ),
            "overloaded": ("overloaded_error", "Overloaded"),
            "unknown_model": ("not_found_error", f"model: {error.model}"),
            "prompt_too_long": (
                "invalid_request_error",
                f"prompt is too long: {error.tokens} tokens > {error.limit} maximum",
            ),
        }[error.fault]
        request_id = f"req_{secrets.token_hex(12)}"
        return {"type": "error", "error": {"type": kind, "message": message}, "request_id": request_id}


def _blocks(request: Json) -> Iterator[Json]:
    """Yield the content blocks of a request in the order of the cache: system first, then messages."""
    for content in (request.get("system") or "", *(message["content"] for message in request["messages"])):
        yield from [{"text": content}] if isinstance(content, str) else content
