"""Google's Live API: https://ai.google.dev/api/live."""

from __future__ import annotations

from typing import Any, Final

import msgspec
from typing_extensions import override

from .conversation import CallMessage, Conversation, GenerationRequest, TurnReader
from .fields import Json, decoder, mapping, sequence
from .gemini import tier_of, tokens_of


class _Content(msgspec.Struct, rename="camel"):
    model_turn: Any = None
    output_transcription: Any = None
    turn_complete: Any = None


class _Message(msgspec.Struct, rename="camel"):
    server_content: _Content | None = None
    tool_call: Any = None
    usage_metadata: Any = None


_decode: Final = decoder(_Message)

_REQUESTS: Final = tuple(
    f'"{name}"'.encode()
    for name in (
        "client_content",
        "clientContent",
        "realtime_input",
        "realtimeInput",
        "tool_response",
        "toolResponse",
    )
)
"""Client messages that make the model generate: https://ai.google.dev/api/live#client-messages."""

_RELEVANT: Final = (b"usageMetadata", b"turnComplete", b"text")


class LiveReader(TurnReader):
    """One turn of the model.

    Each turn reports its own counts, which include the whole context. If several messages of a turn have
    counts, only the last ones matter: https://ai.google.dev/api/live#usagemetadata.
    """

    operation = "live"

    @override
    def read_body(self, data: bytes) -> None:
        self.read_event(data)

    @override
    def read_event(self, data: bytes) -> None:
        message = _decode(data)
        content = message.server_content or _Content()
        for part in sequence(mapping(content.model_turn).get("parts")):
            self.note_generated(_generated(mapping(part)))
        self.note_generated(mapping(content.output_transcription).get("text"))
        self.note_generated(message.tool_call)
        if usage := mapping(message.usage_metadata):
            self.reading.service_tier = tier_of(usage) or self.reading.service_tier
            self.reading.tokens = tokens_of(_renamed(usage))


def _generated(part: Json) -> Json:
    """Return the generated content of a part, under `text` or, if it is not text, under `data`."""
    content = part.get("text")
    return {"text": content} if content else {"data": part} if part else {}


def _renamed(usage: Json) -> Json:
    """Return the usage with generateContent's field names for the generated tokens."""
    names = {"responseTokenCount": "candidatesTokenCount", "responseTokensDetails": "candidatesTokensDetails"}
    return {names.get(name, name): value for name, value in usage.items()}


class LiveConversation(Conversation):
    """A Live session, in which the model takes one turn after another."""

    def __init__(self, model: str) -> None:
        super().__init__(model.rpartition("/")[2])
        self._speaking = False

    @override
    def parse_received(self, message: bytes) -> CallMessage | None:
        if self._speaking:
            # Skip audio after the first of a turn. Splitting is several times faster than searching for each
            # name, because audio is one long string without quotes.
            names = message.split(b'"')
            if not any(name in names for name in _RELEVANT):
                return None
        found = _decode(message)
        content = found.server_content or _Content()
        generates = bool(content.model_turn or content.output_transcription or found.tool_call)
        ends = content.turn_complete is True
        if not (generates or ends or found.usage_metadata):
            return None
        self._speaking = (generates or self._speaking) and not ends
        model = self._requested_model
        starts = generates or bool(found.usage_metadata)
        return CallMessage("", LiveReader, model, model, starts=starts, ends=ends)

    @override
    def parse_sent(self, message: bytes) -> GenerationRequest | None:
        requests = any(name in message for name in _REQUESTS)
        return GenerationRequest(LiveReader, self._requested_model) if requests else None
