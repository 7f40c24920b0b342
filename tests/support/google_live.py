"""Clients and messages of Google's Live API."""

from __future__ import annotations

from typing import Any

from google import genai
from google.genai import types

import llm_exporter
from support.sockets import SOUND, SocketServer, Step


def live_usage(prompt: int, spoken: int, thoughts: int) -> dict[str, Any]:
    return {
        "promptTokenCount": prompt,
        "responseTokenCount": spoken,
        "thoughtsTokenCount": thoughts,
        "totalTokenCount": prompt + spoken + thoughts,
        "promptTokensDetails": [
            {"modality": "TEXT", "tokenCount": 100},
            {"modality": "AUDIO", "tokenCount": prompt - 100},
        ],
        "responseTokensDetails": [{"modality": "AUDIO", "tokenCount": spoken}],
    }


def turn(*parts: dict[str, Any]) -> dict[str, Any]:
    return {"serverContent": {"modelTurn": {"parts": list(parts)}}}


SETUP: Step = {"setupComplete": {}}
SPOKEN = {"inlineData": {"mimeType": "audio/pcm;rate=24000", "data": SOUND}}
TURN: list[Step] = [
    {"serverContent": {"inputTranscription": {"text": "How many?"}}},
    turn(SPOKEN),
    turn(SPOKEN),
    {"serverContent": {"outputTranscription": {"text": "Seven."}}},
    {"serverContent": {"generationComplete": True}},
    {"serverContent": {"turnComplete": True}, "usageMetadata": live_usage(600, 150, 40)},
]


def google(sockets: SocketServer) -> genai.Client:
    """Return a client of a gateway, the only kind of client that works without TLS."""
    url = sockets.url.replace("http:", "ws:")
    client = genai.Client(vertexai=True, http_options=types.HttpOptions(base_url=url))
    client._api_client._websocket_ssl_ctx = {}
    return client


def live_client(sockets: SocketServer) -> genai.Client:
    return llm_exporter.instrument(google(sockets))
