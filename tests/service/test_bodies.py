"""Bodies of requests have bounds, and are decoded where they keep nobody waiting."""

from __future__ import annotations

import asyncio
import gc
import gzip
import json
import threading
from collections.abc import Awaitable, Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from starlette.requests import Request
from starlette.testclient import TestClient

from llm_exporter import Call
from llm_exporter.config.model import Config
from llm_exporter.service import bodies, responses
from llm_exporter.service.app import make_app
from llm_exporter.service.bodies import MAX_CALL_BYTES, MAX_CALLS, Bodies, calls_in
from llm_exporter.service.intake import Intake
from llm_exporter.service.ledger.base import Logged
from llm_exporter.service.ledger.sqlite import SqliteLedger
from llm_exporter.service.reports import call_page
from llm_exporter.service.requests import Problem
from llm_exporter.service.responses import encoded
from llm_exporter.service.schemas import Receipt
from support.calls import a_call

SHORTEST = b'{"provider":"p","model":"m","operation":"o"}'


def batch(calls: int) -> bytes:
    return b"[" + b",".join([SHORTEST] * calls) + b"]"


def with_mistake(at: int, calls: int) -> list[dict[str, Any]]:
    body: list[dict[str, Any]] = [json.loads(SHORTEST) for _ in range(calls)]
    body[at]["route"] = None
    return body


@pytest.fixture
def client(tmp_path: Path) -> Iterator[TestClient]:
    app = make_app(Config(), SqliteLedger(tmp_path / "ledger.db"))
    headers = {"content-type": "application/json"}
    with TestClient(app, base_url="http://127.0.0.1", headers=headers) as client:
        yield client


@pytest.mark.parametrize(
    ("body", "detail"),
    [
        (batch(MAX_CALLS + 1), "the request has 10001 calls: send at most 10000 per request"),
        (b'{"calls":' + batch(MAX_CALLS + 1) + b"}", "the request has 10001 calls: send at most 10000"),
        (b"[" + b"1," * 640_001 + b"1]", "the request has more than 10000 calls, or very long ones"),
        (
            b"[" + SHORTEST + b"," + SHORTEST[:-1] + b',"labels":{"a":"' + b"b" * MAX_CALL_BYTES + b'"}}]',
            f"call 1 exceeds {MAX_CALL_BYTES} bytes",
        ),
    ],
    ids=["calls", "calls in an object", "anything else", "a long call"],
)
def test_a_request_that_is_too_large_names_the_bound(client: TestClient, body: bytes, detail: str) -> None:
    for content, headers in ((body, {}), (gzip.compress(body, 1), {"content-encoding": "gzip"})):
        response = client.post("/api/v1/calls", content=content, headers=headers)
        assert response.status_code == 413
        assert response.json()["detail"].startswith(detail)
    assert 'llm_exporter_refused_requests_total{reason="size"} 2.0' in client.get("/metrics").text
    assert client.get("/api/v1/calls").json()["calls"] == []


def test_a_message_that_adds_no_calls_is_smaller(client: TestClient) -> None:
    for path in ("/api/v1/alerts", "/api/v1/budgets/leases"):
        response = client.post(path, content=b" " * (bodies.MAX_MESSAGE + 1))
        assert response.status_code == 413
        assert response.json()["detail"].startswith(f"the body exceeds {bodies.MAX_MESSAGE} bytes")


def test_as_many_calls_as_allowed_are_decoded() -> None:
    assert len(calls_in(batch(MAX_CALLS))) == MAX_CALLS


@pytest.mark.parametrize("number", [0, 499, 500, 1250])
def test_a_mistake_is_named_by_its_place_in_the_whole_body(number: int) -> None:
    calls = with_mistake(number, 1300)
    for body in (calls, {"calls": calls}):
        with pytest.raises(Problem) as caught:
            calls_in(json.dumps(body).encode())
        assert str(caught.value) == f"invalid calls: Expected `str`, got `null` - at `$[{number}].route`"


def test_a_decoder_gets_a_slice_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """It keeps all other threads waiting until it returns."""
    decode, sizes = bodies._decode_calls, []

    def decode_slice(part: bytes) -> Any:
        sizes.append(len(decode(part)))
        return decode(part)

    monkeypatch.setattr(bodies, "_decode_calls", decode_slice)
    monkeypatch.setattr(bodies, "_SLICE_BYTES", 1000)
    one = json.loads(SHORTEST)  # has 67 bytes with an empty route
    calls_in(json.dumps([{**one, "route": "x" * size} for size in (1, 1, 250, 2, 900, 999)]).encode())
    assert sizes == [4, 1, 1]


