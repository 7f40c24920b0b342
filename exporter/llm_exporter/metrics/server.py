"""A server for `/metrics` on threads of its own, which cannot harm the process that it is in.

Its threads and sockets are those of the operating system, whatever gevent or eventlet has replaced, so it
neither waits for their event loop nor holds it up.

It has a limited number of connections, each for one request, and each step of a connection has a time limit:
a client that is slow on purpose would otherwise use up the process's file descriptors and threads.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from email.utils import formatdate
from functools import partial
from typing import TYPE_CHECKING, Final

from typing_extensions import override

from ..host_names import is_loopback, is_registrable, name_and_port
from ..log import log
from ..sockets import listen
from ..threads import Event, Lock, Thread, run_once
from .collector import Metrics
from .http import MetricsResponse, respond

if TYPE_CHECKING:
    from ..web_config import WebConfig

MAX_CONNECTIONS: Final = 50
HEAD_SECONDS: Final = 10.0
"""How long the TLS handshake and the headers of a request may take, each."""
READ_SECONDS: Final = 60.0
"""How long a client may take to read the response."""
_MAX_HEAD: Final = 16 * 1024
"""Bytes in the request line and the headers."""
_CHUNK: Final = 256 * 1024
_WARN_SECONDS: Final = 60.0
_BACKLOG: Final = 64
_POLL_SECONDS: Final = 0.5
"""How often the server looks whether it is to close."""
_PAUSE_SECONDS: Final = 0.1
_CLOSE_SECONDS: Final = 60.0
_FULL: Final = b"HTTP/1.1 503 Service Unavailable\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"


class MetricsServer:
    """A running HTTP server for `/metrics`, on separate threads.

    Args:
        metrics: returns the metrics to show; called for each request.
        port: the TCP port; 0 for any free one.
        addr: the address to listen on.
        web: TLS, users and headers.

    Raises:
        OSError: if it cannot listen on the address. The message names the port.
    """

    def __init__(
        self, metrics: Callable[[], Metrics], port: int, addr: str, web: WebConfig | None = None
    ) -> None:
        try:
            listening = listen(addr, port, _BACKLOG)
        except OSError as error:
            reason = error.strerror or str(error)
            raise OSError(
                error.errno, f"cannot listen on port {port} of {addr or 'any address'}: {reason}"
            ) from None
        self._server = _Server(listening, metrics, web)
        self.port: int = self._server.address[1]
        """The port it listens on, even if 0 was given."""
        self._url = f"{'https' if self._server.context else 'http'}://{_bracketed(addr)}:{self.port}/metrics"
        if not self._server.is_local and not (web and web.authenticates):
            log.warning("llm-exporter: whoever can connect to %s can read the metrics", self._url)
        self._thread = Thread(self._server.serve, "llm-exporter-metrics", self._server.report)
        self._thread.start()

    def __repr__(self) -> str:
        return f"<MetricsServer {self._url}>"

    @property
    def is_running(self) -> bool:
        """Whether it has not been closed."""
        return not self._server.closing.is_set()

    def close(self) -> None:
        """Stop the server."""
        self._server.closing.set()
        self._thread.join(_CLOSE_SECONDS)


class NoServer(MetricsServer):
    """What `start_http_server` returns while llm-exporter is switched off. It listens on no port."""

    def __init__(self, port: int) -> None:
        self.port = port

    def __repr__(self) -> str:
        return "<MetricsServer off>"

    @property
    @override
    def is_running(self) -> bool:
        return False

    @override
    def close(self) -> None:
        pass


class _Server:
    def __init__(
        self, listening: socket.socket, metrics: Callable[[], Metrics], web: WebConfig | None
    ) -> None:
        self._listening = listening
        self._metrics = metrics
        self._web = web
        self.address = listening.getsockname()
        self.context = web.ssl_context() if web else None
        self.is_local = is_loopback(str(self.address[0]))
        self.closing = Event()
        self._places = _Places(MAX_CONNECTIONS)
        self._warned = -_WARN_SECONDS

    def serve(self) -> None:
        """Accept connections until the server is closing."""
        self._listening.settimeout(_POLL_SECONDS)
        while not self.closing.is_set():
            try:
                connection, _ = self._listening.accept()
            except TimeoutError:
                continue
            except OSError:  # the process may have no file descriptors left: do not try all the time
                self.closing.wait(_PAUSE_SECONDS)
                continue
            self._start(connection)
        self._listening.close()

    def report(self, error: BaseException) -> None:
        """Count an error of ours, and log it."""
        log.error("llm-exporter: cannot serve /metrics: %s", repr(error))
        with suppress(Exception):  # it may be the metrics that fail
            self._metrics().count_error("metrics")

    def _start(self, connection: socket.socket) -> None:
        if not self._places.take():
            self._refuse(connection)
            return
        try:
            run_once(partial(self._serve, connection))
        except RuntimeError:  # no thread could be started
            self._places.give_back()
            connection.close()

    def _serve(self, connection: socket.socket) -> None:
        try:
            self._respond(connection)
        except Exception:  # noqa: S110  # of the connection, such as a timeout: `_response` reports ours
            pass
        finally:
            self._places.give_back()

    def _respond(self, accepted: socket.socket) -> None:
        with accepted:
            accepted.settimeout(HEAD_SECONDS)
            if self.context is None:
                _send(accepted, self._response(_received_head(accepted)))
                return
            with self.context.wrap_socket(
                accepted, server_side=True, do_handshake_on_connect=False
            ) as secure:
                secure.do_handshake()
                _send(secure, self._response(_received_head(secure)))

    def _refuse(self, connection: socket.socket) -> None:
        with connection, suppress(OSError):
            if self.context is None:
                connection.setblocking(False)
                connection.send(_FULL)
                connection.shutdown(socket.SHUT_WR)
        if time.monotonic() - self._warned >= _WARN_SECONDS:
            self._warned = time.monotonic()
            log.warning(
                "llm-exporter: %d clients are connected to /metrics, which is the maximum: further ones are"
                " refused",
                MAX_CONNECTIONS,
            )

    def _response(self, head: bytes | None) -> MetricsResponse:
        try:
            response = self._answer(head)
            headers = [*response.headers, ("X-Content-Type-Options", "nosniff")]
            if self._web is not None:
                own = self._web.headers
                headers = [*(header for header in headers if header[0] not in own), *own.items()]
        except BaseException as error:  # the thread is ours, so nobody is meant to get it
            self.report(error)
            return _plain("500 Internal Server Error")
        else:
            return MetricsResponse(response.status, headers, response.body)

    def _answer(self, head: bytes | None) -> MetricsResponse:
        if head is None:
            return _plain("431 Request Header Fields Too Large")
        request = _parsed(head)
        if request is None:
            return _plain("400 Bad Request")
        method, query, headers = request
        return self._refusal(headers) or respond(self._metrics, method, query, headers)

    def _refusal(self, headers: Mapping[str, str]) -> MetricsResponse | None:
        web = self._web
        if web is not None and not web.within_rate_limit():
            return _plain("429 Too Many Requests")
        if web is not None and web.users:
            from ..web_config import credentials  # noqa: PLC0415  # loaded with the web configuration

            given = credentials(headers.get("authorization"))
            if given is None or not web.check_password(*given):
                return _plain("401 Unauthorized", ("WWW-Authenticate", 'Basic realm="llm-exporter"'))
            return None
        if web is not None and web.requires_certificate:
            return None  # TLS ends before this, as the certificate is not for the attacker's name
        if self.is_local and is_registrable(name_and_port(headers.get("host", ""))[0]):
            # A page of another site would read the metrics by DNS rebinding.
            return _plain("421 Misdirected Request")
        return None


class _Places:
    """How many more connections there may be."""

    def __init__(self, number: int) -> None:
        self._value = number
        self._lock = Lock()

    def take(self) -> bool:
        """Take a place, and return whether there was one."""
        with self._lock:
            if not self._value:
                return False
            self._value -= 1
            return True

    def give_back(self) -> None:
        """Make a place free again."""
        with self._lock:
            self._value += 1


def _bracketed(addr: str) -> str:
    return f"[{addr}]" if ":" in addr else addr


def _received_head(connection: socket.socket) -> bytes | None:
    """Return a request up to the empty line; None if it is too long.

    Raises:
        OSError: if it does not arrive in time, or the client is gone.
    """
    ends = time.monotonic() + HEAD_SECONDS
    received = b""
    while b"\r\n\r\n" not in received:
        if len(received) > _MAX_HEAD:
            return None
        connection.settimeout(_left(ends))
        block = connection.recv(_MAX_HEAD)
        if not block:
            raise ConnectionResetError("the client is gone")
        received += block
    return received.partition(b"\r\n\r\n")[0]


def _parsed(head: bytes) -> tuple[str, str, dict[str, str]] | None:
    """Return the method, the query and the headers of a request; None if it is invalid."""
    first, *lines = head.decode("latin-1").split("\r\n")
    words = first.split(" ")
    if len(words) != 3 or not words[2].startswith("HTTP/1."):
        return None
    headers: dict[str, str] = {}
    for line in lines:
        name, colon, value = line.partition(":")
        if not colon or not name or name != name.strip():
            return None
        name, value = name.lower(), value.strip()
        headers[name] = f"{headers[name]}, {value}" if name in headers else value
    return words[0], words[1].partition("?")[2], headers


def _plain(status: str, *headers: tuple[str, str]) -> MetricsResponse:
    body = f"{status[4:]}\n".encode()
    fields = [("Content-Type", "text/plain; charset=utf-8"), ("Content-Length", str(len(body))), *headers]
    return MetricsResponse(status, fields, [body])


def _send(connection: socket.socket, response: MetricsResponse) -> None:
    fields = [("Date", formatdate(usegmt=True)), *response.headers, ("Connection", "close")]
    lines = [f"HTTP/1.1 {response.status}", *(f"{name}: {value}" for name, value in fields), "", ""]
    ends = time.monotonic() + READ_SECONDS
    for chunk in _chunks(["\r\n".join(lines).encode("latin-1"), *response.body]):
        connection.settimeout(_left(ends))
        connection.sendall(chunk)


def _chunks(pieces: Iterable[bytes]) -> Iterable[memoryview]:
    for piece in pieces:
        view = memoryview(piece)
        for start in range(0, len(view), _CHUNK):
            yield view[start : start + _CHUNK]


def _left(ends: float) -> float:
    left = ends - time.monotonic()
    if left <= 0:
        raise TimeoutError
    return left
