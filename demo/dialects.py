"""The providers' wire formats, from the providers' side: requests in; answers, streams and errors out.

Written from the providers' API references, named at each class.
"""

from __future__ import annotations

import json
import secrets
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any, ClassVar, Final

from llm_exporter.call import TokenType

from .answers import Answer, Part, Question, Refusal, Trouble

Json = dict[str, Any]
PER_MINUTE: Final = 60.0


class Quota:
    """What is left of a limit per minute, which fills up again evenly."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self._used = 0.0
        self._at = time.monotonic()

    def take(self, amount: int) -> None:
        """Use some of it."""
        now = time.monotonic()
        self._used = max(self._used - (now - self._at) * self.limit / PER_MINUTE, 0) + amount
        self._at = now

    @property
    def remaining(self) -> int:
        """What is left."""
        return max(int(self.limit - self._used), 0)

    @property
    def full_after(self) -> float:
        """Seconds until all of it is left again."""
        return self._used * PER_MINUTE / self.limit


class Dialect(ABC):
    """One wire format. Its quotas are the account's, and may be shared with other formats."""

    statuses: ClassVar[dict[Trouble, int]]
    """The HTTP status of each trouble."""

    def __init__(self, requests: Quota, tokens: Quota) -> None:
        self.requests = requests
        self.tokens = tokens

    @abstractmethod
    def question(self, request: Json) -> Question:
        """Return what a request body asks."""

    @abstractmethod
    def body(self, answer: Answer) -> Json:
        """Return an answer whole."""

    @abstractmethod
    def events(self, answer: Answer, request: Json) -> Iterator[str]:
        """Yield an answer as server-sent events."""

    @abstractmethod
    def refusal(self, refusal: Refusal) -> Json:
        """Return the error body of a refusal."""

    @abstractmethod
    def headers(self) -> dict[str, str]:
        """Return the headers that stand on every answer."""

    def retry_headers(self, seconds: float) -> dict[str, str]:
        """Return the headers that tell when to try again."""
        return {"retry-after": f"{seconds:g}"}


# ---- OpenAI


class OpenAI(Dialect):
    """What OpenAI's formats share: https://platform.openai.com/docs/guides/rate-limits, .../error-codes."""

    statuses: ClassVar = {
        "rate_limited": 429,
        "overloaded": 503,
        "unknown_model": 404,
        "prompt_too_long": 400,
    }

    def headers(self) -> dict[str, str]:
        """Return the ids and rate limits."""
        return {
            "x-request-id": f"req_{secrets.token_hex(16)}",
            "openai-organization": "demo",
            "openai-version": "2020-10-01",
            "x-ratelimit-limit-requests": str(self.requests.limit),
            "x-ratelimit-limit-tokens": str(self.tokens.limit),
            "x-ratelimit-remaining-requests": str(self.requests.remaining),
            "x-ratelimit-remaining-tokens": str(self.tokens.remaining),
            "x-ratelimit-reset-requests": f"{self.requests.full_after * 1000:.0f}ms",
            "x-ratelimit-reset-tokens": f"{self.tokens.full_after * 1000:.0f}ms",
        }

    def retry_headers(self, seconds: float) -> dict[str, str]:
        """Return the headers that tell when to try again, to the millisecond too."""
        return {**super().retry_headers(seconds), "retry-after-ms": f"{seconds * 1000:g}"}

    def refusal(self, refusal: Refusal) -> Json:
        """Return the error object."""
        match refusal.why:
            case "rate_limited":
                message = (
                    f"Rate limit reached for {refusal.model} in organization demo on tokens per min (TPM): "
                    f"Limit {self.tokens.limit}. Please try again shortly."
                )
                return _openai_error(message, "tokens", "rate_limit_exceeded")
            case "overloaded":
                message = "The engine is currently overloaded, please try again later"
                return _openai_error(message, "server_error")
            case "unknown_model":
                message = f"The model `{refusal.model}` does not exist or you do not have access to it."
                return _openai_error(message, "invalid_request_error", "model_not_found")
            case "prompt_too_long":
                message = (
                    f"This model's maximum context length is {refusal.limit} tokens. However, your messages "
                    f"resulted in {refusal.tokens} tokens. Please reduce the length of the messages."
                )
                return _openai_error(message, "invalid_request_error", "context_length_exceeded", "messages")


