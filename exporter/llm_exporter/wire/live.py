"""Google's Live API: https://ai.google.dev/api/live."""

from __future__ import annotations

from typing import Any, ClassVar, Final

import msgspec

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

_ASKS: Final = tuple(
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
"""Client messages that the model answers: https://ai.google.dev/api/live#client-messages."""

_TELLING: Final = (b"usageMetadata", b"turnComplete", b"text")


class LiveReader(TurnReader):
    """One turn of the model. Its counts are its own, the whole context included: they do not add up.

    https://ai.google.dev/api/live#usagemetadata. Where several messages of a turn have them, the last holds.
    """

    operation: ClassVar[str] = "live"

    def read_body(self, data: bytes) -> None:
        """Read a message."""
        self.read_event(data)

    def read_event(self, data: bytes) -> None:
        """Read a message."""
        message = _decode(data)
        content = message.server_content or _Content()
        for part in sequence(mapping(content.model_turn).get("parts")):
            self.note_generated(_generated(mapping(part)))
        self.note_generated(mapping(content.output_transcription).get("text"))
        self.note_generated(message.tool_call)
        if usage := mapping(message.usage_metadata):
            self.reading.service_tier = tier_of(usage) or self.reading.service_tier
            self.reading.tokens = tokens_of(_as_of_an_answer(usage))


def _generated(part: Json) -> Json:
    """Return what a part adds to the answer; under the name `data` what is no text."""
    said = part.get("text")
    return {"text": said} if said else {"data": part} if part else {}


def _as_of_an_answer(usage: Json) -> Json:
    """Return the usage with the names that generateContent's has for what was generated."""
    names = {"responseTokenCount": "candidatesTokenCount", "responseTokensDetails": "candidatesTokensDetails"}
    return {names.get(name, name): value for name, value in usage.items()}


class LiveConversation(Conversation):
    """A Live session, in which the model has one turn after the other."""

    def __init__(self, model: str) -> None:
        super().__init__(model.rpartition("/")[2])
        self._speaking = False

    def parse_received(self, message: bytes) -> CallMessage | None:
        """See `Conversation.parse_received`: sound is passed over, but for the first of a turn."""
        if self._speaking:
            # Several times faster than to search the whole message: sound is one string, without quotes.
            names = message.split(b'"')
            if not any(name in names for name in _TELLING):
                return None
        found = _decode(message)
        content = found.server_content or _Content()
        says = bool(content.model_turn or content.output_transcription or found.tool_call)
        ends = content.turn_complete is True
        if not (says or ends or found.usage_metadata):
            return None
        self._speaking = (says or self._speaking) and not ends
        return CallMessage(
            "",
            LiveReader,
            self._requested_model,
            self._requested_model,
            starts=says or bool(found.usage_metadata),
            ends=ends,
        )

    def parse_sent(self, message: bytes) -> GenerationRequest | None:
        """See `Conversation.parse_sent`."""
        return (
            GenerationRequest(LiveReader, self._requested_model)
            if any(name in message for name in _ASKS)
            else None
        )
