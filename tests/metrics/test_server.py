"""The server for `/metrics` of a process: its limits, TLS and users."""

from __future__ import annotations

import base64
import logging
import os
import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.request import Request, urlopen

import bcrypt
import pytest

import llm_exporter
from llm_exporter.errors import ConfigError
from llm_exporter.metrics import server as module
from llm_exporter.metrics.collector import Metrics
from llm_exporter.metrics.server import MAX_CONNECTIONS, MetricsServer
from support.awaiting import until
from support.certificates import Certificates
from support.metered import Metered

GET = b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n"
HASH = bcrypt.hashpw(b"correct horse", bcrypt.gensalt(4)).decode()


@pytest.fixture
def server(metered: Metered) -> Iterator[MetricsServer]:
    server = llm_exporter.start_http_server(0)
    yield server
    server.close()


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "HEAD_SECONDS", 0.5)
    monkeypatch.setattr(module, "READ_SECONDS", 0.5)


def connect(server: MetricsServer, data: bytes = b"") -> socket.socket:
    connection = socket.create_connection(("127.0.0.1", server.port), timeout=60)
    connection.sendall(data)
    return connection


def read_all(connection: socket.socket) -> bytes:
    received = b""
    while block := connection.recv(65536):
        received += block
    return received


def exchange(server: MetricsServer, data: bytes) -> bytes:
    with connect(server, data) as connection:
        return read_all(connection)


def scrape(server: MetricsServer) -> bytes:
    with urlopen(f"http://127.0.0.1:{server.port}/metrics", timeout=60) as response:
        body = response.read()
    assert b"llm_exporter_build_info" in body
    return bytes(body)


def open_files() -> int:
    return len(os.listdir("/proc/self/fd"))


@pytest.mark.usefixtures("impatient")
def test_500_half_open_connections_use_up_no_files_and_the_next_scrape_succeeds(
    server: MetricsServer, caplog: pytest.LogCaptureFixture
) -> None:
    before = open_files()
    with ExitStack() as stack, caplog.at_level(logging.WARNING, "llm_exporter"):
        held = [stack.enter_context(connect(server, b"GET /metrics HTTP/1.1\r\n")) for _ in range(500)]
        assert open_files() - before - len(held) <= MAX_CONNECTIONS + 1
        until(lambda: open_files() <= before + len(held))  # earlier tests may have left some to be collected
        scrape(server)
    assert [record.getMessage() for record in caplog.records] == [
        f"llm-exporter: {MAX_CONNECTIONS} clients are connected to /metrics, which is the maximum: further"
        " ones are refused"
    ]


def test_a_client_too_many_is_told_so(server: MetricsServer) -> None:
    with ExitStack() as stack:
        for _ in range(MAX_CONNECTIONS):
            stack.enter_context(connect(server))
        assert exchange(server, b"").startswith(b"HTTP/1.1 503 Service Unavailable\r\n")
    until(lambda: server._server._places._value == MAX_CONNECTIONS)
    scrape(server)


@pytest.mark.usefixtures("impatient")
def test_headers_that_trickle_in_end_the_connection(server: MetricsServer) -> None:
    with connect(server, b"GET /metrics HTTP/1.1\r\nx: ") as connection:
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
def test_a_client_that_does_not_read_a_large_scrape_loses_its_connection() -> None:
    class Large(Metrics):
        def text(self, **options: Any) -> Iterator[bytes]:
            yield bytes(64 * 2**20)

    server = MetricsServer(Large, 0, "127.0.0.1")
    try:
        with connect(server, GET) as connection:
            assert connection.recv(1) == b"H"
            until(lambda: server._server._places._value == MAX_CONNECTIONS)
    finally:
        server.close()


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (GET, b"200 OK"),
        (b"GET /metrics HTTP/1.0\r\n\r\n", b"200 OK"),
        (b"POST /metrics HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\n", b"405 Method Not Allowed"),
        (b"GET /metrics HTTP/1.1\r\nX: " + b"x" * 20_000, b"431 Request Header Fields Too Large"),
        (b"\r\n\r\n", b"400 Bad Request"),
        (b"GET /metrics\r\n\r\n", b"400 Bad Request"),
        (b"GET /metrics HTTP/1.1\r\nno colon\r\n\r\n", b"400 Bad Request"),
        (b"\x16\x03\x01\x02\x00\r\n\r\n", b"400 Bad Request"),
    ],
    ids=["GET", "HTTP/1.0", "POST", "long headers", "empty", "HTTP/0.9", "no colon", "TLS"],
)
def test_a_request_gets_the_response_that_it_deserves(
    server: MetricsServer, request_: bytes, status: bytes
) -> None:
    assert exchange(server, request_).split(b"\r\n")[0] == b"HTTP/1.1 " + status


@pytest.mark.parametrize(
    ("host", "status"),
    [
        (b"localhost:9847", b"200 OK"),
        (b"127.0.0.1:9847", b"200 OK"),
        (b"[::1]:9847", b"200 OK"),
        (b"app.localhost", b"200 OK"),
        (b"exporter", b"200 OK"),
        (b"rebind.attacker.example:9847", b"421 Misdirected Request"),
        (b"127.0.0.1.attacker.example", b"421 Misdirected Request"),
    ],
)
def test_a_page_cannot_read_the_metrics_by_dns_rebinding(
    server: MetricsServer, host: bytes, status: bytes
) -> None:
    answer = exchange(server, b"GET /metrics HTTP/1.1\r\nHost: " + host + b"\r\n\r\n")
    assert answer.split(b"\r\n")[0] == b"HTTP/1.1 " + status


