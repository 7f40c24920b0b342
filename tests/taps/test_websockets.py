"""Which WebSocket connections are metered, and that metering them harms no caller."""

from __future__ import annotations

import asyncio
import gc
import subprocess
import sys
from typing import Any
from unittest import mock

import openai
import pytest
import websockets.asyncio.client
import websockets.sync.client

import llm_exporter
from llm_exporter.client.pipeline import Pipeline
from llm_exporter.pricing.endpoint import Endpoint
from llm_exporter.taps import websocket
from llm_exporter.wire.realtime import RealtimeConversation
from support.google_live import SETUP, google
from support.metered import Metered
from support.openai_sockets import (
    KINDS,
    RESPONSE,
    TOKENS,
    USAGE,
    Connect,
    created,
    done,
    instrumented,
    realtime,
    receive,
    responses,
    session,
)
from support.operations import OPENAI
from support.sockets import Receive, SocketServer, Step, encoded


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
