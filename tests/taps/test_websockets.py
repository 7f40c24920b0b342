"""Calls over WebSockets, through the SDKs' own clients. Prices are those of 2026-11."""

from __future__ import annotations

import asyncio
import gc
import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from inspect import signature
from operator import attrgetter
from typing import Any
from unittest import mock

import openai
import pytest
import websockets.asyncio.client
import websockets.sync.client
from google import genai
from google.genai import types
from websockets.exceptions import ConnectionClosedError

import llm_exporter
from llm_exporter import BudgetExceeded
from llm_exporter.client.pipeline import Pipeline
from llm_exporter.config.model import Budget, Config
from llm_exporter.pricing.endpoint import Endpoint
from llm_exporter.taps import websocket
from llm_exporter.wire.realtime import RealtimeConversation
from llm_exporter.wire.unread import route_of
from support.awaiting import until
from support.metered import Metered
from support.operations import OPENAI
from support.sockets import Close, Drop, Receive, SocketServer, Step, encoded

KINDS = pytest.mark.parametrize("kind", ["sync", "async"])


@pytest.fixture
def sockets() -> Iterator[SocketServer]:
    with SocketServer() as server:
        yield server


def realtime(client: Any) -> Any:
    return client.realtime.connect(model="gpt-realtime")


def responses(client: Any) -> Any:
    if not hasattr(client.responses, "connect"):
        pytest.skip("this release of openai has no responses over WebSockets")
    return client.responses.connect()


Connect = Callable[[Any], Any]


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


SOUND = "UklGRiQA" * 4_000

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
# gpt-realtime, a million: text 4, cached 0.40, out 16; audio 32, cached 0.40, out 64; images 5, cached 0.50
COST = {
    "input": 0.0004,
    "input_audio": 0.0128,
    "input_image": 0.00025,
    "cache_read": 0.00012,
    "cache_read_audio": 0.00004,
    "cache_read_image": 0.000025,
    "output": 0.0008,
    "output_audio": 0.0128,
}

RESPONSE = [
    created(),
    delta("output_audio_transcript", "Sev"),
    delta("output_audio", SOUND),
    delta("output_audio", SOUND),
    delta("output_audio_transcript", "en."),
    done(USAGE),
]


def small(into: int, out: int) -> dict[str, Any]:
    return {"input_tokens": into, "output_tokens": out, "total_tokens": into + out}


@KINDS
def test_a_realtime_response_is_a_call(kind: str, sockets: SocketServer, metered: Metered) -> None:
    sockets.script(session(), *RESPONSE)
    with llm_exporter.labels(agent="phone"):
        receive(instrumented(kind, sockets), 7)
    call = metered.call
    assert (call.provider, call.operation, call.stream) == ("openai", "realtime", True)
    assert (call.model, call.requested_model) == ("gpt-realtime-2025-08-28", "gpt-realtime")
    assert call.tokens == TOKENS
    assert call.total_tokens == 1250
    assert call.cost == COST
    assert call.time_to_first_token is not None
    assert 0 < call.time_to_first_token < call.duration
    assert (call.error, call.usage_reported, call.estimated) == (None, True, False)
    assert call.labels == {"agent": "phone"}
    assert sockets.paths == ["/v1/realtime?model=gpt-realtime"]


@KINDS
def test_the_caller_gets_every_message_unchanged(kind: str, sockets: SocketServer, metered: Metered) -> None:
    steps: list[Step] = [session(), "no JSON", b"\x00\xff", "[1]", "", '{"type": 7}', *RESPONSE]
    sockets.script(*steps)
    assert receive(instrumented(kind, sockets), len(steps)) == [encoded(step) for step in steps]
    assert metered.call.tokens == TOKENS


def test_events_are_those_of_the_sdk(sockets: SocketServer, metered: Metered) -> None:
    sockets.script(session(), *RESPONSE, Close())
    kinds = []
    with instrumented("sync", sockets) as client, realtime(client) as connection:
        kinds = [event.type for event in connection]
    assert kinds == [step["type"] for step in [session(), *RESPONSE]]
    assert metered.call.tokens == TOKENS


