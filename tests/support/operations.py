"""Calls through the SDKs in every wire format: streamed or not, sync or async, over every HTTP library."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from operator import attrgetter
from typing import Any

import anthropic
import httpx
import httpx2
import openai
import pytest
from google import genai
from google.genai import types
from google.oauth2.credentials import Credentials

from llm_exporter.call import TokenType
from support import payloads
from support.scripted import Response


@dataclass(frozen=True)
class Format:
    """A wire format, with a sample response, streamed or not, and its expected tokens and cost."""

    name: str
    provider: str
    operation: str
    model: str
    requested_model: str
    clients: dict[str, Callable[[str], Any]]
    """Factories of clients for a provider at a URL; clients named `async …` are asynchronous."""
    call: Callable[[Any, bool], Any]
    """Makes the call through a client, streamed if True."""
    paths: tuple[str, str]
    """The ends of the paths of non-streamed and streamed requests."""
    responses: tuple[Callable[[], Response], Callable[[], Response]]
    tokens: dict[TokenType, int]
    cost: dict[str, float]
    """In USD, worked out by hand in test_prices.py."""


@dataclass(frozen=True)
class Operation:
    """One way to call a provider through its SDK."""

    wire: Format
    kind: str
    stream: bool

    def __str__(self) -> str:
        return f"{self.wire.name} {self.kind}{' stream' if self.stream else ''}"

    @property
    def path(self) -> str:
        return self.wire.paths[self.stream]

    def response(self) -> Response:
        """Return the provider's response."""
        return self.wire.responses[self.stream]()

    def client(self, url: str) -> Any:
        """Return a client for the provider at a URL."""
        return self.wire.clients[self.kind](url)

    def run(self, client: Any) -> list[Any]:
        """Make the call, close the client, and return every object that the caller receives."""
        if self.kind.startswith("async"):
            return asyncio.run(self._arun(client))
        with client:
            result = self.wire.call(client, self.stream)
            return list(result) if self.stream else [result]

    async def _arun(self, client: Any) -> list[Any]:
        async with client.aio if isinstance(client, genai.Client) else client as opened:
            result = await self.wire.call(opened, self.stream)
            return [each async for each in result] if self.stream else [result]


def _chat(client: Any, stream: bool) -> Any:
    options: Any = {"stream": True, "stream_options": {"include_usage": True}} if stream else {}
    return client.chat.completions.create(model="gpt-4o", messages=PROMPT, **options)


def _respond(client: Any, stream: bool) -> Any:
    return client.responses.create(model="o4-mini", input="How many?", stream=stream)


def _message(client: Any, stream: bool) -> Any:
    return client.messages.create(model="claude-sonnet-4-6", max_tokens=99, messages=PROMPT, stream=stream)


def _generate(client: Any, stream: bool) -> Any:
    models = client.models
    generate = models.generate_content_stream if stream else models.generate_content
    return generate(model="gemini-2.5-pro", contents="How many?")


def _google(url: str, **options: Any) -> genai.Client:
    http = types.HttpOptions(base_url=url, **options)
    return genai.Client(api_key="k", vertexai=False, http_options=http)


def _google_on_httpx2(url: str) -> genai.Client:
    if genai.__version__.startswith(("1.", "2.")):
        pytest.skip("google-genai supports httpx2 transports since 3.0")
    return _google(url, async_client_args={"transport": httpx2.AsyncHTTPTransport()})


def _openai(url: str) -> dict[str, Any]:
    # Old releases use encrypted WebSockets by default.
    sockets = url.replace("http:", "ws:") + "/v1"
    return {"base_url": url + "/v1", "websocket_base_url": sockets, "api_key": "k"}


PROMPT = [{"role": "user", "content": "How many?"}]
OPENAI: dict[str, Callable[[str], Any]] = {
    "sync": lambda url: openai.OpenAI(**_openai(url)),
    "async": lambda url: openai.AsyncOpenAI(**_openai(url)),
}
ANTHROPIC: dict[str, Callable[[str], Any]] = {
    "sync": lambda url: anthropic.Anthropic(base_url=url, api_key="k"),
    "async": lambda url: anthropic.AsyncAnthropic(base_url=url, api_key="k"),
}
GOOGLE: dict[str, Callable[[str], Any]] = {
    "sync": _google,
    "sync httpx": lambda url: _google(url, client_args={"transport": httpx.HTTPTransport()}),
    "async aiohttp": _google,
    "async httpx": lambda url: _google(url, async_client_args={"transport": httpx.AsyncHTTPTransport()}),
    "async httpx2": _google_on_httpx2,
}


