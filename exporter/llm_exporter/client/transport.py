"""HTTP to the exporter service: one kept-alive connection, JSON bodies compressed with gzip."""

from __future__ import annotations

import gzip
import http.client
from collections.abc import Sequence
from typing import Final

import msgspec

from ..call import Call
from .service_url import check_url

_encode: Final = msgspec.json.Encoder().encode


class Rejected(Exception):  # noqa: N818
    """The service rejects a request for good: sending it again would not help."""


class Unavailable(Exception):  # noqa: N818
    """The service cannot be reached, or cannot answer now."""


class ServiceClient:
    """A client of the service at a URL. Not thread-safe.

    Raises:
        ConfigError: if it is not the URL of a service.
    """

    def __init__(self, url: str) -> None:
        scheme, host, port, path = check_url(url)
        self._class = http.client.HTTPSConnection if scheme == "https" else http.client.HTTPConnection
        self.host = host
        self.port = port
        self._path = path
        self._connection: http.client.HTTPConnection | None = None

    def send(self, calls: Sequence[Call], timeout: float) -> None:
        """Send calls, and return once the service has acknowledged them.

        Raises:
            Unavailable: if it does not answer, or not with success.
            Rejected: if it answers that they are not valid calls.
        """
        self.post("/api/v1/calls", calls, timeout)

    def post(self, path: str, body: object, timeout: float) -> bytes:
        """Post a JSON body, and return the body of the response.

        Raises:
            Unavailable: if the service does not answer, or not with success.
            Rejected: if it answers that the request is invalid.
        """
        try:
            status, response = self._post(path, gzip.compress(_encode(body), compresslevel=1), timeout)
        except (OSError, http.client.HTTPException) as error:
            self.close()
            raise Unavailable(str(error) or type(error).__name__) from None
        if status in (400, 413, 422):
            raise Rejected(f"HTTP {status}: {response[:500].decode(errors='replace')}")
        if status != 200:
            raise Unavailable(f"HTTP {status}: {response[:500].decode(errors='replace')}")
        return response

    def _post(self, path: str, body: bytes, timeout: float) -> tuple[int, bytes]:
        if self._connection is None:
            self._connection = self._class(self.host, self.port, timeout=timeout)
        elif self._connection.sock is not None:
            self._connection.sock.settimeout(timeout)
        headers = {"Content-Type": "application/json", "Content-Encoding": "gzip"}
        self._connection.request("POST", self._path + path, body, headers)
        response = self._connection.getresponse()
        return response.status, response.read()

    def close(self) -> None:
        """Close the connection. The next request opens another."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None