@KINDS
def test_each_response_of_a_connection_is_a_call(kind: str, sockets: SocketServer, metered: Metered) -> None:
    sockets.script(
        session(),
        created("resp_1"),
        done(small(10, 1), "resp_1"),
        created("resp_2"),
        created("resp_3"),
        delta("output_text", "Seven.", "resp_3"),
        done(small(30, 3), "resp_3"),
        done(small(20, 2), "resp_2"),
    )
    receive(instrumented(kind, sockets), 8)
    assert [call.tokens for call in metered.calls] == [
        {"input": 10, "output": 1},
        {"input": 30, "output": 3},
        {"input": 20, "output": 2},
    ]
    assert [call.time_to_first_token is None for call in metered.calls] == [True, False, True]


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        ({"type": "tokens", "code": "rate_limit_exceeded"}, "rate_limited"),
        ({"type": "insufficient_quota", "code": None}, "rate_limited"),
        ({"type": "server_error"}, "server_error"),
        (None, "unknown"),
    ],
)
def test_a_failed_response_is_an_error(
    error: dict[str, Any] | None, kind: str, sockets: SocketServer, metered: Metered
) -> None:
    details = {"type": "failed", "error": error}
    sockets.script(session(), created(), done(None, status="failed", status_details=details))
    receive(instrumented("sync", sockets), 3)
    assert metered.call.error == kind
    assert metered.call.tokens == {}
    assert metered.total("llm_call_errors_total", error=kind, operation="realtime") == 1
    assert metered.total("llm_usage_missing_total") == 0


@pytest.mark.parametrize(
    ("status", "reason"), [("cancelled", "turn_detected"), ("incomplete", "max_output_tokens")]
)
def test_an_interrupted_response_is_billed_and_not_an_error(
    status: str, reason: str, sockets: SocketServer, metered: Metered
) -> None:
    details = {"type": status, "reason": reason}
    sockets.script(session(), created(), done(small(10, 1), status=status, status_details=details))
    receive(instrumented("sync", sockets), 3)
    assert metered.call.tokens == {"input": 10, "output": 1}
    assert metered.call.error is None


@KINDS
def test_a_response_left_early_is_counted_with_an_estimate(
    kind: str, sockets: SocketServer, metered: Metered
) -> None:
    sockets.script(session(), *RESPONSE)
    receive(instrumented(kind, sockets), 6)
    call = metered.call
    assert (call.error, call.usage_reported, call.estimated) == (None, False, True)
    assert call.tokens == {"output": 2}  # "Seven." at four characters a token
    assert metered.total("llm_usage_missing_total", operation="realtime") == 1


@KINDS
def test_audio_counts_as_the_first_token_but_not_as_text(
    kind: str, sockets: SocketServer, metered: Metered
) -> None:
    sockets.script(session(), created(), delta("output_audio", SOUND), delta("output_audio", SOUND))
    receive(instrumented(kind, sockets), 4)
    assert metered.call.time_to_first_token is not None
    assert metered.call.tokens == {}
    assert metered.call.usage_reported is False


@KINDS
@pytest.mark.parametrize("end", [Close(), Close(1011), Drop()], ids=["closed", "failed", "cut"])
def test_a_connection_that_ends_during_a_response_is_an_error(
    kind: str, end: Step, sockets: SocketServer, metered: Metered
) -> None:
    sockets.script(session(), created(), delta("output_text", "Seven."), end)
    with pytest.raises(websockets.ConnectionClosed):
        receive(instrumented(kind, sockets), 4)
    call = metered.call
    assert (call.error, call.usage_reported, call.estimated) == ("connection", False, True)
    assert call.tokens == {"output": 2}


@KINDS
def test_a_connection_that_ends_between_responses_is_not_an_error(
    kind: str, sockets: SocketServer, metered: Metered
) -> None:
    sockets.script(session(), *RESPONSE, Close(1011))
    with pytest.raises(websockets.ConnectionClosed):
        receive(instrumented(kind, sockets), 8)
    assert metered.call.error is None


def test_a_timeout_while_waiting_for_a_message_does_not_end_a_response(
    sockets: SocketServer, metered: Metered
) -> None:
    sockets.script(session(), created(), Receive(), done(USAGE))

    async def talk() -> None:
        async with instrumented("async", sockets) as client, realtime(client) as connection:
            await connection.recv()
            await connection.recv()
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(connection.recv(), 0.01)
            await connection.response.create()
            await connection.recv()

    asyncio.run(talk())
    assert metered.call.tokens == TOKENS
    assert metered.call.error is None


