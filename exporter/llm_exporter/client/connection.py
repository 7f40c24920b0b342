"""One kept-alive HTTP connection, whose requests have a deadline as a whole."""

from __future__ import annotations

import http.client
import io
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from typing_extensions import override

from ..http_url import HttpUrl
from ..sockets import HTTPConnection, default_tls

if TYPE_CHECKING:
    import socket
    import ssl

_MAX_RESPONSE: Final = 64 * 2**20
"""The largest body to read, in bytes. A page of 10,000 calls is a tenth of this."""


class Request(NamedTuple):
    """An HTTP request."""

    method: str
    path: str
    """Below the service's URL, with the query."""
    body: bytes | None
    headers: Mapping[str, str]


class Connection:
    """A connection to a service, opened by a request. Not thread-safe. Redirects are not followed."""

    def __init__(self, url: HttpUrl) -> None:
        self._url = url
        self._tls: ssl.SSLContext | None = None
        self._http: HTTPConnection | None = None

    def send(self, request: Request, timeout: float) -> tuple[int, bytes]:
        """Send a request, and return the status and the body of the response.

        Args:
            request: a request that is safe to send twice.
            timeout: seconds that the whole request may take.

        Raises:
            OSError: if the service cannot be reached, or does not answer in time.
            http.client.HTTPException: if it does not speak HTTP.
        """
        deadline = time.monotonic() + timeout
        try:
            return _read(self._begin(request, deadline))
        except (OSError, http.client.HTTPException):
            self.close()
            raise

    def close(self) -> None:
        """Close the connection. The next request opens another."""
        if self._http is not None:
            self._http.close()
            self._http = None

    def _begin(self, request: Request, deadline: float) -> http.client.HTTPResponse:
        """Send a request, and return the response up to its headers.

        A server closes a connection that has been idle for some seconds, and may do so while a request is on
        its way. So a request that fails on a connection used before is sent once more on a new one.
        """
        if self._http is not None:
            try:
                return self._exchange(self._http, request, deadline)
            except TimeoutError:
                raise
            except OSError:
                self.close()
        self._http = self._connect()
        return self._exchange(self._http, request, deadline)

    def _connect(self) -> HTTPConnection:
        if self._url.scheme == "https" and self._tls is None:
            self._tls = default_tls()
        return HTTPConnection(self._url.host, self._url.port, self._tls)

    def _exchange(
        self, connection: HTTPConnection, request: Request, deadline: float
    ) -> http.client.HTTPResponse:
        def respond(sock: socket.socket, **options: Any) -> http.client.HTTPResponse:
            return http.client.HTTPResponse(_Reading(sock, deadline), **options)  # type: ignore[arg-type]

        connection.timeout = _left(deadline)
        if connection.sock is not None:
            connection.sock.settimeout(_left(deadline))
        connection.response_class = respond  # type: ignore[assignment]
        connection.request(request.method, self._url.path + request.path, request.body, request.headers)
        return connection.getresponse()


class _Reading(io.RawIOBase):
    """Reads a response until a deadline. The timeout of a socket applies to each of its reads instead."""

    def __init__(self, sock: socket.socket, deadline: float) -> None:
        self._sock = sock
        self._raw = sock.makefile("rb", buffering=0)
        self._deadline = deadline

    def makefile(self, _: str) -> io.BufferedReader:
        """Return the file that an `HTTPResponse` asks its socket for."""
        return io.BufferedReader(self)

    @override
    def readable(self) -> bool:
        return True

    @override
    def readinto(self, buffer: Any) -> int | None:
        self._sock.settimeout(_left(self._deadline))
        return self._raw.readinto(buffer)

    @override
    def close(self) -> None:
        self._raw.close()
        super().close()


def _read(response: http.client.HTTPResponse) -> tuple[int, bytes]:
    body = response.read(_MAX_RESPONSE)
    if response.length:
        raise http.client.IncompleteRead(body, response.length)
    if len(body) == _MAX_RESPONSE:
        raise http.client.HTTPException(f"the response exceeds {_MAX_RESPONSE} bytes")
    return response.status, body


def _left(deadline: float) -> float:
    seconds = deadline - time.monotonic()
    if seconds <= 0:
        raise TimeoutError("timed out")
    return seconds