def vertex(url: str) -> genai.Client:
    """Return a client for Vertex AI at a URL."""
    return genai.Client(
        vertexai=True,
        project="p",
        location="us-central1",
        credentials=Credentials(token="t"),  # type: ignore[no-untyped-call]
        http_options=types.HttpOptions(base_url=url),
    )


def require(client: Any, method: str) -> Any:
    """Return a client's resource or method; skip the test if this release of the SDK does not have it."""
    try:
        return attrgetter(method)(client)
    except AttributeError:
        pytest.skip(f"this release of the SDK has no {method}")


_CHAT_USAGE = {
    "prompt_tokens": 1200,
    "completion_tokens": 300,
    "total_tokens": 1500,
    "prompt_tokens_details": {"cached_tokens": 1024},
}
_RESPONSE_USAGE = {
    "input_tokens": 500,
    "input_tokens_details": {"cached_tokens": 0},
    "output_tokens": 900,
    "output_tokens_details": {"reasoning_tokens": 640},
    "total_tokens": 1400,
}
_MESSAGE_USAGE = {
    "input_tokens": 50,
    "cache_read_input_tokens": 10_000,
    "cache_creation_input_tokens": 3_000,
    "cache_creation": {"ephemeral_5m_input_tokens": 2_000, "ephemeral_1h_input_tokens": 1_000},
    "output_tokens": 400,
    "service_tier": "standard",
}
_GEMINI_USAGE = {
    "promptTokenCount": 1000,
    "candidatesTokenCount": 200,
    "thoughtsTokenCount": 1300,
    "totalTokenCount": 2500,
}

CHAT = Format(
    name="chat",
    provider="openai",
    operation="chat",
    requested_model="gpt-4o",
    model="gpt-4o-2024-08-06",
    clients=OPENAI,
    call=_chat,
    paths=("/v1/chat/completions", "/v1/chat/completions"),
    responses=(lambda: payloads.chat(_CHAT_USAGE), lambda: payloads.chat_stream(_CHAT_USAGE)),
    tokens={"input": 176, "cache_read": 1024, "output": 300},
    cost={"input": 0.00044, "cache_read": 0.00128, "output": 0.003},
)
RESPONSES = Format(
    name="responses",
    provider="openai",
    operation="chat",
    requested_model="o4-mini",
    model="o4-mini-2025-04-16",
    clients=OPENAI,
    call=_respond,
    paths=("/v1/responses", "/v1/responses"),
    responses=(lambda: payloads.response(_RESPONSE_USAGE), lambda: payloads.response_stream(_RESPONSE_USAGE)),
    tokens={"input": 500, "output": 260, "reasoning": 640},
    cost={"input": 0.00055, "output": 0.001144, "reasoning": 0.002816},
)
MESSAGES = Format(
    name="messages",
    provider="anthropic",
    operation="chat",
    requested_model="claude-sonnet-4-6",
    model="claude-sonnet-4-6",
    clients=ANTHROPIC,
    call=_message,
    paths=("/v1/messages", "/v1/messages"),
    responses=(
        lambda: payloads.message(_MESSAGE_USAGE),
        lambda: payloads.message_stream({**_MESSAGE_USAGE, "output_tokens": 2}, {"output_tokens": 400}),
    ),
    tokens={
        "input": 50,
        "cache_read": 10_000,
        "cache_write": 2_000,
        "cache_write_1h": 1_000,
        "output": 400,
    },
    cost={
        "input": 0.00015,
        "cache_read": 0.003,
        "cache_write": 0.0075,
        "cache_write_1h": 0.006,
        "output": 0.006,
    },
)
GEMINI = Format(
    name="gemini",
    provider="google",
    operation="generate_content",
    requested_model="gemini-2.5-pro",
    model="gemini-2.5-pro",
    clients=GOOGLE,
    call=_generate,
    paths=(":generateContent", ":streamGenerateContent"),
    responses=(
        lambda: payloads.gemini(_GEMINI_USAGE),
        lambda: payloads.gemini_stream(
            [{"promptTokenCount": 1000}, {**_GEMINI_USAGE, "candidatesTokenCount": 90}, _GEMINI_USAGE]
        ),
    ),
    tokens={"input": 1000, "output": 200, "reasoning": 1300},
    cost={"input": 0.00125, "output": 0.002, "reasoning": 0.013},
)

OPERATIONS = [
    Operation(wire, kind, stream)
    for wire in (CHAT, RESPONSES, MESSAGES, GEMINI)
    for kind in wire.clients
    for stream in (False, True)
]
STREAMS = [operation for operation in OPERATIONS if operation.stream]