def test_iteration_can_be_interrupted_and_resumed(sockets: SocketServer, metered: Metered) -> None:
    sockets.script(session(), *RESPONSE)
    with instrumented("sync", sockets) as client, realtime(client) as connection:
        for event in connection:
            if event.type == "response.created":
                break
        assert metered.total("llm_calls_in_flight", model="gpt-realtime") == 1
        for event in connection:
            if event.type == "response.done":
                break
        assert metered.total("llm_calls_in_flight") == 0
    assert metered.call.tokens == TOKENS


def test_a_connection_is_still_metered_after_reconnecting(sockets: SocketServer, metered: Metered) -> None:
    sockets.script(session(), created("resp_1"), Close(1012))
    sockets.script(session(), created("resp_2"), done(USAGE, "resp_2"))
    client = instrumented("sync", sockets)
    if "on_reconnecting" not in signature(client.realtime.connect).parameters:
        pytest.skip("this release of openai does not open a connection again")
    manager = client.realtime.connect(
        model="gpt-realtime", on_reconnecting=lambda event: None, initial_delay=0.001
    )
    with client, manager as connection:
        for event in connection:
            if event.type == "response.done":
                break
    lost, done_ = metered.calls
    assert (lost.error, lost.tokens) == ("connection", {})
    assert (done_.error, done_.tokens) == (None, TOKENS)


def test_a_response_has_the_labels_of_its_connection_and_of_its_first_message(
    sockets: SocketServer, metered: Metered
) -> None:
    sockets.script(session(), created("a"), done(USAGE, "a"), created("b"), done(USAGE, "b"))
    client = instrumented("sync", sockets)
    with llm_exporter.labels(agent="phone", phase="greet"):
        connection = realtime(client).enter()
    for _ in range(3):
        connection.recv()
    with llm_exporter.labels(phase="answer"):
        connection.recv()
    connection.recv()
    connection.close()
    client.close()
    assert [call.labels for call in metered.calls] == [
        {"agent": "phone", "phase": "greet"},
        {"agent": "phone", "phase": "answer"},
    ]


def transcription(end: str, **more: Any) -> dict[str, Any]:
    kind = f"conversation.item.input_audio_transcription.{end}"
    return {"type": kind, "event_id": "event_5", "item_id": "item_9", "content_index": 0, **more}


@KINDS
def test_an_input_transcription_is_a_call_of_the_transcription_model(
    kind: str, sockets: SocketServer, metered: Metered
) -> None:
    usage = {
        "type": "tokens",
        "input_tokens": 120,
        "input_token_details": {"text_tokens": 20, "audio_tokens": 100},
        "output_tokens": 30,
        "total_tokens": 150,
    }
    sockets.script(
        session(transcribes="gpt-4o-transcribe"),
        created(),
        transcription("delta", delta="How "),
        transcription("completed", transcript="How many?", usage=usage),
        done(USAGE),
    )
    receive(instrumented(kind, sockets), 5)
    call, response = metered.calls
    assert (call.operation, call.model) == ("transcription", "gpt-4o-transcribe")
    assert call.tokens == {"input": 20, "input_audio": 100, "output": 30}
    # text in 2.50, audio in 6, out 10
    assert call.cost == {"input": 0.00005, "input_audio": 0.0006, "output": 0.0003}
    assert response.tokens == TOKENS


def test_a_transcription_can_be_billed_by_duration(sockets: SocketServer, metered: Metered) -> None:
    usage = {"type": "duration", "seconds": 30}
    beta = {"model": "gpt-realtime", "input_audio_transcription": {"model": "whisper-1"}}
    sockets.script(
        session(),
        {"type": "session.updated", "session": beta},
        transcription("completed", transcript="How many?", usage=usage),
    )
    receive(instrumented("sync", sockets), 3)
    assert metered.call.model == "whisper-1"
    assert metered.call.cost == {"input_audio": 0.003}  # 0.36 an hour


def test_a_failed_transcription_is_an_error(sockets: SocketServer, metered: Metered) -> None:
    error = {"type": "transcription_error", "code": "audio_unintelligible", "message": "?"}
    sockets.script(session(transcribes="whisper-1"), transcription("failed", error=error))
    receive(instrumented("sync", sockets), 2)
    assert (metered.call.operation, metered.call.error) == ("transcription", "unknown")


