"""Streams of OpenAI's chat completions and responses, and what their readers read from them."""

from __future__ import annotations

import json
from typing import Any

from llm_exporter.wire.framing import framing_for
from llm_exporter.wire.reader import Reader, Reading

Json = dict[str, Any]


def read(reader: Reader, *events: Json | str) -> Reading:
    """Return the reading of a stream of these events; a string is a raw line."""
    lines = [event if isinstance(event, str) else f"data: {json.dumps(event)}" for event in events]
    framing = framing_for("text/event-stream", b"data:", reader)
    for line in lines:
        framing.feed(f"{line}\n\n".encode())
    framing.end()
    return reader.reading


def chunk(delta: Json | None = None, **fields: Any) -> Json:
    """Return a chunk of a chat completion; without a delta it has no choices."""
    choices = [] if delta is None else [{"index": 0, "delta": delta, "finish_reason": None}]
    head = {"id": "chatcmpl-t", "object": "chat.completion.chunk", "model": "gpt-t-2030"}
    return {**head, "choices": choices, **fields}


SMALL = {"prompt_tokens": 12, "completion_tokens": 5, "total_tokens": 17}
SMALL_TOKENS = {"input": 12, "output": 5}
TALK = 'It contains "usage": {"prompt_tokens": 999, "completion_tokens": 999} and "error": {"code": 500}.'
"""Generated text that mentions usage and an error."""
