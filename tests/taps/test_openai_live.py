"""Calls over OpenAI's Live API and live translation. Prices are those of 2026-11."""

from __future__ import annotations

from operator import attrgetter
from typing import Any

import pytest

from support.metered import Metered
from support.openai_sockets import (
    KINDS,
    O4_MINI,
    Connect,
    event,
    instrumented,
    of_response,
    receive,
)
from support.sockets import SOUND, SocketServer, Step, encoded


def live_session(kind: str, seconds: float | None = None) -> dict[str, Any]:
    """Return an event of a session of the Live API."""
    of_session = {"session": {"id": "live_1", "object": "live.session", "model": "gpt-live-1"}}
    usage = {} if seconds is None else {"usage": {"seconds": seconds}}
    about = of_session if kind != "usage.updated" else {}
    return {"type": f"session.{kind}", "event_id": "event_1", **about, **usage}


def delegated(event: dict[str, Any]) -> dict[str, Any]:
    """Return the event of a response to which a session has delegated."""
    return {"type": "response.event", "event_id": "event_2", "delegation_id": "dlg_1", "event": event}


DECIDED = {
    "type": "decision.event",
    "event_id": "event_3",
    "delegation_id": "dlg_2",
    "event": {
        "type": "decision.completed",
        "decision": {
            "model": "gpt-6-luna",
            "answers": [],
            "usage": {"input_tokens": 1000, "output_tokens": 100, "total_tokens": 1100},
        },
    },
}
SPEECH = {"type": "session.output_audio.delta", "event_id": "event_4", "delta": SOUND}
LIVE: list[dict[str, Any]] = [
    live_session("started"),
    SPEECH,
    live_session("usage.updated", 12.5),
    delegated(of_response("created")),
    delegated(event("response.output_text.delta", item_id="m", delta="Seven.")),
    DECIDED,
    delegated(of_response("completed", usage=O4_MINI)),
    live_session("usage.updated", 60.0),
    live_session("closed", 90.0),
]


def connecting(name: str, **options: str) -> Connect:
    """Return a function that opens a connection of a resource, if this release of openai has it."""

    def connect(client: Any) -> Any:
        try:
            resource = attrgetter(name)(client)
        except AttributeError:
            pytest.skip(f"this release of openai has no {name}")
        return resource.connect(**options)

    return connect


LIVE_SESSION = connecting("live")
SIDEBAND = connecting("live.sideband", session_id="live_1")
TRANSLATION = connecting("realtime.translations", model="gpt-realtime-translate")


@KINDS
def test_a_session_of_the_live_api_is_a_call_and_what_it_delegates_others(
    kind: str, sockets: SocketServer, metered: Metered
) -> None:
    """gpt-live-1: $0.05 a minute; gpt-6-luna: $0.10 and $0.50 a million tokens; o4-mini: $1.10 and $4.40."""
    sockets.script(*LIVE)
    received = receive(instrumented(kind, sockets), len(LIVE), LIVE_SESSION)
    assert received == [encoded(message) for message in LIVE]
    decision, response, live = metered.calls
    assert (decision.operation, decision.model) == ("decision", "gpt-6-luna")
    assert decision.cost == {"input": 0.0001, "output": 0.00005}
    assert (response.operation, response.model, response.usage_reported) == (
        "chat",
        "o4-mini-2025-04-16",
        True,
    )
    assert response.tokens == {"input": 300, "cache_read": 200, "output": 26, "reasoning": 64}
    assert (live.operation, live.model, live.usage_reported) == ("live", "gpt-live-1", True)
    assert (live.tokens, live.units) == ({}, {"input_audio_seconds": 90.0})
    assert live.total_cost == pytest.approx(0.075)  # 90 / 60 * 0.05


def test_a_session_that_is_closed_early_has_the_last_reported_duration(
    sockets: SocketServer, metered: Metered
) -> None:
    sockets.script(*LIVE[:3])
    receive(instrumented("sync", sockets), 3, LIVE_SESSION)
    assert (metered.call.units, metered.call.usage_reported) == ({"input_audio_seconds": 12.5}, True)


def test_observers_of_a_session_count_it_once(sockets: SocketServer, metered: Metered) -> None:
    """A browser may have started it; then only the observers see its usage."""
    for _ in range(2):
        sockets.script(*LIVE[2:])
        receive(instrumented("sync", sockets), len(LIVE) - 2, SIDEBAND)
    assert sorted(call.operation for call in metered.calls) == ["chat", "decision", "live"]
    assert metered.samples("llm_calls_in_flight") == {}


@KINDS
def test_a_live_translation_is_a_call_without_usage(
    kind: str, sockets: SocketServer, metered: Metered
) -> None:
    session = {"id": "sess_1", "type": "translation", "model": "gpt-realtime-translate"}
    spoken: Step = {"type": "session.output_transcript.delta", "event_id": "event_2", "delta": "Sieben."}
    steps: list[Step] = [
        {"type": "session.created", "event_id": "event_1", "session": session},
        spoken,
        SPEECH,
        {"type": "session.closed", "event_id": "event_3"},
    ]
    sockets.script(*steps)
    receive(instrumented(kind, sockets), 4, TRANSLATION)
    call = metered.call
    assert (call.operation, call.model, call.usage_reported) == (
        "translation",
        "gpt-realtime-translate",
        False,
    )
    assert (call.tokens, call.estimated) == ({}, False)
