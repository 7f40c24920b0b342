"""OpenAI's WebSocket APIs: the Realtime API, and the Responses API in WebSocket mode.

https://platform.openai.com/docs/api-reference/realtime-server-events,
https://platform.openai.com/docs/guides/websocket-mode.
"""

from __future__ import annotations

import re
from typing import Any, Final

import msgspec
from typing_extensions import override

from .conversation import CallMessage, Conversation, GenerationRequest, TurnReader
from .fields import Json, decoder, mapping, text
from .media import TranscriptionReader
from .openai_responses import ResponsesReader
from .openai_usage import tokens_of

_AUDIO: Final = re.compile(rb'"type"\s*:\s*"response\.(?:output_)?audio\.delta"')
_HEAD: Final = 256
"""Bytes at the start of an event that are searched for its type."""

_REQUESTS: Final = (b'"response.create"', b'"input_audio_buffer.append"')
"""Client events that make the provider generate. Inside a text their quotes would be escaped."""

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

    A cancelled response is not an error: usually the user interrupted it, and it is billed. Nor is an
    incomplete one.
    """

    operation = "realtime"

    @override
    def read_body(self, data: bytes) -> None:
        part = _decode_response(data)
        if part.status == "failed":
            self.reading.error = _reason(mapping(mapping(part.status_details).get("error")))
        if usage := mapping(part.usage):
            self.reading.tokens = tokens_of(usage)

    @override
    def read_event(self, data: bytes) -> None:
        event = _decode_event(data)
        kind = text(event.type)
        if kind.endswith("audio.delta"):
            self.note_generated({"data": event.delta})  # audio is not text
        elif kind.endswith(".delta"):
            self.note_generated(event.delta)
        elif kind == "response.done":
            self.read_body(bytes(event.response))


def _reason(error: Json) -> str:
    """Return the code and type of an error, either of which may determine its kind."""
    return " ".join(filter(None, (text(error.get("code")), text(error.get("type"))))) or "failed"


class InputTranscriptionReader(TurnReader, TranscriptionReader):
    """The transcription of the user's speech, which is billed separately, by another model."""


class RealtimeConversation(Conversation):
    """A Realtime session.

    Only the session events name the models of responses and transcriptions.
    """

    def __init__(self, model: str) -> None:
        super().__init__(model)
        self._model = model
        self._transcription_model = ""
        self._without_token: set[str] = set()
        """Ids of the responses whose first token has not arrived."""

    @override
    def parse_received(self, message: bytes) -> CallMessage | None:
        # Audio is skipped, except for the first of a response.
        if not self._without_token and _AUDIO.search(message, 0, _HEAD):
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
            self._without_token.discard(key)
            return CallMessage(key, RealtimeReader)
        return None

    @override
    def parse_sent(self, message: bytes) -> GenerationRequest | None:
        requests = any(event in message for event in _REQUESTS)
        return GenerationRequest(RealtimeReader, self._requested_model or self._model) if requests else None

    def _response(self, kind: str, key: str) -> CallMessage:
        starts = kind == "response.created"
        if starts:
            self._without_token.add(key)
        else:
            self._without_token.discard(key)
        requested = self._requested_model or self._model
        return CallMessage(key, RealtimeReader, requested, self._model, starts=starts, ends=not starts)

    def _configured(self, session: Json) -> None:
        self._model = text(session.get("model")) or self._model
        audio = mapping(mapping(session.get("audio")).get("input"))
        transcription = mapping(audio.get("transcription") or session.get("input_audio_transcription"))
        self._transcription_model = text(transcription.get("model")) or self._transcription_model

    def _transcription(self, kind: str, item: str) -> CallMessage:
        ended = kind.endswith((".completed", ".failed"))
        return CallMessage(
            item,
            InputTranscriptionReader,
            self._transcription_model,
            self._transcription_model,
            starts=True,
            ends=ended,
        )


class ResponseTurnReader(TurnReader, ResponsesReader):
    """One response of the Responses API."""


_ENDS: Final = frozenset({"response.completed", "response.failed", "response.incomplete", "error"})


class ResponsesConversation(Conversation):
    """The Responses API in WebSocket mode, with one response at a time in each stream.

    An error event reports a rejected request, before or after its response has started.
    """

    def __init__(self, model: str) -> None:
        super().__init__(model)
        self._model = model
        self._requested_in: dict[str, str] = {}
        """The last requested model of each stream id."""

    @override
    def parse_received(self, message: bytes) -> CallMessage | None:
        if _AUDIO.search(message, 0, _HEAD):
            return None
        head = _decode_head(message)
        kind = text(head.type)
        starts, ends = kind == "response.created", kind in _ENDS
        if starts:
            # An error names no model. It is most likely the previous one.
            self._model = text(_decode_response(bytes(head.response)).model) or self._model
        elif not ends and not kind.endswith(".delta"):
            return None
        stream = text(head.stream_id)
        return CallMessage(
            stream,
            ResponseTurnReader,
            self._requested_in.get(stream) or self._model,
            self._model,
            starts=starts or kind == "error",
            ends=ends,
        )

    @override
    def parse_sent(self, message: bytes) -> GenerationRequest | None:
        if _REQUESTS[0] not in message:
            return None
        create = _decode_create(message)
        if create.type != "response.create":
            return None
        stream = text(create.stream_id)
        model = self._requested_in[stream] = (
            text(create.model) or self._requested_in.get(stream) or self._model
        )
        return GenerationRequest(ResponseTurnReader, model)