def _openai_error(message: str, type_: str, code: str | None = None, param: str | None = None) -> Json:
    return {"error": {"message": message, "type": type_, "param": param, "code": code}}


class Chat(OpenAI):
    """Chat completions: https://platform.openai.com/docs/api-reference/chat."""

    def question(self, request: Json) -> Question:
        """Return what a request body asks."""
        *before, last = request["messages"]
        return Question(
            model=request["model"],
            beginning=tuple(Part(_text(message), "input") for message in before),
            rest=_text(last),
            max_output=request.get("max_completion_tokens") or request.get("max_tokens"),
        )

    def body(self, answer: Answer) -> Json:
        """Return a `chat.completion`."""
        message: Json = {
            "role": "assistant",
            "content": "".join(answer.text),
            "refusal": None,
            "annotations": [],
        }
        return {
            **self._envelope(answer, "chat.completion"),
            "choices": [
                {"index": 0, "message": message, "logprobs": None, "finish_reason": _openai_end(answer)}
            ],
            "usage": self._usage(answer),
        }

    def events(self, answer: Answer, request: Json) -> Iterator[str]:
        """Yield `chat.completion.chunk` objects; usage is on them if asked for, and null but on the last."""
        asked = (request.get("stream_options") or {}).get("include_usage", False)
        envelope = self._envelope(answer, "chat.completion.chunk") | ({"usage": None} if asked else {})

        def chunk(delta: Json, end: str | None = None) -> str:
            choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": end}
            return _event({**envelope, "choices": [choice]})

        yield chunk({"role": "assistant", "content": "", "refusal": None})
        for piece in answer.text:
            yield chunk({"content": piece})
        yield chunk({}, _openai_end(answer))
        if asked:
            yield _event({**envelope, "choices": [], "usage": self._usage(answer)})
        yield "data: [DONE]\n\n"

    def _envelope(self, answer: Answer, kind: str) -> Json:
        return {
            "id": f"chatcmpl-{answer.id}",
            "object": kind,
            "created": int(time.time()),
            "model": answer.model.answers_as,
            "service_tier": "default",
            "system_fingerprint": "fp_demo",
        }

    def _usage(self, answer: Answer) -> Json:
        return {
            "prompt_tokens": answer.prompt,
            "completion_tokens": answer.generated,
            "total_tokens": answer.prompt + answer.generated,
            "prompt_tokens_details": {"cached_tokens": answer.tokens["cache_read"], "audio_tokens": 0},
            "completion_tokens_details": {
                "reasoning_tokens": answer.tokens["reasoning"],
                "audio_tokens": 0,
                "accepted_prediction_tokens": 0,
                "rejected_prediction_tokens": 0,
            },
        }


def _openai_end(answer: Answer) -> str:
    return "length" if answer.cut_off else "stop"


