"""A request that a budget does not allow is not sent over a WebSocket, whichever SDK sends it."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from google.genai import types

import llm_exporter
from llm_exporter import BudgetExceeded
from llm_exporter.client.pipeline import Pipeline
from support.awaiting import until
from support.budgets import allow
from support.google_live import SETUP, TURN, live_client
from support.metered import Metered
from support.openai_sockets import (
    O4_MINI,
    RESPONSE,
    instrumented,
    of_response,
    realtime,
    responses,
    session,
)
from support.sockets import SOUND, Receive, SocketServer

ASK: dict[str, Any] = {"type": "response.create"}
SOUND_IN: dict[str, Any] = {"type": "input_audio_buffer.append", "audio": SOUND}
ASK_NOTHING: dict[str, Any] = {"type": "conversation.item.delete", "item_id": "item_1"}
SAYS_SO: dict[str, Any] = {"type": "conversation.item.create", "item": {"text": 'say "response.create"'}}


def sent(sockets: SocketServer, messages: int) -> list[Any]:
    until(lambda: len(sockets.received) >= messages)
    return [json.loads(message) for message in sockets.received]


def refused(metered: Metered) -> list[tuple[str, str, str]]:
    return [(call.operation, call.requested_model, call.budget) for call in metered.calls if call.error]


def test_a_used_up_budget_blocks_requests_over_a_threaded_connection(
    pipeline: Pipeline, sockets: SocketServer, metered: Metered
) -> None:
    allow(pipeline, "0.000001", match={"agent": "phone"})
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
    allow(pipeline, "0.000001", match={"model": "o4-mini"})
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