def test_a_session_error_is_not_a_call(sockets: SocketServer, metered: Metered) -> None:
    error = {"type": "invalid_request_error", "code": "invalid_value", "message": "no such voice"}
    sockets.script(session(), {"type": "error", "event_id": "event_6", "error": error})
    receive(instrumented("sync", sockets), 2)
    assert metered.calls == []


@KINDS
def test_the_beta_realtime_api_is_metered(kind: str, sockets: SocketServer, metered: Metered) -> None:
    sockets.script({"type": "session.created", "session": {"model": "gpt-4o-realtime-preview"}}, *RESPONSE)
    url = sockets.url.replace("http:", "ws:") + "/v1"
    make: Any = openai.OpenAI if kind == "sync" else openai.AsyncOpenAI
    client = llm_exporter.instrument(make(api_key="k", websocket_base_url=url))
    receive(client, 7, lambda client: client.beta.realtime.connect(model="gpt-4o-realtime-preview"))
    assert metered.call.tokens == TOKENS


# ---- the Responses API


def event(kind: str, lane: str | None = None, **more: Any) -> dict[str, Any]:
    return {"type": kind, "sequence_number": 0, **more, **({"stream_id": lane} if lane else {})}


def of_response(
    kind: str, lane: str | None = None, usage: dict[str, Any] | None = None, **more: Any
) -> dict[str, Any]:
    about = {"id": f"resp_{lane}", "object": "response", "model": "o4-mini-2025-04-16", "usage": usage}
    return event(f"response.{kind}", lane, response={**about, "output": [], "error": None, **more})


O4_MINI = {
    "input_tokens": 500,
    "input_tokens_details": {"cached_tokens": 200},
    "output_tokens": 90,
    "output_tokens_details": {"reasoning_tokens": 64},
    "total_tokens": 590,
}


@KINDS
def test_a_response_in_websocket_mode_is_a_call(kind: str, sockets: SocketServer, metered: Metered) -> None:
    sockets.script(
        of_response("created"),
        event("response.output_text.delta", item_id="m", output_index=0, content_index=0, delta="Seven."),
        of_response("completed", usage=O4_MINI),
    )
    receive(instrumented(kind, sockets), 3, responses)
    call = metered.call
    assert (call.operation, call.model) == ("chat", "o4-mini-2025-04-16")
    assert call.tokens == {"input": 300, "cache_read": 200, "output": 26, "reasoning": 64}
    # in 1.10, cached 0.275, out 4.40
    assert call.cost == {
        "input": 0.00033,
        "cache_read": 0.000055,
        "output": 0.0001144,
        "reasoning": 0.0002816,
    }
    assert call.time_to_first_token is not None


@KINDS
def test_concurrent_responses_of_a_connection_are_separate_calls(
    kind: str, sockets: SocketServer, metered: Metered
) -> None:
    sockets.script(
        of_response("created", "a"),
        of_response("created", "b"),
        of_response("incomplete", "b", small(20, 2), status="incomplete"),
        of_response("failed", "a", error={"code": "server_error", "message": "?"}),
        of_response("created", "b"),
        of_response("completed", "b", small(30, 3)),
    )
    receive(instrumented(kind, sockets), 6, responses)
    assert [(call.tokens, call.error) for call in metered.calls] == [
        ({"input": 20, "output": 2}, None),
        ({}, "server_error"),
        ({"input": 30, "output": 3}, None),
    ]


def test_a_rejected_request_is_a_failed_call(sockets: SocketServer, metered: Metered) -> None:
    error = {"type": "invalid_request_error", "code": "previous_response_not_found", "message": "?"}
    sockets.script(
        of_response("created"),
        of_response("completed", usage=O4_MINI),
        event("error", status=400, error=error),
    )
    receive(instrumented("sync", sockets), 3, responses)
    assert [call.error for call in metered.calls] == [None, "invalid_request"]
    assert metered.calls[1].model == "o4-mini-2025-04-16"


# ---- the Live API and live translation


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
    """gpt-live-1: $0.05 a minute; o4-mini: see above; gpt-6-luna: $0.10 and $0.50 a million tokens."""
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


# ---- Google


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
# gemini-live-2.5-flash, a million: text 0.50, out 2; audio 3, out 12
LIVE_TOKENS = {"input": 100, "input_audio": 500, "output_audio": 150, "reasoning": 40}
LIVE_COST = {"input": 0.00005, "input_audio": 0.0015, "output_audio": 0.0018, "reasoning": 0.00008}