def test_the_garbage_collector_need_not_look_at_calls() -> None:
    """A full collection keeps all threads waiting, also that of the event loop."""
    (call,) = calls_in(batch(1))
    assert not gc.is_tracked(call)
    assert not gc.is_tracked(Logged(1, call))


def test_calls_are_submitted_where_they_are_decoded(
    client: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    threads: list[str] = []

    def submit(intake: Intake, calls: Sequence[Call]) -> Future[Receipt]:
        threads.append(threading.current_thread().name)
        return original(intake, calls)

    original = Intake.submit
    monkeypatch.setattr(Intake, "submit", submit)
    assert client.post("/api/v1/calls", content=batch(1000)).json() == {"accepted": 1000, "duplicates": 0}
    assert [name.rpartition("_")[0] for name in threads] == ["llm-exporter-bodies"]


def test_an_encoder_gets_a_row_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    page = call_page([Logged(1, a_call())] * 3, 5)
    encode, encoded_values = responses._encode, []

    def encode_one(value: object) -> bytes:
        encoded_values.append(value)
        return encode(value)

    monkeypatch.setattr(responses, "_encode", encode_one)
    assert encoded(lambda: page) == encode(page)
    assert encoded_values.count(page.calls[0]) == 3
    assert page not in encoded_values


Receive = Callable[[], Awaitable[dict[str, Any]]]


def request(receive: Receive, **headers: str) -> Request:
    given = {"content-type": "application/json", **headers}
    raw = [(name.replace("_", "-").encode(), value.encode()) for name, value in given.items()]
    return Request({"type": "http", "method": "POST", "path": "/", "headers": raw}, receive)


def sent(*chunks: bytes) -> Receive:
    left = list(chunks)

    async def receive() -> dict[str, Any]:
        body = left.pop(0)
        return {"type": "http.request", "body": body, "more_body": bool(left)}

    return receive


@pytest.mark.parametrize(("size", "elsewhere"), [(2**15, False), (2**15 + 1, True)])
def test_large_bodies_are_decoded_on_another_thread(size: int, *, elsewhere: bool) -> None:
    async def scenario() -> None:
        reading = Bodies(lambda _: None)
        async with reading.decoded(request(sent(bytes(size))), lambda _: threading.get_ident()) as thread:
            assert (thread != threading.get_ident()) == elsewhere
        compressed = gzip.compress(bytes(size), 1)
        packed = request(sent(compressed), content_encoding="gzip")
        async with reading.decoded(packed, lambda _: threading.get_ident()) as thread:
            assert (thread != threading.get_ident()) == elsewhere
        reading.close()

    asyncio.run(scenario())


def test_the_bytes_in_memory_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Bodies count until their requests are answered: compressed and decompressed, complete or not."""
    monkeypatch.setattr(bodies, "MAX_BYTES_IN_MEMORY", 100)
    refused: list[str] = []
    reading = Bodies(refused.append)

    @asynccontextmanager
    async def held(*chunks: bytes, **headers: str) -> Any:
        async with reading.decoded(request(sent(*chunks), **headers), len) as size:
            yield size

    async def is_refused(*chunks: bytes, **headers: str) -> bool:
        before = len(refused)
        with suppress(Problem):
            async with held(*chunks, **headers):
                return False
        assert refused[before:] == ["memory"]
        return True

    async def scenario() -> None:
        async with held(bytes(30), bytes(30)) as size:
            assert size == 60
            assert await is_refused(bytes(20), bytes(21))
            assert not await is_refused(bytes(20), bytes(20))
            assert await is_refused(gzip.compress(bytes(100), mtime=0), content_encoding="gzip")
            assert not await is_refused(bytes(40))
        assert not await is_refused(bytes(100))
        with pytest.raises(Problem, match="truncated"):
            async with held(gzip.compress(b"", mtime=0)[:-1], content_encoding="gzip"):
                pass
        with pytest.raises(TypeError):
            async with reading.decoded(request(sent(bytes(60))), sum):
                raise TypeError
        assert not await is_refused(bytes(100))
        reading.close()

    asyncio.run(scenario())
