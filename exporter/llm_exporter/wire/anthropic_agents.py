"""Anthropic's managed agents: sessions and dreams.

Sessions: https://platform.claude.com/docs/en/api/beta/sessions. Dreams:
https://platform.claude.com/docs/en/managed-agents/dreams.
"""

from __future__ import annotations

import re
from typing import Any, Final

import msgspec
from typing_extensions import override

from .anthropic import tokens_of
from .fields import Json, amount, count, decoder, error_code, mapping, text
from .reader import Reader, Reading

_SESSION: Final = re.compile(r"/sessions/([^/?]+)")


class _Session(msgspec.Struct):
    id: Any = None
    type: Any = None
    status: Any = None
    archived_at: Any = None
    agent: Any = None
    usage: Any = None
    error: Any = None
    session_id: Any = None


_decode: Final = decoder(_Session)


class SessionReader(Reader):
    """A new session. Its responses report what it has used so far."""

    operation = "invoke_agent"
    is_running_total = True

    @override
    def may_carry_usage(self, data: bytes) -> bool:
        return b'"session.usage"' in data or b'"error"' in data

    @override
    def read_body(self, data: bytes) -> None:
        session = _decode(data)
        reading = self.reading
        reading.error = error_code(session.error) or reading.error
        if session.type != "session":
            return
        reading.response_id = text(session.id)
        reading.pending = session.status != "terminated" and session.archived_at is None
        model = mapping(mapping(session.agent).get("model"))
        reading.model = text(model.get("id")) or reading.model
        reading.speed = text(model.get("speed")) or None
        reading.region = text(model.get("inference_geo"))
        _read_usage(mapping(session.usage), reading)

    @override
    def read_event(self, data: bytes) -> None:
        self.read_body(data)


class RetrievedSessionReader(SessionReader):
    """A session that an earlier request created."""

    is_retrieval = True


class SessionEventsReader(SessionReader):
    """The events of a session while it runs, some of which report what it has used so far."""

    is_retrieval = True

    @override
    def read_url(self, url: str) -> None:
        if found := _SESSION.search(url):
            self.reading.response_id = found[1]

    @override
    def read_event(self, data: bytes) -> None:
        if not self.may_carry_usage(data):
            return
        event = _decode(data)
        if event.type == "session.usage":
            self.reading.pending = True
            _read_usage(mapping(event.usage), self.reading)


class SessionInputReader(Reader):
    """A request that makes a session run. The session reports its usage when it is retrieved."""

    operation = "invoke_agent"

    @override
    def read_url(self, url: str) -> None:
        if found := _SESSION.search(url):
            self.reading.response_id = found[1]

    @override
    def may_carry_usage(self, data: bytes) -> bool:
        return True

    @override
    def read_body(self, data: bytes) -> None:
        response = _decode(data)
        self.reading.error = error_code(response.error)
        self.reading.response_id = text(response.session_id) or self.reading.response_id
        self.reading.pending = not self.reading.error

    @override
    def read_event(self, data: bytes) -> None:
        self.read_body(data)


class _Dream(msgspec.Struct):
    id: Any = None
    type: Any = None
    status: Any = None
    model: Any = None
    usage: Any = None
    error: Any = None


_decode_dream: Final = decoder(_Dream)


class DreamReader(Reader):
    """A new dream, a job that reorganizes a memory store."""

    operation = "invoke_agent"

    @override
    def may_carry_usage(self, data: bytes) -> bool:
        return True

    @override
    def read_body(self, data: bytes) -> None:
        dream = _decode_dream(data)
        reading = self.reading
        reading.error = error_code(dream.error)
        if dream.type != "dream":
            return
        reading.response_id = text(dream.id)
        reading.pending = dream.status in ("pending", "running")
        model = mapping(dream.model)
        reading.model = text(model.get("id")) or reading.model
        reading.speed = text(model.get("speed")) or None
        if usage := mapping(dream.usage):
            reading.tokens = tokens_of(usage)

    @override
    def read_event(self, data: bytes) -> None:
        self.read_body(data)


class RetrievedDreamReader(DreamReader):
    """A dream that an earlier request created."""

    is_retrieval = True


def _read_usage(usage: Json, reading: Reading) -> None:
    """Read what a session has used so far: tokens, the time in which it ran, searches and the list price."""
    if not usage:
        return
    reading.tokens = tokens_of(usage)
    units = {
        "agent_seconds": amount(usage.get("active_seconds")) or 0,
        "web_searches": count(mapping(usage.get("server_tool_use")).get("web_search_requests")),
    }
    reading.units = {unit: number for unit, number in units.items() if number}
    cost = mapping(usage.get("list_cost"))
    cents = text(cost.get("amount"))
    if cost.get("currency") == "USD" and cents.isdecimal() and len(cents) <= 12:
        reading.reported_cost = int(cents) / 100