def live(client: genai.Client, turns: int, error: tuple[type[BaseException], ...] | None = None) -> list[Any]:
    """Open a session, receive this many turns, and close the session and the client."""

    async def talk() -> list[Any]:
        got = []
        async with client.aio as opened, opened.live.connect(model="gemini-live-2.5-flash") as session:
            await session.send_client_content(turns={"role": "user", "parts": [{"text": "How many?"}]})
            for _ in range(turns):
                got += [message async for message in session.receive()]
        return got

    if error is None:
        return asyncio.run(talk())
    with pytest.raises(error):
        asyncio.run(talk())
    return []


def google(sockets: SocketServer) -> genai.Client:
    """Return a client of a gateway, the only kind of client that works without TLS."""
    url = sockets.url.replace("http:", "ws:")
    client = genai.Client(vertexai=True, http_options=types.HttpOptions(base_url=url))
    client._api_client._websocket_ssl_ctx = {}
    return client


def live_client(sockets: SocketServer) -> genai.Client:
    return llm_exporter.instrument(google(sockets))


def test_a_turn_of_a_live_session_is_a_call(sockets: SocketServer, metered: Metered) -> None:
    sockets.script(Receive(), SETUP, Receive(), *TURN)
    with llm_exporter.labels(agent="phone"):
        messages = live(live_client(sockets), 1)
    assert len(messages) == len(TURN)
    assert messages[1].data is not None
    call = metered.call
    assert (call.provider, call.operation, call.stream) == ("google", "live", True)
    assert (call.model, call.requested_model) == ("gemini-live-2.5-flash", "gemini-live-2.5-flash")
    assert call.tokens == LIVE_TOKENS
    assert call.total_tokens == 790
    assert call.cost == LIVE_COST
    assert call.time_to_first_token is not None
    assert call.labels == {"agent": "phone"}
    assert call.error is None


def test_each_turn_has_its_own_usage(sockets: SocketServer, metered: Metered) -> None:
    usage = live_usage(800, 50, 0)
    del usage["totalTokenCount"]
    later: Step = {"serverContent": {"turnComplete": True}, "usageMetadata": usage}
    sockets.script(Receive(), SETUP, Receive(), *TURN, turn({"text": "Eight."}), later)
    live(live_client(sockets), 2)
    first, second = metered.calls
    assert first.tokens == LIVE_TOKENS
    assert second.tokens == {"input": 100, "input_audio": 700, "output_audio": 50}


def test_the_last_of_several_usage_reports_in_a_turn_counts(sockets: SocketServer, metered: Metered) -> None:
    early: Step = {"usageMetadata": live_usage(600, 10, 0), **turn(SPOKEN)}
    sockets.script(Receive(), SETUP, Receive(), early, *TURN)
    live(live_client(sockets), 1)
    assert metered.call.tokens == LIVE_TOKENS


def test_an_interrupted_turn_is_billed_and_not_an_error(sockets: SocketServer, metered: Metered) -> None:
    interrupted: Step = {"serverContent": {"interrupted": True}}
    sockets.script(Receive(), SETUP, Receive(), turn(SPOKEN), interrupted, TURN[-1])
    live(live_client(sockets), 1)
    assert metered.call.tokens == LIVE_TOKENS
    assert metered.call.error is None


def test_messages_outside_a_turn_of_the_model_are_not_calls(sockets: SocketServer, metered: Metered) -> None:
    heard: Step = {"serverContent": {"inputTranscription": {"text": "How many?"}}}
    resumption: Step = {"sessionResumptionUpdate": {"newHandle": "h", "resumable": True}}
    over: Step = {"serverContent": {"turnComplete": True}}
    sockets.script(Receive(), SETUP, Receive(), heard, resumption, over)
    live(live_client(sockets), 1)
    assert metered.calls == []


def test_a_live_connection_that_ends_during_a_turn_is_an_error(
    sockets: SocketServer, metered: Metered
) -> None:
    sockets.script(Receive(), SETUP, Receive(), turn({"text": "Seven."}), Close(1011))
    live(live_client(sockets), 1, (genai.errors.APIError, ConnectionClosedError))
    call = metered.call
    assert (call.error, call.usage_reported, call.estimated) == ("connection", False, True)
    assert call.tokens == {"output": 2}


