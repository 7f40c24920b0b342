"""Measure the overhead of our taps on a call, with the real SDKs and an in-memory transport.

The results include the work of our worker thread, which with real calls runs while the caller waits for the
network.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from functools import partial
from statistics import median
from typing import Any

import anthropic
import httpx2
import openai
from google import genai

import llm_exporter
from llm_exporter.client.default import pipeline

from .compared import Row, alternate, microseconds, overhead, repeat

CALLS = 200
CHUNKS = 2000
TURNS = 15

PROMPT: Any = [{"role": "user", "content": "Hello"}]


def _json_transport(body: Any) -> Any:
    content = json.dumps(body).encode()
    headers = {"content-type": "application/json"}
    return httpx2.MockTransport(lambda _: httpx2.Response(200, headers=headers, content=content))


def _stream_transport(events: list[Any], *, named: bool = False) -> Any:
    chunks = [
        (f"event: {event['type']}\n" if named else "").encode()
        + b"data: "
        + json.dumps(event).encode()
        + b"\n\n"
        for event in events
    ]
    headers = {"content-type": "text/event-stream"}
    return httpx2.MockTransport(lambda _: httpx2.Response(200, headers=headers, content=iter(chunks)))


def _openai(transport: Any) -> openai.OpenAI:
    return openai.OpenAI(api_key="k", http_client=openai.DefaultHttpxClient(transport=transport))


def _anthropic(transport: Any) -> anthropic.Anthropic:
    return anthropic.Anthropic(api_key="k", http_client=anthropic.DefaultHttpxClient(transport=transport))


def _google(transport: Any) -> genai.Client:
    return genai.Client(api_key="k", vertexai=False, http_options={"client_args": {"transport": transport}})


def _chat(client: openai.OpenAI) -> None:
    client.chat.completions.create(model="gpt-4o", messages=PROMPT)


def _message(client: anthropic.Anthropic) -> None:
    client.messages.create(model="claude-sonnet-4-6", max_tokens=99, messages=PROMPT)


def _generate(client: genai.Client) -> None:
    client.models.generate_content(model="gemini-2.5-pro", contents="Hello")


def _chat_stream(client: openai.OpenAI) -> None:
    for _ in client.chat.completions.create(model="gpt-4o", messages=PROMPT, stream=True):
        pass


def _message_stream(client: anthropic.Anthropic) -> None:
    for _ in client.messages.create(model="claude-sonnet-4-6", max_tokens=99, messages=PROMPT, stream=True):
        pass


_CHAT_USAGE = {
    "prompt_tokens": 1200,
    "completion_tokens": 300,
    "total_tokens": 1500,
    "prompt_tokens_details": {"cached_tokens": 1024},
}
_CHAT = {"id": "chatcmpl-1", "created": 1, "model": "gpt-4o-2024-08-06"}
_MESSAGE = {
    "id": "msg_1",
    "type": "message",
    "role": "assistant",
    "model": "claude-sonnet-4-6",
    "content": [],
    "usage": {"input_tokens": 50, "output_tokens": 400},
}


def _chat_events() -> list[Any]:
    choice = {"index": 0, "delta": {"content": " word"}, "finish_reason": None}
    chunk = {**_CHAT, "object": "chat.completion.chunk", "choices": [choice], "usage": None}
    return [*([chunk] * CHUNKS), {**chunk, "choices": [], "usage": _CHAT_USAGE}]


def _message_events() -> list[Any]:
    delta = {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": " word"}}
    return [
        {"type": "message_start", "message": _MESSAGE},
        {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
        *([delta] * CHUNKS),
        {"type": "content_block_stop", "index": 0},
        {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 400}},
        {"type": "message_stop"},
    ]


def _plain_calls() -> Iterator[tuple[str, Callable[[], Any], Callable[[Any], None]]]:
    choice = {"index": 0, "message": {"role": "assistant", "content": "Hello"}, "finish_reason": "stop"}
    chat = _json_transport({**_CHAT, "object": "chat.completion", "choices": [choice], "usage": _CHAT_USAGE})
    yield "openai", lambda: _openai(chat), _chat
    message = _json_transport({**_MESSAGE, "content": [{"type": "text", "text": "Hello"}]})
    yield "anthropic", lambda: _anthropic(message), _message
    candidate = {"content": {"role": "model", "parts": [{"text": "Hello"}]}, "finishReason": "STOP"}
    usage = {"promptTokenCount": 1000, "candidatesTokenCount": 200, "totalTokenCount": 1200}
    generated = _json_transport({"candidates": [candidate], "usageMetadata": usage})
    yield "google-genai", lambda: _google(generated), _generate


def _streams() -> Iterator[tuple[str, Callable[[], Any], Callable[[Any], None]]]:
    chat = _stream_transport(_chat_events())
    yield "openai", lambda: _openai(chat), _chat_stream
    message = _stream_transport(_message_events(), named=True)
    yield "anthropic", lambda: _anthropic(message), _message_stream


def _run_tapped(call: Callable[[Any], None], number: int, client: Any) -> None:
    repeat(call, number, client)()
    pipeline().flush()


def rows() -> Iterator[Row]:
    """Yield a row for a call and for a streamed chunk of each SDK."""
    for sdk, client, call in _plain_calls():
        plain, tapped = alternate(
            repeat(call, CALLS, client()),
            partial(_run_tapped, call, CALLS, llm_exporter.instrument(client())),
            turns=TURNS,
        )
        more = microseconds(overhead(plain, tapped, CALLS))
        yield Row(f"one call, {sdk}", microseconds(median(plain) / CALLS), f"+ {more}", "+ 15 µs")
    for sdk, client, call in _streams():
        plain, tapped = alternate(
            repeat(call, 1, client()),
            partial(_run_tapped, call, 1, llm_exporter.instrument(client())),
            turns=TURNS,
        )
        more = microseconds(overhead(plain, tapped, CHUNKS))
        yield Row(
            f"one streamed chunk, {sdk}",
            microseconds(median(plain) / CHUNKS),
            f"+ {more}",
            "+ 0.5 µs",
        )
