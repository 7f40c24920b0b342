"""OpenAI's WebSockets: the Realtime API, and the Responses API in its WebSocket mode.

https://platform.openai.com/docs/api-reference/realtime-server-events,
https://platform.openai.com/docs/guides/websocket-mode.
"""

from __future__ import annotations

import re
from typing import Any, ClassVar, Final

import msgspec

from .dialogue import Asked, Dialogue, Part, TurnReader
from .media import TranscriptionReader
from .openai import ResponsesReader, tokens_of
from .reading import Json, decoder, mapping, text

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

    def body(self, data: bytes) -> None:
        """Read a response object."""
        part = _decode_response(data)
        if part.status == "failed":
            self.reading.error = _reason(mapping(mapping(part.status_details).get("error")))
        if usage := mapping(part.usage):
            self.reading.tokens = tokens_of(usage)

    def event(self, data: bytes) -> None:
        """Read one event."""
        event = _decode_event(data)
        kind = text(event.type)
        if kind.endswith("audio.delta"):
            self.saw_token({"data": event.delta})  # sound, which is no text
        elif kind.endswith(".delta"):
            self.saw_token(event.delta)
        elif kind == "response.done":
            self.body(bytes(event.response))


def _reason(error: Json) -> str:
    """Return the code and type of an error: either may be the one that tells its kind."""
    return " ".join(filter(None, (text(error.get("code")), text(error.get("type"))))) or "failed"


class InputTranscriptionReader(TurnReader, TranscriptionReader):
    """The transcription of what the user said, which another model makes and bills."""


class RealtimeDialogue(Dialogue):
    """A Realtime session.

    Its responses do not name their model, the session's events do; the model of the transcriptions is known
    from them alone.
    """

    def __init__(self, asked: str) -> None:
        super().__init__(asked)
        self._model = asked
        self._transcribes = ""
        self._silent: set[str] = set()
        """The responses whose first token has not come."""

    def part(self, message: bytes) -> Part | None:
        """See `Dialogue.part`: sound is passed over, but for the first of a response."""
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
            return Part(key, RealtimeReader)
        return None

    def asks(self, message: bytes) -> Asked | None:
        """See `Dialogue.asks`."""
        asks = any(event in message for event in _ASKS)
        return Asked(RealtimeReader, self._asked or self._model) if asks else None

    def _response(self, kind: str, key: str) -> Part:
        begins = kind == "response.created"
        if begins:
            self._silent.add(key)
        else:
            self._silent.discard(key)
        asked = self._asked or self._model
        return Part(key, RealtimeReader, asked, self._model, begins=begins, ends=not begins)

    def _configured(self, session: Json) -> None:
        self._model = text(session.get("model")) or self._model
        audio = mapping(mapping(session.get("audio")).get("input"))
        transcription = mapping(audio.get("transcription") or session.get("input_audio_transcription"))
        self._transcribes = text(transcription.get("model")) or self._transcribes

    def _transcription(self, kind: str, item: str) -> Part:
        ended = kind.endswith((".completed", ".failed"))
        return Part(
            item, InputTranscriptionReader, self._transcribes, self._transcribes, begins=True, ends=ended
        )


class ResponseTurnReader(TurnReader, ResponsesReader):
    """One response of the Responses API."""


_ENDS: Final = frozenset({"response.completed", "response.failed", "response.incomplete", "error"})


class ResponsesDialogue(Dialogue):
    """The Responses API in WebSocket mode: one response at a time in each of its lanes.

    An error event answers a request that was refused, before or after its response began.
    """

    def __init__(self, asked: str) -> None:
        super().__init__(asked)
        self._model = asked
        self._asked_in: dict[str, str] = {}
        """The model last asked for, by lane."""

    def part(self, message: bytes) -> Part | None:
        """See `Dialogue.part`."""
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
        return Part(
            lane,
            ResponseTurnReader,
            self._asked_in.get(lane) or self._model,
            self._model,
            begins=begins or kind == "error",
            ends=ends,
        )

    def asks(self, message: bytes) -> Asked | None:
        """See `Dialogue.asks`."""
        if _ASKS[0] not in message:
            return None
        create = _decode_create(message)
        if create.type != "response.create":
            return None
        lane = text(create.stream_id)
        model = self._asked_in[lane] = text(create.model) or self._asked_in.get(lane) or self._model
        return Asked(ResponseTurnReader, model)