class Responses(OpenAI):
    """The Responses API: https://platform.openai.com/docs/api-reference/responses."""

    def question(self, request: Json) -> Question:
        """Return what a request body asks."""
        asked = request["input"]
        *before, last = asked if isinstance(asked, list) else [asked]
        return Question(
            model=request["model"],
            beginning=tuple(
                Part(_text(each), "input") for each in (request.get("instructions", ""), *before)
            ),
            rest=_text(last),
            max_output=request.get("max_output_tokens"),
        )

    def body(self, answer: Answer) -> Json:
        """Return a finished `response`."""
        items = [self._message(answer, "completed", "".join(answer.text))]
        if answer.thoughts:
            items.insert(0, self._reasoning(answer))
        return {
            **self._response(answer),
            "status": "incomplete" if answer.cut_off else "completed",
            "incomplete_details": {"reason": "max_output_tokens"} if answer.cut_off else None,
            "output": items,
            "usage": {
                "input_tokens": answer.prompt,
                "input_tokens_details": {
                    "cached_tokens": answer.tokens["cache_read"],
                    "cache_write_tokens": 0,
                },
                "output_tokens": answer.generated,
                "output_tokens_details": {"reasoning_tokens": answer.tokens["reasoning"]},
                "total_tokens": answer.prompt + answer.generated,
            },
        }

    def events(self, answer: Answer, request: Json) -> Iterator[str]:
        """Yield the typed events in their order, numbered; only the last has usage."""
        for number, (kind, fields) in enumerate(self._sequence(answer)):
            yield _event({"type": kind, **fields, "sequence_number": number}, name=kind)

    def _sequence(self, answer: Answer) -> Iterator[tuple[str, Json]]:
        began = {"response": self._response(answer)}
        yield "response.created", began
        yield "response.in_progress", began
        index = 0
        if answer.thoughts:
            item = self._reasoning(answer)
            yield "response.output_item.added", {"output_index": index, "item": item}
            yield "response.output_item.done", {"output_index": index, "item": item}
            index = 1
        item = self._message(answer, "in_progress")
        yield "response.output_item.added", {"output_index": index, "item": item}
        place = {"item_id": item["id"], "output_index": index, "content_index": 0}
        text = "".join(answer.text)
        yield "response.content_part.added", {**place, "part": _output_text("")}
        for piece in answer.text:
            yield "response.output_text.delta", {**place, "delta": piece, "logprobs": []}
        yield "response.output_text.done", {**place, "text": text, "logprobs": []}
        yield "response.content_part.done", {**place, "part": _output_text(text)}
        item = self._message(answer, "completed", text)
        yield "response.output_item.done", {"output_index": index, "item": item}
        response = self.body(answer)
        yield f"response.{response['status']}", {"response": response}

    def _response(self, answer: Answer) -> Json:
        return {
            "id": f"resp_{answer.id}",
            "object": "response",
            "created_at": int(time.time()),
            "status": "in_progress",
            "error": None,
            "incomplete_details": None,
            "instructions": None,
            "metadata": {},
            "model": answer.model.answers_as,
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

    def _reasoning(self, answer: Answer) -> Json:
        return {"id": f"rs_{answer.id}", "type": "reasoning", "summary": []}

    def _message(self, answer: Answer, status: str, text: str = "") -> Json:
        return {
            "id": f"msg_{answer.id}",
            "type": "message",
            "status": status,
            "role": "assistant",
            "content": [_output_text(text)] if text else [],
        }


def _output_text(text: str) -> Json:
    return {"type": "output_text", "text": text, "annotations": [], "logprobs": []}


# ---- Anthropic


class Messages(Dialect):
    """Messages: https://docs.claude.com/en/api/messages, .../messages-streaming, .../errors."""

    statuses: ClassVar = {
        "rate_limited": 429,
        "overloaded": 529,
        "unknown_model": 404,
        "prompt_too_long": 400,
    }

    def question(self, request: Json) -> Question:
        """Return what a request body asks. Only what was marked is cached, for the lifetime in the mark."""
        parts: list[Part] = []
        unmarked = ""
        for block in _blocks(request):
            unmarked += _text(block)
            if mark := block.get("cache_control"):
                write: TokenType = "cache_write_1h" if mark.get("ttl") == "1h" else "cache_write"
                parts.append(Part(unmarked, write))
                unmarked = ""
        return Question(
            model=request["model"],
            beginning=tuple(parts),
            rest=unmarked,
            max_output=request["max_tokens"],
            thinking=(request.get("thinking") or {}).get("type", "disabled") != "disabled",
        )

    def body(self, answer: Answer) -> Json:
        """Return a `message`."""
        content: list[Json] = [{"type": "text", "text": "".join(answer.text)}]
        if answer.thoughts:
            thoughts = "".join(answer.thoughts)
            content.insert(0, {"type": "thinking", "thinking": thoughts, "signature": answer.id})
        end = {"stop_reason": self._end(answer), "stop_sequence": None}
        return {**self._message(answer), "content": content, **end, "usage": self._usage(answer)}

    def events(self, answer: Answer, request: Json) -> Iterator[str]:
        """Yield the typed events in their order; the usage of `message_delta` is cumulative."""
        for kind, fields in self._sequence(answer):
            yield _event({"type": kind, **fields}, name=kind)

    def _sequence(self, answer: Answer) -> Iterator[tuple[str, Json]]:
        begun = {**self._prompt_usage(answer), "output_tokens": 1, "service_tier": "standard"}
        yield "message_start", {"message": {**self._message(answer), "usage": begun}}
        yield "ping", {}
        index = 0
        if answer.thoughts:
            block = {"type": "thinking", "thinking": "", "signature": ""}
            deltas: list[Json] = [{"type": "thinking_delta", "thinking": piece} for piece in answer.thoughts]
            deltas.append({"type": "signature_delta", "signature": answer.id})
            yield from self._block(index, block, deltas)
            index = 1
        deltas = [{"type": "text_delta", "text": piece} for piece in answer.text]
        yield from self._block(index, {"type": "text", "text": ""}, deltas)
        end = {"stop_reason": self._end(answer), "stop_sequence": None}
        usage = self._usage(answer)
        del usage["cache_creation"], usage["service_tier"]  # said at the start
        yield "message_delta", {"delta": end, "usage": usage}
        yield "message_stop", {}

    def _block(self, index: int, block: Json, deltas: list[Json]) -> Iterator[tuple[str, Json]]:
        yield "content_block_start", {"index": index, "content_block": block}
        for delta in deltas:
            yield "content_block_delta", {"index": index, "delta": delta}
        yield "content_block_stop", {"index": index}

    def _message(self, answer: Answer) -> Json:
        return {
            "id": f"msg_{answer.id}",
            "type": "message",
            "role": "assistant",
            "model": answer.model.answers_as,
            "content": [],
            "stop_reason": None,
            "stop_sequence": None,
        }

    def _end(self, answer: Answer) -> str:
        return "max_tokens" if answer.cut_off else "end_turn"

    def _usage(self, answer: Answer) -> Json:
        return {
            **self._prompt_usage(answer),
            "output_tokens": answer.generated,
            "output_tokens_details": {"thinking_tokens": answer.tokens["reasoning"]},
            "service_tier": "standard",
        }

    def _prompt_usage(self, answer: Answer) -> Json:
        five_minutes, hour = answer.tokens["cache_write"], answer.tokens["cache_write_1h"]
        return {
            "input_tokens": answer.tokens["input"],
            "cache_read_input_tokens": answer.tokens["cache_read"],
            "cache_creation_input_tokens": five_minutes + hour,
            "cache_creation": {"ephemeral_5m_input_tokens": five_minutes, "ephemeral_1h_input_tokens": hour},
        }

    def headers(self) -> dict[str, str]:
        """Return the ids and rate limits."""
        headers = {"request-id": f"req_{secrets.token_hex(12)}", "anthropic-organization-id": "demo"}
        for name, quota in (("requests", self.requests), ("tokens", self.tokens)):
            full_at = datetime.now(UTC) + timedelta(seconds=quota.full_after)
            headers |= {
                f"anthropic-ratelimit-{name}-limit": str(quota.limit),
                f"anthropic-ratelimit-{name}-remaining": str(quota.remaining),
                f"anthropic-ratelimit-{name}-reset": f"{full_at:%Y-%m-%dT%H:%M:%SZ}",
            }
        return headers

    def refusal(self, refusal: Refusal) -> Json:
        """Return the error object."""
        kind, message = {
            "rate_limited": (
                "rate_limit_error",
                f"This request would exceed the rate limit for your organization of {self.tokens.limit:,} "
                "tokens per minute.",
            ),
            "overloaded": ("overloaded_error", "Overloaded"),
            "unknown_model": ("not_found_error", f"model: {refusal.model}"),
            "prompt_too_long": (
                "invalid_request_error",
                f"prompt is too long: {refusal.tokens} tokens > {refusal.limit} maximum",
            ),
        }[refusal.why]
        request_id = f"req_{secrets.token_hex(12)}"
        return {"type": "error", "error": {"type": kind, "message": message}, "request_id": request_id}


def _blocks(request: Json) -> Iterator[Json]:
    """Yield the blocks of a prompt in the order of the provider's cache: the system's, then the messages'."""
    for content in (request.get("system") or "", *(message["content"] for message in request["messages"])):
        yield from [{"text": content}] if isinstance(content, str) else content


# ---- Gemini


class Gemini(Dialect):
    """generateContent and streamGenerateContent: https://ai.google.dev/api/generate-content."""

    statuses: ClassVar = {
        "rate_limited": 429,
        "overloaded": 503,
        "unknown_model": 404,
        "prompt_too_long": 400,
    }

    def question(self, request: Json) -> Question:
        """Return what a request body asks; the model is in the URL, and here in `model`."""
        *before, last = request["contents"]
        config = request.get("generationConfig", {})
        thinking = config.get("thinkingConfig", {})
        beginning = (request.get("systemInstruction", ""), *before)
        return Question(
            model=request["model"],
            beginning=tuple(Part(_text(each), "input") for each in beginning),
            rest=_text(last),
            max_output=config.get("maxOutputTokens"),
            # The SDK sends this one in snake case; the API takes either.
            thinking=thinking.get("thinkingBudget", thinking.get("thinking_budget")) != 0,
        )

    def body(self, answer: Answer) -> Json:
        """Return a `GenerateContentResponse`."""
        return self._response(answer, "".join(answer.text), answer.tokens["output"], self._end(answer))

    def events(self, answer: Answer, request: Json) -> Iterator[str]:
        """Yield responses with a piece of the text each; all of them have the usage so far."""
        so_far, pieces = 0, len(answer.text)
        for number, piece in enumerate(answer.text, 1):
            so_far = answer.tokens["output"] * number // pieces
            end = self._end(answer) if number == pieces else None
            yield _event(self._response(answer, piece, so_far, end))

    def _end(self, answer: Answer) -> str:
        return "MAX_TOKENS" if answer.cut_off else "STOP"

    def _response(self, answer: Answer, text: str, so_far: int, end: str | None) -> Json:
        candidate = {"content": {"parts": [{"text": text}], "role": "model"}, "index": 0}
        if end:
            candidate["finishReason"] = end
        thoughts, cached = answer.tokens["reasoning"], answer.tokens["cache_read"]
        usage: Json = {
            "promptTokenCount": answer.prompt,
            "candidatesTokenCount": so_far,
            "totalTokenCount": answer.prompt + so_far + thoughts,
            "promptTokensDetails": [{"modality": "TEXT", "tokenCount": answer.prompt}],
        }
        # A count of zero is left out.
        if cached:
            usage["cachedContentTokenCount"] = cached
            usage["cacheTokensDetails"] = [{"modality": "TEXT", "tokenCount": cached}]
        if thoughts:
            usage["thoughtsTokenCount"] = thoughts
        return {
            "candidates": [candidate],
            "usageMetadata": usage,
            "modelVersion": answer.model.answers_as,
            "responseId": answer.id,
        }

    def headers(self) -> dict[str, str]:
        """Return the headers; rate limits are in none of them."""
        return {"x-gemini-service-tier": "standard"}

    def retry_headers(self, seconds: float) -> dict[str, str]:
        """Return none: when to try again would stand in the body."""
        return {}

    def refusal(self, refusal: Refusal) -> Json:
        """Return the error object."""
        status, message = {
            "rate_limited": ("RESOURCE_EXHAUSTED", "Resource exhausted. Please try again later."),
            "overloaded": ("UNAVAILABLE", "The model is overloaded. Please try again later."),
            "unknown_model": (
                "NOT_FOUND",
                f"models/{refusal.model} is not found for API version v1, or is not supported for "
                "generateContent.",
            ),
            "prompt_too_long": (
                "INVALID_ARGUMENT",
                f"The input token count ({refusal.tokens}) exceeds the maximum number of tokens allowed "
                f"({refusal.limit}).",
            ),
        }[refusal.why]
        return {"error": {"code": self.statuses[refusal.why], "message": message, "status": status}}


# ---- both ways


def _text(node: object) -> str:
    """Return all text in a message, whatever the format calls the fields it is nested in."""
    match node:
        case str():
            return node
        case list():
            return "".join(map(_text, node))
        case {"text": inner} | {"content": inner} | {"parts": inner}:
            return _text(inner)
    return ""


def _event(data: Json, name: str | None = None) -> str:
    head = f"event: {name}\n" if name else ""
    return f"{head}data: {json.dumps(data, separators=(',', ':'))}\n\n"
