"""Calls over Google's Live API, and sessions of music. Prices are those of 2026-11."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from google import genai
from google.genai import types
from websockets.exceptions import ConnectionClosedError

import llm_exporter
from llm_exporter.client.pipeline import Pipeline
from llm_exporter.wire.unread import route_of
from support.budgets import allow
from support.google_live import SETUP, SPOKEN, TURN, live_client, live_usage, turn
from support.metered import Metered
from support.sockets import Close, Receive, SocketServer, Step

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


# ---- music


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