def test_a_live_turn_left_early_is_counted_with_an_estimate(sockets: SocketServer, metered: Metered) -> None:
    sockets.script(Receive(), SETUP, Receive(), turn({"text": "Seven."}), TURN[-1])

    async def talk() -> None:
        client = live_client(sockets)
        async with client.aio as opened, opened.live.connect(model="gemini-live-2.5-flash") as session:
            await session.send_client_content(turns={"role": "user", "parts": [{"text": "How many?"}]})
            async for _ in session.receive():
                break

    asyncio.run(talk())
    call = metered.call
    assert (call.error, call.usage_reported, call.estimated) == (None, False, True)
    assert call.tokens == {"output": 2}


# ---- which connections


@KINDS
def test_a_connection_is_metered_once_however_often_its_client_is_instrumented(
    kind: str, sockets: SocketServer, metered: Metered
) -> None:
    sockets.script(session(), *RESPONSE)
    client = instrumented(kind, sockets)
    llm_exporter.instrument()
    receive(llm_exporter.instrument(client), 7)
    assert len(metered.calls) == 1


def test_a_connection_of_another_client_keeps_its_class(sockets: SocketServer, metered: Metered) -> None:
    sockets.script()
    llm_exporter.instrument(openai.OpenAI(api_key="k")).close()
    with OPENAI["sync"](sockets.url) as client, realtime(client) as connection:
        assert type(connection._connection) is websockets.sync.client.ClientConnection


@KINDS
@pytest.mark.parametrize("connect", [realtime, responses])
def test_connections_of_other_clients_are_not_metered(
    kind: str, connect: Connect, sockets: SocketServer, metered: Metered
) -> None:
    sockets.script(session(), *RESPONSE)
    llm_exporter.instrument(openai.OpenAI(api_key="k")).close()
    receive(OPENAI[kind](sockets.url), 7, connect)
    assert metered.calls == []


def test_live_sessions_of_other_clients_are_not_metered(sockets: SocketServer, metered: Metered) -> None:
    sockets.script(Receive(), SETUP)
    llm_exporter.instrument(google(sockets)).close()

    async def talk() -> None:
        async with (
            google(sockets).aio as opened,
            opened.live.connect(model="gemini-live-2.5-flash") as session,
        ):
            assert type(session._ws) is websockets.asyncio.client.ClientConnection

    asyncio.run(talk())
    assert metered.calls == []


def music(sockets: SocketServer, error: Exception | None = None) -> None:
    """Open a session of music, raise an error in its block if there is one, and close it and the client."""
    options = types.HttpOptions(api_version="v1beta")
    client = llm_exporter.instrument(genai.Client(vertexai=False, api_key="k", http_options=options))
    client._api_client._websocket_base_url = lambda *_: sockets.url.replace("http:", "ws:")  # type: ignore[method-assign]

    async def play() -> None:
        async with client.aio as opened, opened.live.music.connect(model="models/lyria-realtime-exp"):
            if error is not None:
                raise error

    asyncio.run(play())


MUSIC = "WS /ws/google.ai.generativelanguage.v1beta.GenerativeService.BidiGenerateMusic"


@pytest.mark.filterwarnings("ignore:Realtime music generation is experimental")
def test_a_session_of_music_is_an_unread_request(sockets: SocketServer, metered: Metered) -> None:
    sockets.script(Receive(), SETUP)
    with llm_exporter.labels(agent="band"):
        music(sockets)
    call = metered.call
    assert (call.operation, call.route, call.error, call.agent) == ("unread", MUSIC, None, "band")
    assert (call.model, call.usage_reported) == ("lyria-realtime-exp", False)
    assert route_of("WS", sockets.paths[0]) == MUSIC
    assert metered.total("llm_exporter_unread_requests_total", provider="google", route=MUSIC) == 1


@pytest.mark.filterwarnings("ignore:Realtime music generation is experimental")
def test_a_session_of_music_that_cannot_be_opened_is_a_failed_request(metered: Metered) -> None:
    with SocketServer() as closed:
        pass
    with pytest.raises(ConnectionRefusedError):
        music(closed)
    assert (metered.call.operation, metered.call.error) == ("unread", "connection")


