"""Calls of the three SDKs, with responses of a usual size that come from memory."""

from __future__ import annotations

import asyncio
import json
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from operator import attrgetter
from typing import Any, Final

import anthropic
import httpx2
import openai
from google import genai
from httpx2 import AsyncByteStream, SyncByteStream

TEXT: Final = "The quick brown fox jumps over the lazy dog, as it has done before. " * 13
"""Makes the body of a response 1.2 to 1.5 kB long."""
PROMPT: Final = "Explain step by step how the following function works, and say what is wrong with it. " * 12

MESSAGES: Final[Any] = [{"role": "user", "content": PROMPT}]


@dataclass(frozen=True)
class SdkCall:
    """A call of an SDK."""

    name: str
    run: Callable[[int], object]
    """Makes the call a number of times, one after the other."""


# Responses


CHAT_USAGE: Final = {
    "prompt_tokens": 1200,
    "completion_tokens": 300,
    "total_tokens": 1500,
    "prompt_tokens_details": {"cached_tokens": 1024, "audio_tokens": 0},
    "completion_tokens_details": {
        "reasoning_tokens": 0,
        "audio_tokens": 0,
        "accepted_prediction_tokens": 0,
        "rejected_prediction_tokens": 0,
    },
}
CHAT: Final = {
    "id": "chatcmpl-9nYw5vHk2b1cJd3fQp7sT8uX",
    "object": "chat.completion",
    "created": 1764316800,
    "model": "gpt-4o-2024-08-06",
    "choices": [
        {
            "index": 0,
            "message": {"role": "assistant", "content": TEXT, "refusal": None, "annotations": []},
            "logprobs": None,
            "finish_reason": "stop",
        }
    ],
    "usage": CHAT_USAGE,
    "service_tier": "default",
    "system_fingerprint": "fp_50906f2aac",
}
MESSAGE_USAGE: Final = {
    "input_tokens": 176,
    "cache_creation_input_tokens": 0,
    "cache_read_input_tokens": 1024,
    "cache_creation": {"ephemeral_5m_input_tokens": 0, "ephemeral_1h_input_tokens": 0},
    "output_tokens": 300,
    "service_tier": "standard",
}
MESSAGE: Final = {
    "id": "msg_01XFDUDYJgAACzvnptvVoYEL",
    "type": "message",
    "role": "assistant",
    "model": "claude-sonnet-4-6",
    "content": [{"type": "text", "text": TEXT}],
    "stop_reason": "end_turn",
    "stop_sequence": None,
    "usage": MESSAGE_USAGE,
}
GENERATED_USAGE: Final = {
    "promptTokenCount": 1200,
    "cachedContentTokenCount": 1024,
    "candidatesTokenCount": 300,
    "thoughtsTokenCount": 64,
    "totalTokenCount": 1564,
    "promptTokensDetails": [{"modality": "TEXT", "tokenCount": 1200}],
}
GENERATED: Final = {
    "candidates": [
        {"content": {"role": "model", "parts": [{"text": TEXT}]}, "finishReason": "STOP", "index": 0}
    ],
    "usageMetadata": GENERATED_USAGE,
    "modelVersion": "gemini-2.5-pro",
    "responseId": "mX1pZ9yzB8ahkdUPv6yW4AE",
}


def chat_events(chunks: int) -> list[bytes]:
    """Return the events of a streamed chat with a number of chunks of text."""
    choice = {"index": 0, "delta": {"content": " word"}, "logprobs": None, "finish_reason": None}
    chunk: dict[str, Any] = {
        **{name: CHAT[name] for name in ("id", "created", "model", "service_tier", "system_fingerprint")},
        "object": "chat.completion.chunk",
        "choices": [choice],
        "usage": None,
        "obfuscation": "kX2p9Q",
    }
    return _events([*([chunk] * chunks), {**chunk, "choices": [], "usage": CHAT_USAGE}], end=True)


