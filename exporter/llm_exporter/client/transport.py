"""HTTP to the exporter service: one kept-alive connection, JSON bodies in gzip."""

from __future__ import annotations

import gzip
import http.client
from collections.abc import Sequence
from typing import Final, NamedTuple
from urllib.parse import urlsplit

import msgspec

from ..call import Call
from ..errors import ConfigError

_encode: Final = msgspec.json.Encoder().encode


class ServiceUrl(NamedTuple):
    """The parts of a service's URL."""

    scheme: str
    host: str
    port: int
    path: str
    """Without a slash at its end."""


class Refused(Exception):  # noqa: N818
    """The service will not take calls, however often they are sent."""


class Away(Exception):  # noqa: N818
    """The service cannot take calls now."""


class ServiceClient:
    """The service at a URL.

    Raises:
        ConfigError: for what is no URL of a service.
    """

    def __init__(self, url: str) -> None:
        scheme, host, port, path = check_url(url)
        self._class = http.client.HTTPSConnection if scheme == "https" else http.client.HTTPConnection
        self.host = host
        self.port = port
        self._path = path
        self._connection: http.client.HTTPConnection | None = None

    def send(self, calls: Sequence[Call], timeout: float) -> None:
        """Return when the service has acknowledged calls.

        Raises:
            Away: when it does not answer, or not well.
            Refused: when it says that they are no calls.
        """
        self.post("/api/v1/calls", calls, timeout)

    def post(self, path: str, body: object, timeout: float) -> bytes:
        """Send something as JSON, and return what the service answers.

        Raises:
            Away: when it does not answer, or not well.
            Refused: when it says that it cannot be sent.
        """
        try:
            status, answer = self._post(path, gzip.compress(_encode(body), compresslevel=1), timeout)
        except (OSError, http.client.HTTPException) as error:
            self.close()
            raise Away(str(error) or type(error).__name__) from None
        if status in (400, 413, 422):
            raise Refused(f"HTTP {status}: {answer[:500].decode(errors='replace')}")
        if status != 200:
            raise Away(f"HTTP {status}: {answer[:500].decode(errors='replace')}")
        return answer

    def _post(self, path: str, body: bytes, timeout: float) -> tuple[int, bytes]:
        if self._connection is None:
            self._connection = self._class(self.host, self.port, timeout=timeout)
        elif self._connection.sock is not None:
            self._connection.sock.settimeout(timeout)
        headers = {"Content-Type": "application/json", "Content-Encoding": "gzip"}
        self._connection.request("POST", self._path + path, body, headers)
        answer = self._connection.getresponse()
        return answer.status, answer.read()

    def close(self) -> None:
        """Close the connection; the next `send` opens another."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None


def check_url(url: str) -> ServiceUrl:
    """Return the parts of a service's URL.

    Raises:
        ConfigError: if it is not the URL of a service.
    """
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError as error:
        raise ConfigError(f"LLM_EXPORTER_URL: {url!r} is no URL: {error}") from None
    if parts.scheme not in ("http", "https") or not host:
        raise ConfigError(f"LLM_EXPORTER_URL: {url!r} is no URL of a service: write http://127.0.0.1:9847")
    return ServiceUrl(
        parts.scheme, host, port or (443 if parts.scheme == "https" else 80), parts.path.rstrip("/")
    )
