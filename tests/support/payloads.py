"""Sample responses in the providers' wire formats."""

from __future__ import annotations

import json
from typing import Any

from support.scripted import Response, sse

STREAM = "text/event-stream"
INTERACTION: dict[str, Any] = {
    "id": "v1_a",
    "object": "interaction",
    "status": "completed",
    "model": "gemini-2.5-flash",
    "steps": [{"type": "model_output", "content": [{"type": "text", "text": "Seven."}]}],
    "usage": {
        "total_input_tokens": 400,
        "total_cached_tokens": 100,
        "total_output_tokens": 60,
        "total_thought_tokens": 40,
        "total_tool_use_tokens": 20,
        "total_tokens": 520,
    },
}
"""An interaction of the Gemini API."""


def dump(value: object) -> bytes:
    return json.dumps(value).encode()


def chat(usage: dict[str, Any] | None = None, model: str = "gpt-4o-2024-08-06") -> Response:
    """Return an OpenAI chat completion."""
    message = {"role": "assistant", "content": "Seven.", "refusal": None}
    choice = {"index": 0, "message": message, "finish_reason": "stop", "logprobs": None}
    return Response(
        dump(
            {
                "id": "chatcmpl-1",
                "object": "chat.completion",
                "created": 1,
                "model": model,
                "choices": [choice],
                "usage": usage,
            }
        )
    )


def chat_stream(usage: dict[str, Any] | None = None, model: str = "gpt-4o-2024-08-06") -> Response:
    """Return a streamed chat completion, with its usage in a last chunk without choices."""

    def chunk(choices: list[dict[str, Any]], used: dict[str, Any] | None = None) -> str:
        return json.dumps(
            {
                "id": "chatcmpl-1",
                "object": "chat.completion.chunk",
                "created": 1,
                "model": model,
                "choices": choices,
                "usage": used,
            }
        )

    def delta(finish: str | None = None, **fields: str) -> str:
        return chunk([{"index": 0, "delta": fields, "finish_reason": finish}])

    events = [
        delta(role="assistant", content=""),
        delta(content="Sev"),
        delta(content="en."),
        delta(finish="stop"),
    ]
    if usage is not None:
        events.append(chunk([], usage))
    return Response([*sse(*events), b"data: [DONE]\n\n"], content_type=STREAM)


def _response(status: str, usage: dict[str, Any] | None, model: str) -> dict[str, Any]:
    content = [{"type": "output_text", "text": "Seven.", "annotations": []}]
    item = {"type": "message", "id": "msg_1", "status": "completed", "role": "assistant", "content": content}
    return {
        "id": "resp_1",
        "object": "response",
        "created_at": 1,
        "status": status,
        "model": model,
        "output": [item] if status == "completed" else [],
        "parallel_tool_calls": True,
        "tool_choice": "auto",
        "tools": [],
        "error": None,
        "usage": usage,
    }


def response(usage: dict[str, Any] | None = None, model: str = "o4-mini-2025-04-16") -> Response:
    """Return an OpenAI response object."""
    return Response(dump(_response("completed", usage, model)))


def response_stream(usage: dict[str, Any] | None = None, model: str = "o4-mini-2025-04-16") -> Response:
    """Return a streamed OpenAI response."""
    at = {"item_id": "msg_1", "output_index": 0, "content_index": 0, "logprobs": []}
    events: list[dict[str, Any]] = [
        {"type": "response.created", "response": _response("in_progress", None, model)},
        {"type": "response.output_text.delta", "delta": "Sev", **at},
        {"type": "response.output_text.delta", "delta": "en.", **at},
        {"type": "response.completed", "response": _response("completed", usage, model)},
    ]
    return Response(
        sse(
            *(json.dumps({**event, "sequence_number": number}) for number, event in enumerate(events)),
            kinds=True,
        ),
        content_type=STREAM,
    )


def message(usage: dict[str, Any] | None = None, model: str = "claude-sonnet-4-6") -> Response:
    """Return an Anthropic message."""
    return Response(dump({**_message(usage or {}, model), "content": [{"type": "text", "text": "Seven."}]}))


def _message(usage: dict[str, Any], model: str) -> dict[str, Any]:
    return {
        "id": "msg_1",
        "type": "message",
        "role": "assistant",
        "model": model,
        "content": [],
        "stop_reason": "end_turn",
        "stop_sequence": None,
        "usage": usage,
    }


def message_stream(
    start: dict[str, Any], delta: dict[str, Any], model: str = "claude-sonnet-4-6"
) -> Response:
    """Return a streamed Anthropic message, with the usage of `message_start` and of `message_delta`."""
    text = {"type": "content_block_delta", "index": 0}
    events: list[dict[str, Any]] = [
        {"type": "message_start", "message": _message(start, model)},
        {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
        {**text, "delta": {"type": "text_delta", "text": "Sev"}},
        {**text, "delta": {"type": "text_delta", "text": "en."}},
        {"type": "content_block_stop", "index": 0},
        {
            "type": "message_delta",
            "delta": {"stop_reason": "end_turn", "stop_sequence": None},
            "usage": delta,
        },
        {"type": "message_stop"},
    ]
    return Response(sse(*map(json.dumps, events), kinds=True), content_type=STREAM)


def gemini(usage: dict[str, Any] | None = None, model: str = "gemini-2.5-pro") -> Response:
    """Return a Gemini response."""
    return Response(dump(_gemini("Seven.", usage, model)))


def _gemini(text: str, usage: dict[str, Any] | None, model: str) -> dict[str, Any]:
    candidate = {"content": {"parts": [{"text": text}], "role": "model"}, "index": 0}
    body: dict[str, Any] = {"candidates": [candidate], "modelVersion": model, "responseId": "r1"}
    return body if usage is None else {**body, "usageMetadata": usage}


def gemini_stream(usages: list[dict[str, Any]], model: str = "gemini-2.5-pro") -> Response:
    """Return a streamed Gemini response with one chunk for each usage."""
    chunks = [_gemini(f"part {number}", usage, model) for number, usage in enumerate(usages)]
    return Response(sse(*map(json.dumps, chunks)), content_type=STREAM)


def image_usage(text: int, image: int, generated: int) -> dict[str, Any]:
    """Return the usage of an OpenAI image model: tokens of text and of images, and generated tokens."""
    return {
        "input_tokens": text + image,
        "input_tokens_details": {"text_tokens": text, "image_tokens": image},
        "output_tokens": generated,
        "total_tokens": text + image + generated,
    }


def grounded(model: str, *queries: str) -> dict[str, Any]:
    """Return a Gemini response that searched the web: 1000 input and 100 output tokens."""
    return {
        "candidates": [
            {
                "content": {"parts": [{"text": "Seven."}], "role": "model"},
                "groundingMetadata": {"webSearchQueries": queries},
            }
        ],
        "modelVersion": model,
        "usageMetadata": {"promptTokenCount": 1000, "candidatesTokenCount": 100, "totalTokenCount": 1100},
    }
