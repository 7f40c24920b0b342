"""What counts as an answer of the service, and what is shown to it."""

from __future__ import annotations

import re
import socket
import ssl
import threading
from base64 import b64encode
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import trustme

import llm_exporter
from llm_exporter.client.pipeline import Pipeline
from llm_exporter.client.service_url import check_url
from llm_exporter.client.transport import Rejected, ServiceClient, Unavailable
from support.awaiting import DEADLINE
from support.calls import a_call
from support.scripted import Response, Server

CALLS = "/api/v1/calls"
RECEIPT = Response(b'{"accepted": 1, "duplicates": 0}')
Make = Callable[[str], ServiceClient]


@pytest.fixture
def make() -> Iterator[Make]:
    """Make a client of the service at a URL."""
    made: list[ServiceClient] = []

    def client(url: str) -> ServiceClient:
        made.append(ServiceClient(url))
        return made[-1]

    yield client
    for one in made:
        one.close()


@contextmanager
def answering(serve: Callable[[socket.socket, int], None]) -> Iterator[str]:
    """Serve each connection by a function of its socket and number, on a thread; yield the URL."""
    listener = socket.create_server(("127.0.0.1", 0))

    def work() -> None:
        for number in range(100):
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            with connection:
                serve(connection, number)

    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join(DEADLINE)


def respond(connection: socket.socket) -> None:
    """Read a request and acknowledge one call."""
    data = b""
    while b"\r\n\r\n" not in data:
        data += connection.recv(65536)
    head, _, body = data.partition(b"\r\n\r\n")
    (length,) = re.findall(rb"(?i)content-length: (\d+)", head)
    while len(body) < int(length):  # closing with unread data would reset the connection
        body += connection.recv(65536)
    connection.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: 32\r\n\r\n" + RECEIPT.body)  # type: ignore[operator]


@pytest.mark.parametrize(
    "answer",
    [
        Response(b"<html>Log in to the network</html>", content_type="text/html"),
        Response(b""),
        Response(b"{}"),
        Response(b'{"accepted": 0, "duplicates": 0}'),
        Response(b'{"accepted": true, "duplicates": 0}'),
        Response(b'{"accepted": 2, "duplicates": 0}'),
        Response(b"", status=204),
        Response(b"", status=302, headers={"location": "http://127.0.0.1:9/login"}),
        Response(b"<html>Bad Request</html>", status=400),
        Response(b"", status=404),
    ],
    ids=[
        "page",
        "empty",
        "object",
        "none",
        "boolean",
        "more",
        "no content",
        "redirect",
        "bad request",
        "not found",
    ],
)
def test_only_a_receipt_for_all_calls_acknowledges_them(make: Make, server: Server, answer: Response) -> None:
    server.respond_with(CALLS, answer)
    with pytest.raises(Unavailable, match="does not answer like an llm-exporter service"):
        make(server.url).send([a_call()], DEADLINE)
    assert len(server.requests) == 1


def test_the_service_rejects_invalid_calls_for_good(make: Make, server: Server) -> None:
    server.respond_with(CALLS, Response(b'{"detail": "call 0: id must not be empty"}', status=400))
    with pytest.raises(Rejected, match="HTTP 400: call 0: id must not be empty"):
        make(server.url).send([a_call()], DEADLINE)


def test_a_request_on_a_connection_that_was_closed_while_idle_is_sent_again(make: Make) -> None:
    served = []

    def serve(connection: socket.socket, number: int) -> None:
        respond(connection)
        served.append(number)

    with answering(serve) as url:
        client = make(url)
        for _ in range(3):
            client.send([a_call()], DEADLINE)
    assert served == [0, 1, 2]


def test_a_failure_on_a_new_connection_is_not_retried(make: Make) -> None:
    served = []

    def serve(connection: socket.socket, number: int) -> None:
        served.append(number)

    with answering(serve) as url, pytest.raises(Unavailable):
        make(url).send([a_call()], DEADLINE)
    assert served == [0]


def test_a_response_that_drips_does_not_outlast_the_timeout(make: Make) -> None:
    """Each byte arrives within the timeout, the whole response does not."""
    given_up = threading.Event()

    def serve(connection: socket.socket, number: int) -> None:
        connection.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: 10000000\r\n\r\n")
        try:
            while not given_up.wait(0.02):
                connection.sendall(b"{")
        except OSError:
            pass

    with answering(serve) as url:
        try:
            with pytest.raises(Unavailable, match="timed out"):
                make(url).send([a_call()], 0.5)
        finally:
            given_up.set()