@pytest.mark.filterwarnings("ignore:Realtime music generation is experimental")
def test_a_session_of_music_is_refused_when_a_budget_is_used_up(
    sockets: SocketServer, pipeline: Pipeline, metered: Metered
) -> None:
    allow(pipeline, "0.000001")
    llm_exporter.record(provider="openai", model="gpt-4o", tokens={"output": 1_000_000})
    assert pipeline.flush()
    with pytest.raises(llm_exporter.BudgetExceeded):
        music(sockets)
    assert sockets.paths == []


@pytest.mark.filterwarnings("ignore:Realtime music generation is experimental")
def test_an_error_in_the_block_of_a_session_of_music_reaches_the_caller(
    sockets: SocketServer, metered: Metered
) -> None:
    sockets.script(Receive(), SETUP)
    error = LookupError("mine")
    with pytest.raises(LookupError) as raised:
        music(sockets, error)
    assert raised.value is error
    assert metered.call.error is None


@KINDS
def test_instrument_meters_connections_of_resources_used_before(
    kind: str, sockets: SocketServer, metered: Metered
) -> None:
    sockets.script(session(), *RESPONSE)
    client = OPENAI[kind](sockets.url)
    assert client.realtime is not None
    llm_exporter.instrument()
    receive(client, 7)
    assert metered.call.tokens == TOKENS


def test_instrument_imports_no_resource_and_patches_it_on_first_use() -> None:
    script = """
import sys, llm_exporter, openai
llm_exporter.instrument()
names = [f"openai.resources.{name}" for name in ("realtime.realtime", "responses.responses")]
assert not set(names) & set(sys.modules)
for client in openai.OpenAI(api_key="k"), openai.AsyncOpenAI(api_key="k"):
    client.realtime.connect, client.responses.create
for name in names:
    module = sys.modules[name]
    managers = [each for each in vars(module) if each.endswith("ConnectionManager")]
    old = "responses" in name and not hasattr(module.Responses, "connect")
    assert len(managers) == (0 if old else 2)
    for each in managers:
        ways = [getattr(vars(module)[each], way, None) for way in ("_connect_ws", "__enter__", "__aenter__")]
        assert any(hasattr(way, "_llm_exporter_patch") for way in ways)
"""
    subprocess.run([sys.executable, "-c", script], check=True)


def test_uninstrument_takes_effect_with_the_next_response(sockets: SocketServer, metered: Metered) -> None:
    sockets.script(session(), created("a"), done(USAGE, "a"), created("b"), done(USAGE, "b"))
    with instrumented("sync", sockets) as client, realtime(client) as connection:
        connection.recv()
        connection.recv()
        llm_exporter.uninstrument(client)
        for _ in range(3):
            connection.recv()
    assert len(metered.calls) == 1


# ---- budgets


ASK: dict[str, Any] = {"type": "response.create"}
SOUND_IN: dict[str, Any] = {"type": "input_audio_buffer.append", "audio": SOUND}
ASK_NOTHING: dict[str, Any] = {"type": "conversation.item.delete", "item_id": "item_1"}
SAYS_SO: dict[str, Any] = {"type": "conversation.item.create", "item": {"text": 'say "response.create"'}}


def allow(pipeline: Pipeline, usd: str, **match: str) -> None:
    rule = {"name": "all", "period": "total", "usd": usd, "on_exceed": "block", "match": match}
    pipeline.configure(Config(budgets=(Budget.model_validate(rule),)))


def sent(sockets: SocketServer, messages: int) -> list[Any]:
    until(lambda: len(sockets.received) >= messages)
    return [json.loads(message) for message in sockets.received]


def refused(metered: Metered) -> list[tuple[str, str, str]]:
    return [(call.operation, call.requested_model, call.budget) for call in metered.calls if call.error]


def test_a_used_up_budget_blocks_requests_over_a_threaded_connection(
    pipeline: Pipeline, sockets: SocketServer, metered: Metered
) -> None:
    allow(pipeline, "0.000001", agent="phone")
    sockets.script(session(), Receive(), *RESPONSE)
    client = instrumented("sync", sockets)
    with llm_exporter.labels(agent="phone"), client, realtime(client) as connection:
        connection.send(ASK)  # its cost is not known yet
        for _ in range(7):
            connection.recv_bytes()
        assert pipeline.flush()
        for message in (ASK, SOUND_IN):
            with pytest.raises(BudgetExceeded, match=r"^budget all \(agent phone\) exceeded: "):
                connection.send(message)
        for message in (ASK_NOTHING, SAYS_SO):
            connection.send(message)
    assert sent(sockets, 3) == [ASK, ASK_NOTHING, SAYS_SO]
    assert refused(metered) == [("realtime", "gpt-realtime", "all")] * 2
    assert metered.samples("llm_budget_rejected_calls_total") == {("all",): 2.0}


