"""Calls over OpenAI's Realtime API and the Responses API in WebSocket mode. Prices are those of 2026-11."""

from __future__ import annotations

import asyncio
from inspect import signature
from typing import Any

import openai
import pytest
import websockets.asyncio.client
import websockets.sync.client

import llm_exporter
from support.metered import Metered
from support.openai_sockets import (
    KINDS,
    O4_MINI,
    RESPONSE,
    TOKENS,
    USAGE,
    created,
    delta,
    done,
    event,
    instrumented,
    of_response,
    realtime,
    receive,
    responses,
    session,
)
from support.sockets import SOUND, Close, Drop, Receive, SocketServer, Step, encoded

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
