"""Connections to OpenAI's WebSocket APIs, and their events."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import openai
import pytest

import llm_exporter
from support.operations import OPENAI
from support.sockets import SOUND, SocketServer

KINDS = pytest.mark.parametrize("kind", ["sync", "async"])
"""Runs a test with both kinds of client."""
Connect = Callable[[Any], Any]
"""Opens a connection of a client."""


def realtime(client: Any) -> Any:
    return client.realtime.connect(model="gpt-realtime")


def responses(client: Any) -> Any:
    if not hasattr(client.responses, "connect"):
        pytest.skip("this release of openai has no responses over WebSockets")
    return client.responses.connect()


def receive(client: Any, messages: int, connect: Connect = realtime) -> list[bytes]:
    """Open a connection, receive this many messages, and close the connection and the client."""
    if isinstance(client, openai.AsyncOpenAI):
        return asyncio.run(_areceive(client, messages, connect))
    with client, connect(client) as connection:
        return [connection.recv_bytes() for _ in range(messages)]


async def _areceive(client: Any, messages: int, connect: Connect) -> list[bytes]:
    async with client, connect(client) as connection:
        return [await connection.recv_bytes() for _ in range(messages)]


def instrumented(kind: str, sockets: SocketServer) -> Any:
    return llm_exporter.instrument(OPENAI[kind](sockets.url))


def session(model: str = "gpt-realtime-2025-08-28", transcribes: str | None = None) -> dict[str, Any]:
    """Return the first event of a connection to the Realtime API."""
    transcription = {"model": transcribes, "language": "en"} if transcribes else None
    audio = {"input": {"transcription": transcription}, "output": {"voice": "marin"}}
    config = {"type": "realtime", "object": "realtime.session", "model": model, "audio": audio}
    return {"type": "session.created", "event_id": "event_1", "session": config}


def created(response: str = "resp_1") -> dict[str, Any]:
    about = {"object": "realtime.response", "id": response, "status": "in_progress", "usage": None}
    return {"type": "response.created", "event_id": "event_2", "response": about}


def delta(kind: str, said: str, response: str = "resp_1") -> dict[str, Any]:
    at = {"response_id": response, "item_id": "item_1", "output_index": 0, "content_index": 0}
    return {"type": f"response.{kind}.delta", "event_id": "event_3", **at, "delta": said}


def done(
    usage: dict[str, Any] | None, response: str = "resp_1", status: str = "completed", **more: Any
) -> dict[str, Any]:
    about = {"object": "realtime.response", "id": response, "status": status, "usage": usage, **more}
    return {"type": "response.done", "event_id": "event_4", "response": about}


USAGE = {
    "total_tokens": 1250,
    "input_tokens": 1000,
    "input_token_details": {
        "text_tokens": 400,
        "audio_tokens": 500,
        "image_tokens": 100,
        "cached_tokens": 450,
        "cached_tokens_details": {"text_tokens": 300, "audio_tokens": 100, "image_tokens": 50},
    },
    "output_tokens": 250,
    "output_token_details": {"text_tokens": 50, "audio_tokens": 200},
}
TOKENS = {
    "input": 100,
    "input_audio": 400,
    "input_image": 50,
    "cache_read": 300,
    "cache_read_audio": 100,
    "cache_read_image": 50,
    "output": 50,
    "output_audio": 200,
}
RESPONSE = [
    created(),
    delta("output_audio_transcript", "Sev"),
    delta("output_audio", SOUND),
    delta("output_audio", SOUND),
    delta("output_audio_transcript", "en."),
    done(USAGE),
]
"""A response of the Realtime API."""


def event(kind: str, lane: str | None = None, **more: Any) -> dict[str, Any]:
    """Return an event of the Responses API."""
    return {"type": kind, "sequence_number": 0, **more, **({"stream_id": lane} if lane else {})}


def of_response(
    kind: str, lane: str | None = None, usage: dict[str, Any] | None = None, **more: Any
) -> dict[str, Any]:
    """Return an event of the Responses API that contains the response."""
    about = {"id": f"resp_{lane}", "object": "response", "model": "o4-mini-2025-04-16", "usage": usage}
    return event(f"response.{kind}", lane, response={**about, "output": [], "error": None, **more})


O4_MINI = {
    "input_tokens": 500,
    "input_tokens_details": {"cached_tokens": 200},
    "output_tokens": 90,
    "output_tokens_details": {"reasoning_tokens": 64},
    "total_tokens": 590,
}