def message_events(chunks: int) -> list[bytes]:
    """Return the events of a streamed message."""
    delta = {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": " word"}}
    stop = {"stop_reason": "end_turn", "stop_sequence": None}
    return _events(
        [
            {"type": "message_start", "message": {**MESSAGE, "content": [], "stop_reason": None}},
            {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
            *([delta] * chunks),
            {"type": "content_block_stop", "index": 0},
            {"type": "message_delta", "delta": stop, "usage": MESSAGE_USAGE},
            {"type": "message_stop"},
        ],
        named=True,
    )


def generated_events(chunks: int) -> list[bytes]:
    """Return the events of a streamed generation. Each has the usage so far."""
    part = {"candidates": [{"content": {"role": "model", "parts": [{"text": " word"}]}, "index": 0}]}
    event = {**GENERATED, **part}
    return _events([*([event] * chunks), {**GENERATED, "candidates": []}])


def _events(events: Iterable[dict[str, Any]], *, named: bool = False, end: bool = False) -> list[bytes]:
    sent = [
        (f"event: {event['type']}\n" if named else "").encode()
        + f"data: {json.dumps(event, separators=(',', ':'))}\n\n".encode()
        for event in events
    ]
    return [*sent, b"data: [DONE]\n\n"] if end else sent


# Transports


class _Chunks(SyncByteStream, AsyncByteStream):
    """The body of a response that arrives in chunks, as fast as they are read."""

    def __init__(self, chunks: Sequence[bytes]) -> None:
        self._chunks = chunks

    def __iter__(self) -> Iterator[bytes]:
        return iter(self._chunks)

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for chunk in self._chunks:
            yield chunk


def whole(body: object) -> httpx2.MockTransport:
    """Return a transport that responds with a JSON body, which comes as a whole."""
    content = json.dumps(body).encode()
    headers = {"content-type": "application/json", "content-length": str(len(content))}
    return httpx2.MockTransport(lambda _: httpx2.Response(200, headers=headers, stream=_Chunks([content])))


def streamed(chunks: Sequence[bytes]) -> httpx2.MockTransport:
    """Return a transport that responds with server-sent events."""
    headers = {"content-type": "text/event-stream; charset=utf-8"}
    return httpx2.MockTransport(lambda _: httpx2.Response(200, headers=headers, stream=_Chunks(chunks)))


# Clients


def openai_client(transport: Any) -> openai.OpenAI:
    """Return a client of a transport."""
    return openai.OpenAI(api_key="k", http_client=openai.DefaultHttpxClient(transport=transport))


def async_openai_client(transport: Any) -> openai.AsyncOpenAI:
    """Return a client of a transport."""
    return openai.AsyncOpenAI(api_key="k", http_client=openai.DefaultAsyncHttpxClient(transport=transport))


def anthropic_client(transport: Any) -> anthropic.Anthropic:
    """Return a client of a transport."""
    return anthropic.Anthropic(api_key="k", http_client=anthropic.DefaultHttpxClient(transport=transport))


def async_anthropic_client(transport: Any) -> anthropic.AsyncAnthropic:
    """Return a client of a transport."""
    http = anthropic.DefaultAsyncHttpxClient(transport=transport)
    return anthropic.AsyncAnthropic(api_key="k", http_client=http)


def genai_client(transport: Any) -> genai.Client:
    """Return a client of a transport."""
    arguments = {"transport": transport}
    return genai.Client(
        api_key="k",
        vertexai=False,
        http_options={"client_args": arguments, "async_client_args": arguments},
    )


# Calls


CHAT_REQUEST: Final = {"model": "gpt-4o", "messages": MESSAGES}
MESSAGE_REQUEST: Final = {"model": "claude-sonnet-4-6", "max_tokens": 1024, "messages": MESSAGES}
GENERATION_REQUEST: Final = {"model": "gemini-2.5-pro", "contents": PROMPT}


def plain_calls(runner: asyncio.Runner) -> list[SdkCall]:
    """Return a call of each SDK, synchronous and asynchronous, whose response comes as a whole.

    Args:
        runner: runs the asynchronous calls.
    """
    chat, message, gemini = whole(CHAT), whole(MESSAGE), genai_client(whole(GENERATED))
    return [
        _call("openai", openai_client(chat), "chat.completions.create", CHAT_REQUEST),
        _async_call(runner, "openai", async_openai_client(chat), "chat.completions.create", CHAT_REQUEST),
        _call("anthropic", anthropic_client(message), "messages.create", MESSAGE_REQUEST),
        _async_call(runner, "anthropic", async_anthropic_client(message), "messages.create", MESSAGE_REQUEST),
        _call("google-genai", gemini, "models.generate_content", GENERATION_REQUEST),
        _async_call(runner, "google-genai", gemini, "aio.models.generate_content", GENERATION_REQUEST),
    ]


def streams(
    runner: asyncio.Runner, pieces: Callable[[list[bytes]], list[bytes]], chunks: int
) -> list[SdkCall]:
    """Return a streamed call of each SDK, synchronous and asynchronous.

    Args:
        runner: runs the asynchronous calls.
        pieces: returns how the events of the response arrive.
        chunks: how many chunks of text the response has.
    """
    chat, message = ({**request, "stream": True} for request in (CHAT_REQUEST, MESSAGE_REQUEST))
    chats = streamed(pieces(chat_events(chunks)))
    messages = streamed(pieces(message_events(chunks)))
    gemini = genai_client(streamed(pieces(generated_events(chunks))))
    return [
        _call("openai", openai_client(chats), "chat.completions.create", chat),
        _async_call(runner, "openai", async_openai_client(chats), "chat.completions.create", chat),
        _call("anthropic", anthropic_client(messages), "messages.create", message),
        _async_call(runner, "anthropic", async_anthropic_client(messages), "messages.create", message),
        _call("google-genai", gemini, "models.generate_content_stream", GENERATION_REQUEST),
        _async_call(runner, "google-genai", gemini, "aio.models.generate_content_stream", GENERATION_REQUEST),
    ]


def _call(name: str, client: Any, method: str, request: dict[str, Any]) -> SdkCall:
    create = attrgetter(method)

    def run(number: int) -> None:
        for _ in range(number):
            result = create(client)(**request)
            if isinstance(result, Iterator):
                deque(result, maxlen=0)

    return SdkCall(name, run)


def _async_call(
    runner: asyncio.Runner, name: str, client: Any, method: str, request: dict[str, Any]
) -> SdkCall:
    create = attrgetter(method)

    async def run(number: int) -> None:
        for _ in range(number):
            result = await create(client)(**request)
            if isinstance(result, AsyncIterator):
                async for _ in result:
                    pass

    return SdkCall(f"{name}, async", lambda number: runner.run(run(number)))
