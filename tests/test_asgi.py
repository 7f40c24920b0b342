"""Headers of a request label the LLM calls that an ASGI application makes for it."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Iterator, Mapping
from typing import Any

import httpx
import pytest
from openai import AsyncOpenAI, OpenAI
from starlette.applications import Starlette
from starlette.background import BackgroundTask
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route, WebSocketRoute
from starlette.testclient import TestClient
from starlette.websockets import WebSocket

import llm_exporter
from llm_exporter.asgi import LabelsMiddleware
from llm_exporter.client.inferred_labels import labels_of_call
from support.metered import Metered
from support.operations import CHAT, Operation
from support.scripted import Server

HEADERS = {"X-LLM-Agent": "writer", "x-llm-phase": "draft"}


@pytest.fixture(autouse=True)
def _everything_is_metered(metered: Metered) -> None:
    llm_exporter.instrument()


@pytest.fixture
def app(server: Server) -> Iterator[Starlette]:
    """An application that calls a model in each way that an application can."""
    server.respond_with("/chat/completions", Operation(CHAT, "sync", stream=False).response())
    client = OpenAI(base_url=f"{server.url}/v1", api_key="k")

    def call() -> str:
        return client.chat.completions.create(model="gpt-4o", messages=[]).model

    async def call_async() -> str:
        async with AsyncOpenAI(base_url=f"{server.url}/v1", api_key="k") as client:
            return (await client.chat.completions.create(model="gpt-4o", messages=[])).model

    async def awaited(_: Request) -> Response:
        return Response(await call_async())

    def on_a_thread(_: Request) -> Response:
        return Response(call())

    def streamed(_: Request) -> Response:
        def pieces() -> Iterator[str]:
            yield "begin "
            yield call()

        return StreamingResponse(pieces())

    async def streamed_async(_: Request) -> Response:
        async def pieces() -> AsyncIterator[str]:
            yield "begin "
            yield await call_async()

        return StreamingResponse(pieces())

    async def afterwards(_: Request) -> Response:
        return Response("", background=BackgroundTask(call))

    async def labelled(_: Request) -> Response:
        with llm_exporter.labels(agent="mine", phase="plan", team="ours"):
            return Response(await call_async())

    async def socket(websocket: WebSocket) -> None:
        await websocket.accept()
        await websocket.send_text(await call_async())
        await websocket.close()

    ways = (awaited, on_a_thread, streamed, streamed_async, afterwards, labelled)
    routes = [Route(f"/{way.__name__}", way) for way in ways]
    yield Starlette(routes=[*routes, WebSocketRoute("/socket", socket)])
    client.close()


def get(app: Any, path: str, headers: Any = HEADERS) -> None:
    with TestClient(app) as client:
        assert client.get(path, headers=headers).status_code == 200


WAYS = ["awaited", "on_a_thread", "streamed", "streamed_async", "afterwards"]


@pytest.mark.parametrize("way", WAYS)
def test_headers_label_the_calls_of_their_request(way: str, app: Starlette, metered: Metered) -> None:
    get(LabelsMiddleware(app), f"/{way}")
    get(LabelsMiddleware(app), f"/{way}", headers={})
    labels = [call.labels for call in metered.calls]
    assert labels == [{"agent": "writer", "phase": "draft"}, {}]


def test_requests_beside_one_another_have_their_own_labels(app: Starlette, metered: Metered) -> None:
    async def run() -> None:
        transport = httpx.ASGITransport(LabelsMiddleware(app))
        async with httpx.AsyncClient(transport=transport, base_url="http://app") as client:
            requests = [
                client.get(f"/{way}", headers={"x-llm-agent": f"{way}-{n}"}) for way in WAYS for n in range(4)
            ]
            assert {response.status_code for response in await asyncio.gather(*requests)} == {200}

    asyncio.run(run())
    agents = Counter(call.agent for call in metered.calls)
    assert agents == {f"{way}-{n}": 1 for way in WAYS for n in range(4)}


def test_headers_of_a_websocket_label_its_calls(app: Starlette, metered: Metered) -> None:
    with (
        TestClient(LabelsMiddleware(app)) as client,
        client.websocket_connect("/socket", headers=HEADERS) as socket,
    ):
        assert socket.receive_text()
    assert metered.call.labels == {"agent": "writer", "phase": "draft"}


def test_headers_can_be_named_for_any_label(app: Starlette, metered: Metered) -> None:
    middleware = LabelsMiddleware(app, headers={"X-Team": "team", "x-agent": "agent"})
    get(middleware, "/awaited", headers={"x-team": "search", "X-AGENT": "writer", **HEADERS})
    assert metered.call.labels == {"team": "search", "agent": "writer"}


def test_labels_that_the_program_sets_come_first(app: Starlette, metered: Metered) -> None:
    middleware = LabelsMiddleware(app, headers={"x-llm-agent": "agent", "x-team": "team", "x-tier": "tier"})
    get(middleware, "/labelled", headers={**HEADERS, "x-team": "theirs", "x-tier": "gold"})
    assert metered.call.labels == {"agent": "mine", "phase": "plan", "team": "ours", "tier": "gold"}


def test_headers_count_only_if_the_program_asks_them(app: Starlette, metered: Metered) -> None:
    llm_exporter.instrument(labels_from=())
    get(LabelsMiddleware(app), "/awaited")
    assert metered.call.labels == {}


def test_text_from_outside_is_bounded_and_harmless() -> None:
    seen: list[Mapping[str, str]] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        seen.append(labels_of_call())

    headers = [
        (b"x-llm-agent", b" "),
        (b"x-llm-agent", "Jürgen\x00 ".encode() + b"\xff" + b"x" * 1000),
        (b"x-llm-agent", b"second"),
        (b"x-llm-phase", b""),
    ]
    asyncio.run(LabelsMiddleware(app)({"type": "http", "headers": headers}, None, None))
    expected = "Jürgen? \ufffd"
    assert seen == [{"agent": expected + "x" * (256 - len(expected.encode()))}]


def test_an_application_without_requests_or_headers_runs_as_ever() -> None:
    seen: list[str] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        seen.append(scope["type"])

    async def run() -> None:
        for scope in ({"type": "lifespan"}, {"type": "http"}, {"type": "http", "headers": [("x", 1)]}):
            await LabelsMiddleware(app)(scope, None, None)

    asyncio.run(run())
    assert seen == ["lifespan", "http", "http"]


@pytest.mark.parametrize(
    ("headers", "message"),
    [
        ({"x agent": "agent"}, "headers: 'x agent' is not the name of an HTTP header"),
        ({"x-agent": ""}, "headers: the label of 'x-agent' must have a name, not ''"),
        ({"x-agent": "a\nb"}, "headers: the label of 'x-agent' must have a name, not 'a"),
    ],
)
def test_a_wrong_name_is_an_error(headers: dict[str, str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        LabelsMiddleware(Starlette(), headers=headers)