def test_an_error_is_counted_and_survived(
    metered: Metered, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = Metrics()
    counted: list[str] = []
    monkeypatch.setattr(broken, "text", lambda **_: 1 / 0)
    monkeypatch.setattr(broken, "count_error", counted.append)
    server = MetricsServer(lambda: broken, 0, "127.0.0.1")
    try:
        for _ in range(2):
            assert exchange(server, GET).startswith(b"HTTP/1.1 500 Internal Server Error\r\n")
    finally:
        server.close()
    assert counted == ["metrics", "metrics"]
    assert "ZeroDivisionError" in caplog.text


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("127.0.0.1", ""),
        (
            "0.0.0.0",
            "llm-exporter: whoever can connect to http://0.0.0.0:{port}/metrics can read the metrics",
        ),
    ],
)
def test_a_server_that_other_machines_can_reach_says_so(
    address: str, expected: str, metered: Metered, caplog: pytest.LogCaptureFixture
) -> None:
    server = llm_exporter.start_http_server(0, address)
    server.close()
    assert "\n".join(record.getMessage() for record in caplog.records) == expected.format(port=server.port)


# ---- with a web configuration file


def test_users_and_headers(tmp_path: Path, metered: Metered, caplog: pytest.LogCaptureFixture) -> None:
    file = tmp_path / "web.yml"
    headers = "http_server_config: {headers: {X-Frame-Options: deny}}\n"
    file.write_text(f"basic_auth_users: {{prometheus: {HASH}}}\n{headers}")
    server = llm_exporter.start_http_server(0, "0.0.0.0", web_config_file=file)
    url = f"http://127.0.0.1:{server.port}/metrics"

    def status(credentials: str) -> int:
        header = "Basic " + base64.b64encode(credentials.encode()).decode()
        try:
            response = urlopen(Request(url, headers={"Authorization": header}), timeout=60)
        except HTTPError as error:
            response = error
        with response:
            assert response.headers["X-Frame-Options"] == "deny"
            assert (response.status == 401) == (response.headers["WWW-Authenticate"] is not None)
            return int(response.status)

    try:
        assert status("prometheus:correct horse") == 200
        assert status("prometheus:wrong") == 401
        assert status("nobody:correct horse") == 401
        assert b" 401 Unauthorized\r\n" in exchange(server, GET)
    finally:
        server.close()
    assert caplog.records == []


TLS = "tls_server_config:\n  cert_file: server.pem\n  key_file: server.key\n"
CLIENTS = TLS + "  client_auth_type: RequireAndVerifyClientCert\n  client_ca_file: ca.pem\n"


@pytest.fixture
def certificates(tmp_path: Path) -> Certificates:
    certificates = Certificates(tmp_path)
    certificates.issue("127.0.0.1")
    return certificates


def served(tmp_path: Path, text: str, name: str = "web.yml") -> MetricsServer:
    (tmp_path / name).write_text(text)
    return llm_exporter.start_http_server(0, web_config_file=tmp_path / name)


def https_status(server: MetricsServer, context: ssl.SSLContext, **headers: str) -> int | None:
    """Return the status of a scrape; None if either side refuses the other."""
    request = Request(f"https://127.0.0.1:{server.port}/metrics", headers=headers)
    try:
        with urlopen(request, timeout=60, context=context) as response:
            assert b"llm_exporter_build_info" in response.read()
            return int(response.status)
    except HTTPError as error:
        with error:
            return error.code
    except (URLError, ConnectionError, ssl.SSLError):
        return None


@pytest.mark.usefixtures("metered")
def test_tls_and_a_client_that_never_starts_the_handshake(tmp_path: Path, certificates: Certificates) -> None:
    server = served(tmp_path, TLS)
    try:
        assert repr(server) == f"<MetricsServer https://127.0.0.1:{server.port}/metrics>"
        with connect(server):
            assert https_status(server, certificates.client_context()) == 200
        assert https_status(server, ssl.create_default_context()) is None
    finally:
        server.close()


@pytest.mark.usefixtures("metered")
def test_only_clients_with_a_certificate_of_an_allowed_name(
    tmp_path: Path, certificates: Certificates
) -> None:
    allowed = certificates.issue("prometheus.acme.example", name="allowed")
    other = certificates.issue("other.acme.example", name="other")
    (tmp_path / "elsewhere").mkdir()
    foreign = Certificates(tmp_path / "elsewhere").issue("prometheus.acme.example", name="foreign")
    any_name, one_name = served(tmp_path, CLIENTS), None
    try:
        one_name = served(tmp_path, CLIENTS + "  client_allowed_sans: [prometheus.acme.example]\n", "one.yml")
        for certificate, statuses in [(allowed, (200, 200)), (other, (200, None)), (foreign, (None, None))]:
            context = certificates.client_context(certificate)
            assert (https_status(any_name, context), https_status(one_name, context)) == statuses
            assert https_status(any_name, context, Host="metrics.acme.example") == statuses[0]
        assert https_status(any_name, certificates.client_context()) is None
    finally:
        any_name.close()
        if one_name:
            one_name.close()


def test_a_mistake_in_the_file_starts_no_server(tmp_path: Path) -> None:
    threads = threading.active_count()
    with pytest.raises(ConfigError, match=r"web.yml:2: tls_server_config.cert_file: .*No such file"):
        served(tmp_path, TLS)
    assert threading.active_count() == threads
