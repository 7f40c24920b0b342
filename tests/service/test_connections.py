"""Clients that are slow or many do not keep the service from responding to others."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

import pytest
import uvicorn

from llm_exporter.service import connections
from llm_exporter.service.connections import Listener, Loop, Protocol
from support.awaiting import until

HEAD = b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 5\r\n"
MANY = 20
BIG = 64 * 2**20

listeners: list[Listener] = []
"""Those of the servers that were started."""


async def app(scope: object, receive: Callable[..., object], send: Callable[..., object]) -> None:
    """Respond to `/big` with more than a socket buffers, to `/stream` slowly, and read each body."""
    assert isinstance(scope, dict)
    if scope["type"] != "http":
        return
    message = await receive()  # type: ignore[misc]
    while message.get("more_body"):
        message = await receive()  # type: ignore[misc]
    await send({"type": "http.response.start", "status": 200, "headers": []})  # type: ignore[misc]
    if scope["path"] == "/stream":
        for _ in range(3):
            await send({"type": "http.response.body", "body": b"event\n", "more_body": True})  # type: ignore[misc]
            await asyncio.sleep(1)
    body = bytes(BIG) if scope["path"] == "/big" else b"done"
    await send({"type": "http.response.body", "body": body})  # type: ignore[misc]


@contextmanager
def served(limit: int = 1000) -> Iterator[int]:
    """Serve on another thread, and yield the port."""
    listening = socket.create_server(("127.0.0.1", 0))
    port = listening.getsockname()[1]
    config = uvicorn.Config(app, http=Protocol, ws="none", lifespan="off", log_level="error")
    server = uvicorn.Server(config)
    with Listener(listening, limit, respond=True) as listener:
        listeners.append(listener)

        def run() -> None:
            with asyncio.Runner(loop_factory=Loop) as runner:
                runner.run(server.serve(sockets=[listener]))

        thread = threading.Thread(target=run)
        thread.start()
        try:
            yield port
        finally:
            server.should_exit = True
            thread.join()


def connect(port: int, data: bytes = b"") -> socket.socket:
    connection = socket.create_connection(("127.0.0.1", port), timeout=60)
    connection.sendall(data)
    return connection


def get(port: int, path: str = "/") -> bytes:
    with connect(port, f"GET {path} HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n".encode()) as connection:
        return read_all(connection)


def read_all(connection: socket.socket) -> bytes:
    received = b""
    while block := connection.recv(65536):
        received += block
    return received


def is_closed(connection: socket.socket) -> bool:
    """Wait until the server closes a connection."""
    try:
        return connection.recv(1) == b""
    except ConnectionError:
        return True


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HEAD_SECONDS", "BODY_SECONDS", "READ_SECONDS"):
        monkeypatch.setattr(connections, name, 0.5)


@pytest.mark.parametrize(
    "sent",
    [b"", b"GET / HTTP/1.1\r\nhost:", HEAD + b"\r\n12"],
    ids=["nothing", "half a head", "half a body"],
)
@pytest.mark.usefixtures("impatient")
def test_a_request_that_does_not_arrive_ends_its_connection(sent: bytes) -> None:
    with served() as port, connect(port, sent) as connection:
        assert is_closed(connection)
        assert get(port).endswith(b"done\r\n0\r\n\r\n")


@pytest.mark.parametrize("start", [b"GET / HTTP/1.1\r\nx: ", HEAD.replace(b" 5", b" 5000") + b"\r\n"])
@pytest.mark.usefixtures("impatient")
def test_a_request_that_trickles_in_ends_its_connection(start: bytes) -> None:
    """Each byte would extend a timeout for the time between two of them."""
    with served() as port, connect(port, start) as connection:
        connection.settimeout(0.05)
        with pytest.raises(ConnectionError):  # noqa: PT012
            while True:
                connection.sendall(b"a")
                try:
                    if not connection.recv(1):
                        raise ConnectionError
                except TimeoutError:
                    continue


@pytest.mark.usefixtures("impatient")
def test_the_second_request_of_a_connection_has_no_more_time() -> None:
    request = b"GET / HTTP/1.1\r\nhost: a\r\n\r\n"
    with served() as port, connect(port, request) as connection:
        received = b""
        while not received.endswith(b"done\r\n0\r\n\r\n"):
            received += connection.recv(65536)
        connection.sendall(b"GET / HT")
        assert is_closed(connection)


@pytest.mark.parametrize("keep_alive", ["close", "keep-alive"])
@pytest.mark.usefixtures("impatient")
def test_a_client_that_does_not_read_its_response_loses_its_connection(keep_alive: str) -> None:
    with served() as port:
        request = f"GET /big HTTP/1.1\r\nhost: a\r\nconnection: {keep_alive}\r\n\r\n"
        with connect(port, request.encode()) as connection:
            assert connection.recv(1) == b"H"
            until(lambda: listeners[-1].connections == 0)


@pytest.mark.usefixtures("impatient")
def test_an_event_stream_stays_open() -> None:
    """For longer than a client may take to send a request."""
    with served() as port:
        assert get(port, "/stream").count(b"event") == 3


def test_connections_beyond_the_maximum_are_closed_at_once(caplog: pytest.LogCaptureFixture) -> None:
    with served(limit=MANY) as port, ExitStack() as stack:
        held = [stack.enter_context(connect(port, b"GET / HTTP/1.1\r\n")) for _ in range(MANY)]
        for _ in range(MANY):
            with connect(port) as connection:
                assert read_all(connection).startswith(b"HTTP/1.1 503 Service Unavailable\r\n")
        messages = [record.getMessage() for record in caplog.records if record.name == "llm_exporter"]
        assert messages == [
            f"llm-exporter: {MANY} connections are open, which is the maximum: new ones are closed"
        ]
        for connection in held:
            connection.sendall(b"host: a\r\nconnection: close\r\n\r\n")
            assert read_all(connection).endswith(b"0\r\n\r\n")
        until(lambda: listeners[-1].connections == 0)
        assert get(port).endswith(b"0\r\n\r\n")