def test_a_used_up_budget_blocks_requests_over_an_asyncio_connection(
    pipeline: Pipeline, sockets: SocketServer, metered: Metered
) -> None:
    allow(pipeline, "0.000001", model="o4-mini")
    asked = {**ASK, "model": "o4-mini", "input": "How many?"}
    sockets.script(Receive(), of_response("created"), of_response("completed", usage=O4_MINI))

    async def talk() -> None:
        client = instrumented("async", sockets)
        async with client, responses(client) as connection:
            await connection.send(asked)
            for _ in range(2):
                await connection.recv_bytes()
            assert pipeline.flush()
            with pytest.raises(BudgetExceeded):
                await connection.send(asked)
            await connection.send({**asked, "model": "gpt-4o"})  # the budget does not match it

    asyncio.run(talk())
    assert sent(sockets, 2) == [asked, {**asked, "model": "gpt-4o"}]
    assert refused(metered) == [("chat", "o4-mini", "all")]
    assert (metered.calls[0].model, metered.calls[0].requested_model) == ("o4-mini-2025-04-16", "o4-mini")


def test_a_used_up_budget_blocks_requests_in_a_live_session(
    pipeline: Pipeline, sockets: SocketServer, metered: Metered
) -> None:
    allow(pipeline, "0.000001")
    sockets.script(Receive(), SETUP, Receive(), *TURN)
    client = live_client(sockets)

    async def talk() -> None:
        async with client.aio as opened, opened.live.connect(model="gemini-live-2.5-flash") as session:
            asked = types.Content(role="user", parts=[types.Part(text="How many?")])
            await session.send_client_content(turns=asked)
            assert [message async for message in session.receive()]
            assert pipeline.flush()
            with pytest.raises(BudgetExceeded):
                await session.send_client_content(turns=asked)
            with pytest.raises(BudgetExceeded):
                await session.send_realtime_input(text="How many?")

    asyncio.run(talk())
    assert [next(iter(message)) for message in sent(sockets, 2)] == ["setup", "client_content"]
    assert refused(metered) == [("live", "gemini-live-2.5-flash", "all")] * 2


# ---- errors of ours


class OursError(Exception):
    """Must never reach a caller."""


def fails(*args: object, **kwargs: object) -> Any:
    raise OursError


@KINDS
@pytest.mark.parametrize(
    ("broken", "name", "where"),
    [
        (websocket, "Meter", "wire"),
        (websocket, "_tapped_class", "tap"),
        (RealtimeConversation, "parse_received", "wire"),
    ],
)
def test_our_exception_never_reaches_the_caller(
    broken: Any,
    name: str,
    where: str,
    kind: str,
    sockets: SocketServer,
    pipeline: Pipeline,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    steps: list[Step] = [session(), *RESPONSE]
    sockets.script(*steps)
    monkeypatch.setattr(broken, name, fails)
    assert receive(instrumented(kind, sockets), 7) == [encoded(step) for step in steps]
    assert set(Metered(pipeline).samples("llm_exporter_errors_total")) == {(where,)}


def test_a_dropped_connection_meter_finishes_its_calls(metered: Metered) -> None:
    meter = websocket.ConnectionMeter(RealtimeConversation("gpt-realtime"), Endpoint("openai"), lambda: True)
    meter.received(encoded(created()))
    assert metered.total("llm_calls_in_flight") == 1
    del meter
    gc.collect()
    assert metered.call.usage_reported is False


def test_a_mock_in_place_of_a_connection_is_left_alone(metered: Metered) -> None:
    connection = mock.Mock()
    with (
        mock.patch("websockets.sync.client.connect", return_value=connection),
        realtime(llm_exporter.instrument(openai.OpenAI(api_key="key"))) as opened,
    ):
        opened.send({"type": "response.create"})
    connection.send.assert_called_once()
