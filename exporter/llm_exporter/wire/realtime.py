"""OpenAI's WebSockets: the Realtime API, and the Responses API in its WebSocket mode.

https://platform.openai.com/docs/api-reference/realtime-server-events,
https://platform.openai.com/docs/guides/websocket-mode.
"""

from __future__ import annotations

import re
from typing import Any, ClassVar, Final

import msgspec

from .conversation import CallMessage, Conversation, GenerationRequest, TurnReader
from .fields import Json, decoder, mapping, text
from .media import TranscriptionReader
from .openai import ResponsesReader, tokens_of

_AUDIO: Final = re.compile(rb'"type"\s*:\s*"response\.(?:output_)?audio\.delta"')
_HEAD: Final = 256
"""Bytes in which the type of an event is looked for: it stands first."""

_ASKS: Final = (b'"response.create"', b'"input_audio_buffer.append"')
"""Client events that make the provider generate; within a text the quotes would be escaped."""

_TRANSCRIPTION: Final = "conversation.item.input_audio_transcription."


class _Head(msgspec.Struct):
    type: Any = None
    response_id: Any = None
    item_id: Any = None
    stream_id: Any = None
    response: msgspec.Raw = msgspec.Raw()
    session: Any = None


class _Create(msgspec.Struct):
    type: Any = None
    model: Any = None
    stream_id: Any = None


class _Response(msgspec.Struct):
    id: Any = None
    model: Any = None
    status: Any = None
    status_details: Any = None
    usage: Any = None


class _Event(msgspec.Struct):
    type: Any = None
    response: msgspec.Raw = msgspec.Raw()
    delta: Any = None


_decode_head: Final = decoder(_Head)
_decode_create: Final = decoder(_Create)
_decode_response: Final = decoder(_Response)
_decode_event: Final = decoder(_Event)


class RealtimeReader(TurnReader):
    """One response of the Realtime API.

    A response that was cancelled, mostly because the user began to speak, is no error: it was heard as far as
    it was wanted, and it is billed. Nor is an incomplete one.
    """

    operation: ClassVar[str] = "realtime"

    def read_body(self, data: bytes) -> None:
        """Read a response object."""
        part = _decode_response(data)
        if part.status == "failed":
            self.reading.error = _reason(mapping(mapping(part.status_details).get("error")))
        if usage := mapping(part.usage):
            self.reading.tokens = tokens_of(usage)

    def read_event(self, data: bytes) -> None:
        """Read one event."""
        event = _decode_event(data)
        kind = text(event.type)
        if kind.endswith("audio.delta"):
            self.note_generated({"data": event.delta})  # sound, which is no text
        elif kind.endswith(".delta"):
            self.note_generated(event.delta)
        elif kind == "response.done":
            self.read_body(bytes(event.response))


def _reason(error: Json) -> str:
    """Return the code and type of an error: either may be the one that tells its kind."""
    return " ".join(filter(None, (text(error.get("code")), text(error.get("type"))))) or "failed"


class InputTranscriptionReader(TurnReader, TranscriptionReader):
    """The transcription of what the user said, which another model makes and bills."""


class RealtimeConversation(Conversation):
    """A Realtime session.

    Its responses do not name their model, the session's events do; the model of the transcriptions is known
    from them alone.
    """

    def __init__(self, model: str) -> None:
        super().__init__(model)
        self._model = model
        self._transcribes = ""
        self._silent: set[str] = set()
        """The responses whose first token has not come."""

    def parse_received(self, message: bytes) -> CallMessage | None:
        """See `Conversation.parse_received`: sound is passed over, but for the first of a response."""
        if not self._silent and _AUDIO.search(message, 0, _HEAD):
            return None
        head = _decode_head(message)
        kind = text(head.type)
        if kind.startswith("session."):
            self._configured(mapping(head.session))
        elif kind.startswith(_TRANSCRIPTION):
            return self._transcription(kind, text(head.item_id))
        elif kind in ("response.created", "response.done"):
            return self._response(kind, text(_decode_response(bytes(head.response)).id))
        elif kind.endswith(".delta"):
            key = text(head.response_id)
            self._silent.discard(key)
            return CallMessage(key, RealtimeReader)
        return None

    def parse_sent(self, message: bytes) -> GenerationRequest | None:
        """See `Conversation.parse_sent`."""
        asks = any(event in message for event in _ASKS)
        return GenerationRequest(RealtimeReader, self._requested_model or self._model) if asks else None

    def _response(self, kind: str, key: str) -> CallMessage:
        begins = kind == "response.created"
        if begins:
            self._silent.add(key)
        else:
            self._silent.discard(key)
        asked = self._requested_model or self._model
        return CallMessage(key, RealtimeReader, asked, self._model, starts=begins, ends=not begins)

    def _configured(self, session: Json) -> None:
        self._model = text(session.get("model")) or self._model
        audio = mapping(mapping(session.get("audio")).get("input"))
        transcription = mapping(audio.get("transcription") or session.get("input_audio_transcription"))
        self._transcribes = text(transcription.get("model")) or self._transcribes

    def _transcription(self, kind: str, item: str) -> CallMessage:
        ended = kind.endswith((".completed", ".failed"))
        return CallMessage(
            item, InputTranscriptionReader, self._transcribes, self._transcribes, starts=True, ends=ended
        )


class ResponseTurnReader(TurnReader, ResponsesReader):
    """One response of the Responses API."""


_ENDS: Final = frozenset({"response.completed", "response.failed", "response.incomplete", "error"})


class ResponsesConversation(Conversation):
    """The Responses API in WebSocket mode: one response at a time in each of its lanes.

    An error event answers a request that was refused, before or after its response began.
    """

    def __init__(self, model: str) -> None:
        super().__init__(model)
        self._model = model
        self._asked_in: dict[str, str] = {}
        """The model last asked for, by lane."""

    def parse_received(self, message: bytes) -> CallMessage | None:
        """See `Conversation.parse_received`."""
        if _AUDIO.search(message, 0, _HEAD):
            return None
        head = _decode_head(message)
        kind = text(head.type)
        begins, ends = kind == "response.created", kind in _ENDS
        if begins:
            # A refusal names no model; it is most likely the one that was asked before.
            self._model = text(_decode_response(bytes(head.response)).model) or self._model
        elif not ends and not kind.endswith(".delta"):
            return None
        lane = text(head.stream_id)
        return CallMessage(
            lane,
            ResponseTurnReader,
            self._asked_in.get(lane) or self._model,
            self._model,
            starts=begins or kind == "error",
            ends=ends,
        )

    def parse_sent(self, message: bytes) -> GenerationRequest | None:
        """See `Conversation.parse_sent`."""
        if _ASKS[0] not in message:
            return None
        create = _decode_create(message)
        if create.type != "response.create":
            return None
        lane = text(create.stream_id)
        model = self._asked_in[lane] = text(create.model) or self._asked_in.get(lane) or self._model
        return GenerationRequest(ResponseTurnReader, model)
