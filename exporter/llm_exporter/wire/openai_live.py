"""OpenAI's Live API and live translation, over WebSockets.

A session of the Live API is billed by its duration, and reports it. The responses and decisions that it
delegates to other models are billed separately. A translation is billed by its duration too, but does not
report it. Sources: https://developers.openai.com/api/docs/guides/voice-latency-cost,
https://developers.openai.com/api/docs/models/gpt-realtime-translate.
"""

from __future__ import annotations

import re
from typing import Any, ClassVar, Final

import msgspec
from typing_extensions import override

from .conversation import CallMessage, Conversation, GenerationRequest, TurnReader
from .fields import amount, decoder, mapping, text
from .openai import DecisionReader
from .openai_responses import ResponsesReader

_AUDIO: Final = re.compile(rb'"type"\s*:\s*"session\.output_audio\.delta"')
_HEAD: Final = 256
"""Bytes at the start of an event that are searched for its type."""
_SESSION: Final = "session"
"""The key of the call that is the session itself."""
_RESPONSE_ENDS: Final = frozenset({"response.completed", "response.failed", "response.incomplete", "error"})


class _Event(msgspec.Struct):
    type: Any = None
    event_id: Any = None
    delegation_id: Any = None
    session: Any = None
    usage: Any = None
    event: msgspec.Raw = msgspec.Raw()


class _Nested(msgspec.Struct):
    type: Any = None
    decision: msgspec.Raw = msgspec.Raw()


_decode: Final = decoder(_Event)
_decode_nested: Final = decoder(_Nested)


class SessionReader(TurnReader):
    """A session of the Live API. Each report of its duration includes the earlier ones."""

    operation = "live"

    @override
    def read_body(self, data: bytes) -> None:
        self.read_event(data)

    @override
    def read_event(self, data: bytes) -> None:
        event, reading = _decode(data), self.reading
        session = mapping(event.session)
        reading.response_id = text(session.get("id")) or reading.response_id
        reading.model = text(session.get("model")) or reading.model
        if (seconds := amount(mapping(event.usage).get("seconds"))) is not None:
            reading.tokens = {}
            reading.units = {"input_audio_seconds": seconds}


class DelegatedResponseReader(TurnReader, ResponsesReader):
    """A response that a session has delegated to another model."""

    @override
    def read_event(self, data: bytes) -> None:
        super().read_event(bytes(_decode(data).event))


class DelegatedDecisionReader(TurnReader, DecisionReader):
    """A decision that a session has delegated to another model, in one event."""

    @override
    def read_event(self, data: bytes) -> None:
        event = _decode(data)
        self.reading.response_id = text(event.event_id)
        self.read_body(bytes(_decode_nested(bytes(event.event)).decision))


class ObservedSessionReader(SessionReader):
    """A session that another connection has started."""

    is_retrieval = True


class ObservedResponseReader(DelegatedResponseReader):
    """A response delegated by a session that another connection has started."""

    is_retrieval = True


class ObservedDecisionReader(DelegatedDecisionReader):
    """A decision delegated by a session that another connection has started."""

    is_retrieval = True


class LiveConversation(Conversation):
    """A session of the Live API and what it delegates."""

    session_reader: ClassVar[type[TurnReader]] = SessionReader
    response_reader: ClassVar[type[TurnReader]] = DelegatedResponseReader
    decision_reader: ClassVar[type[TurnReader]] = DelegatedDecisionReader

    def __init__(self, model: str) -> None:
        super().__init__(model)
        self._model = model

    @override
    def parse_received(self, message: bytes) -> CallMessage | None:
        if _AUDIO.search(message, 0, _HEAD):
            return None
        event = _decode(message)
        kind = text(event.type)
        if kind in ("session.started", "session.usage.updated", "session.closed"):
            self._model = text(mapping(event.session).get("model")) or self._model
            ends = kind == "session.closed"
            return CallMessage(
                _SESSION, self.session_reader, self._model, self._model, starts=True, ends=ends
            )
        if kind == "response.event":
            return self._response(text(event.delegation_id), text(_decode_nested(bytes(event.event)).type))
        if kind == "decision.event":
            key = f"decision {text(event.event_id)}"
            return CallMessage(key, self.decision_reader, starts=True, ends=True)
        return None

    def _response(self, delegation: str, kind: str) -> CallMessage | None:
        starts, ends = kind == "response.created", kind in _RESPONSE_ENDS
        if not starts and not ends and not kind.endswith(".delta"):
            return None
        # An observer may connect after the response was created.
        return CallMessage(f"response {delegation}", self.response_reader, starts=starts or ends, ends=ends)

    @override
    def parse_sent(self, message: bytes) -> GenerationRequest | None:
        if b'"session.start"' not in message:
            return None
        model = text(mapping(_decode(message).session).get("model"))
        return GenerationRequest(self.session_reader, model or self._model)


class SidebandConversation(LiveConversation):
    """A connection to a session that was started elsewhere, such as in a browser."""

    session_reader = ObservedSessionReader
    response_reader = ObservedResponseReader
    decision_reader = ObservedDecisionReader


class TranslationSessionReader(TurnReader):
    """A live translation. It does not report what is billed."""

    operation = "translation"
    is_text = False

    @override
    def read_body(self, data: bytes) -> None:
        pass

    @override
    def read_event(self, data: bytes) -> None:
        pass


class TranslationConversation(Conversation):
    """A session of live translation, which is one call."""

    @override
    def parse_received(self, message: bytes) -> CallMessage | None:
        if _AUDIO.search(message, 0, _HEAD):
            return None
        event = _decode(message)
        starts, ends = event.type == "session.created", event.type == "session.closed"
        if not starts and not ends:
            return None
        model = text(mapping(event.session).get("model")) or self._requested_model
        requested = self._requested_model or model
        return CallMessage(_SESSION, TranslationSessionReader, requested, model, starts=starts, ends=ends)

    @override
    def parse_sent(self, message: bytes) -> GenerationRequest | None:
        requests = b'"session.input_audio_buffer.append"' in message
        return GenerationRequest(TranslationSessionReader, self._requested_model) if requests else None
