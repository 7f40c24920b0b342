"""OpenAI: chat completions and the Responses API."""

from __future__ import annotations

import secrets
import time
from collections.abc import Iterator
from typing import ClassVar

from typing_extensions import override

from ..completions import Completion, Part, Prompt, ProviderError
from .base import Json, WireFormat, server_sent_event, text_of


class OpenAI(WireFormat):
    """Headers and errors: https://platform.openai.com/docs/guides/rate-limits, .../error-codes."""

    statuses: ClassVar = {
        "rate_limited": 429,
        "overloaded": 503,
        "unknown_model": 404,
        "prompt_too_long": 400,
    }

    @override
    def headers(self) -> dict[str, str]:
        return {
            "x-request-id": f"req_{secrets.token_hex(16)}",
            "openai-organization": "demo",
            "openai-version": "2020-10-01",
            "x-ratelimit-limit-requests": str(self.requests.limit),
            "x-ratelimit-limit-tokens": str(self.tokens.limit),
            "x-ratelimit-remaining-requests": str(self.requests.remaining),
            "x-ratelimit-remaining-tokens": str(self.tokens.remaining),
            "x-ratelimit-reset-requests": f"{self.requests.reset_after * 1000:.0f}ms",
            "x-ratelimit-reset-tokens": f"{self.tokens.reset_after * 1000:.0f}ms",
        }

    @override
    def retry_headers(self, seconds: float) -> dict[str, str]:
        return {**super().retry_headers(seconds), "retry-after-ms": f"{seconds * 1000:g}"}

    @override
    def error(self, error: ProviderError) -> Json:
        match error.fault:
            case "rate_limited":
                message = (
                    f"Rate limit reached for {error.model} in organization demo on tokens per min (TPM): "
                    f"Limit {self.tokens.limit}. Please try again shortly."
                )
                return _error(message, "tokens", "rate_limit_exceeded")
            case "overloaded":
                message = "The engine is currently overloaded, please try again later"
                return _error(message, "server_error")
            case "unknown_model":
                message = f"The model `{error.model}` does not exist or you do not have access to it."
                return _error(message, "invalid_request_error", "model_not_found")
            case "prompt_too_long":
                message = (
                    f"This model's maximum context length is {error.limit} tokens. However, your messages "
                    f"resulted in {error.tokens} tokens. Please reduce the length of the messages."
                )
                return _error(message, "invalid_request_error", "context_length_exceeded", "messages")


def _error(message: str, type_: str, code: str | None = None, param: str | None = None) -> Json:
    return {"error": {"message": message, "type": type_, "param": param, "code": code}}


class ChatCompletions(OpenAI):
    """Chat completions: https://platform.openai.com/docs/api-reference/chat."""

    @override
    def prompt(self, request: Json) -> Prompt:
        *before, last = request["messages"]
        return Prompt(
            model=request["model"],
            prefix=tuple(Part(text_of(message), "input") for message in before),
            rest=text_of(last),
            max_output=request.get("max_completion_tokens") or request.get("max_tokens"),
        )

    @override
    def response(self, completion: Completion) -> Json:
        message: Json = {
            "role": "assistant",
            "content": "".join(completion.text),
            "refusal": None,
            "annotations": [],
        }
        return {
            **self._envelope(completion, "chat.completion"),
            "choices": [
                {
                    "index": 0,
                    "message": message,
                    "logprobs": None,
                    "finish_reason": _finish_reason(completion),
                }
            ],
            "usage": self._usage(completion),
        }

    @override
    def events(self, completion: Completion, request: Json) -> Iterator[str]:
        # With include_usage, every chunk has the field, but only the last one has a value.
        include_usage = (request.get("stream_options") or {}).get("include_usage", False)
        envelope = self._envelope(completion, "chat.completion.chunk") | (
            {"usage": None} if include_usage else {}
        )

        def chunk(delta: Json, finish_reason: str | None = None) -> str:
            choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish_reason}
            return server_sent_event({**envelope, "choices": [choice]})

        yield chunk({"role": "assistant", "content": "", "refusal": None})
        for piece in completion.text:
            yield chunk({"content": piece})
        yield chunk({}, _finish_reason(completion))
        if include_usage:
            yield server_sent_event({**envelope, "choices": [], "usage": self._usage(completion)})
        yield "data: [DONE]\n\n"

    def _envelope(self, completion: Completion, kind: str) -> Json:
        return {
            "id": f"chatcmpl-{completion.id}",
            "object": kind,
            "created": int(time.time()),
            "model": completion.model.dated_name,
            "service_tier": "default",
            "system_fingerprint": "fp_demo",
        }

    def _usage(self, completion: Completion) -> Json:
        return {
            "prompt_tokens": completion.input_tokens,
            "completion_tokens": completion.output_tokens,
            "total_tokens": completion.input_tokens + completion.output_tokens,
            "prompt_tokens_details": {"cached_tokens": completion.tokens["cache_read"], "audio_tokens": 0},
            "completion_tokens_details": {
                "reasoning_tokens": completion.tokens["reasoning"],
                "audio_tokens": 0,
                "accepted_prediction_tokens": 0,
                "rejected_prediction_tokens": 0,
            },
        }