# ---- credentials


def shown(server: Server) -> str:
    return server.requests[-1].headers.get("authorization", "")


def test_a_token_is_shown(make: Make, server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    server.respond_with(CALLS, RECEIPT)
    client = make(server.url.replace("//", "//user:pass@"))
    client.send([a_call()], DEADLINE)
    assert shown(server) == "Basic " + b64encode(b"user:pass").decode()
    monkeypatch.setenv("LLM_EXPORTER_TOKEN", "s3cret")
    client.send([a_call()], DEADLINE)
    assert shown(server) == "Bearer s3cret"


def test_a_token_file_is_read_again_when_it_changes(
    make: Make, server: Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    server.respond_with(CALLS, RECEIPT)
    file = tmp_path / "token"
    monkeypatch.setenv("LLM_EXPORTER_TOKEN_FILE", str(file))
    client = make(server.url)
    for token in ("first", "second"):
        file.write_text(f"{token}\n")
        client.send([a_call()], DEADLINE)
        assert shown(server) == f"Bearer {token}"
    file.unlink()
    with pytest.raises(Unavailable, match=f"LLM_EXPORTER_TOKEN_FILE: {file}: No such file or directory"):
        client.send([a_call()], DEADLINE)


@pytest.mark.parametrize(
    "token", ["with\nnewline", "with space", "schlüssel"], ids=["newline", "space", "umlaut"]
)
def test_an_invalid_token_raises_at_once_and_is_not_shown(
    pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch, token: str
) -> None:
    monkeypatch.setenv("LLM_EXPORTER_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("LLM_EXPORTER_TOKEN", token)
    with pytest.raises(llm_exporter.ConfigError) as error:
        llm_exporter.instrument()
    assert str(error.value) == (
        "LLM_EXPORTER_TOKEN: a token has only printable ASCII characters, and no spaces"
    )


@pytest.mark.parametrize("status", [401, 403])
def test_a_missing_right_names_the_variable(make: Make, server: Server, status: int) -> None:
    server.respond_with(CALLS, Response(b"", status=status))
    with pytest.raises(Unavailable, match=rf"HTTP {status}: .*LLM_EXPORTER_TOKEN_FILE"):
        make(server.url).send([a_call()], DEADLINE)


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("http://u:s3cret@host:port", "must have a valid host and port"),
        ("ftp://u:s3cret@host", "must begin with http:// or https://"),
        ("http://u:s3/cret@host", "must be percent-encoded"),
        ("http:/u:s3cret@host", "must begin with http:// or https://"),
    ],
)
def test_no_message_contains_a_password(url: str, message: str) -> None:
    with pytest.raises(llm_exporter.ConfigError, match=message) as error:
        check_url(url)
    assert "s3" not in str(error.value)


def test_neither_repr_nor_error_contains_a_password(make: Make, pipeline: Pipeline) -> None:
    url = "http://user:s3%40cret@127.0.0.1:9"
    assert check_url(url).credentials == "user:s3@cret"
    assert "cret" not in f"{check_url(url)!r} {check_url(url)}"
    pipeline.ship_to(url)
    assert repr(pipeline) == "<Pipeline shipping to http://127.0.0.1:9>"
    with pytest.raises(Unavailable) as error:
        make(url).send([a_call()], DEADLINE)
    assert str(error.value) == "http://127.0.0.1:9: [Errno 111] Connection refused"


def test_certificates_are_verified_with_the_store_of_the_system(
    make: Make, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """`SSL_CERT_FILE` names a store in its place."""
    authority = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)

    def serve(connection: socket.socket, _: int) -> None:
        try:
            with context.wrap_socket(connection, server_side=True) as secured:
                respond(secured)
        except OSError:
            pass  # the client does not trust us

    with answering(serve) as url:
        secure = url.replace("http:", "https:")
        with pytest.raises(Unavailable, match="CERTIFICATE_VERIFY_FAILED"):
            make(secure).send([a_call()], DEADLINE)
        store = tmp_path / "authority.pem"
        authority.cert_pem.write_to_path(str(store))
        monkeypatch.setenv("SSL_CERT_FILE", str(store))
        client = make(secure)
        client.send([a_call()], DEADLINE)