def _finish_reason(completion: Completion) -> str:
    return "length" if completion.truncated else "stop"


class Responses(OpenAI):
    """The Responses API: https://platform.openai.com/docs/api-reference/responses."""

    @override
    def prompt(self, request: Json) -> Prompt:
        items = request["input"]
        *before, last = items if isinstance(items, list) else [items]
        return Prompt(
            model=request["model"],
            prefix=tuple(Part(text_of(each), "input") for each in (request.get("instructions", ""), *before)),
            rest=text_of(last),
            max_output=request.get("max_output_tokens"),
        )

    @override
    def response(self, completion: Completion) -> Json:
        items = [self._message_item(completion, "completed", "".join(completion.text))]
        if completion.reasoning:
            items.insert(0, self._reasoning_item(completion))
        return {
            **self._unfinished(completion),
            "status": "incomplete" if completion.truncated else "completed",
            "incomplete_details": {"reason": "max_output_tokens"} if completion.truncated else None,
            "output": items,
            "usage": {
                "input_tokens": completion.input_tokens,
                "input_tokens_details": {
                    "cached_tokens": completion.tokens["cache_read"],
                    "cache_write_tokens": 0,
                },
                "output_tokens": completion.output_tokens,
                "output_tokens_details": {"reasoning_tokens": completion.tokens["reasoning"]},
                "total_tokens": completion.input_tokens + completion.output_tokens,
            },
        }

    @override
    def events(self, completion: Completion, request: Json) -> Iterator[str]:
        for number, (kind, fields) in enumerate(self._sequence(completion)):
            yield server_sent_event({"type": kind, **fields, "sequence_number": number}, name=kind)

    def _sequence(self, completion: Completion) -> Iterator[tuple[str, Json]]:
        initial = {"response": self._unfinished(completion)}
        yield "response.created", initial
        yield "response.in_progress", initial
        index = 0
        if completion.reasoning:
            item = self._reasoning_item(completion)
            yield "response.output_item.added", {"output_index": index, "item": item}
            yield "response.output_item.done", {"output_index": index, "item": item}
            index = 1
        item = self._message_item(completion, "in_progress")
        yield "response.output_item.added", {"output_index": index, "item": item}
        position = {"item_id": item["id"], "output_index": index, "content_index": 0}
        text = "".join(completion.text)
        yield "response.content_part.added", {**position, "part": _output_text("")}
        for piece in completion.text:
            yield "response.output_text.delta", {**position, "delta": piece, "logprobs": []}
        yield "response.output_text.done", {**position, "text": text, "logprobs": []}
        yield "response.content_part.done", {**position, "part": _output_text(text)}
        item = self._message_item(completion, "completed", text)
        yield "response.output_item.done", {"output_index": index, "item": item}
        response = self.response(completion)
        yield f"response.{response['status']}", {"response": response}

    def _unfinished(self, completion: Completion) -> Json:
        return {
            "id": f"resp_{completion.id}",
            "object": "response",
            "created_at": int(time.time()),
            "status": "in_progress",
            "error": None,
            "incomplete_details": None,
            "instructions": None,
            "metadata": {},
            "model": completion.model.dated_name,
            "output": [],
            "parallel_tool_calls": True,
            "service_tier": "default",
            "temperature": 1.0,
            "text": {"format": {"type": "text"}},
            "tool_choice": "auto",
            "tools": [],
            "top_p": 1.0,
            "truncation": "disabled",
            "usage": None,
        }

    def _reasoning_item(self, completion: Completion) -> Json:
        return {"id": f"rs_{completion.id}", "type": "reasoning", "summary": []}

    def _message_item(self, completion: Completion, status: str, text: str = "") -> Json:
        return {
            "id": f"msg_{completion.id}",
            "type": "message",
            "status": status,
            "role": "assistant",
            "content": [_output_text(text)] if text else [],
        }


def _output_text(text: str) -> Json:
    return {"type": "output_text", "text": text, "annotations": [], "logprobs": []}
