"""Requests to the exporter service, and what its answers mean. Bodies are JSON, compressed with gzip."""

from __future__ import annotations

import gzip
import http.client
from collections.abc import Sequence
from typing import Final

import msgspec

from ..bounds import clean_text
from ..call import Call
from ..errors import ConfigError
from .connection import Connection, Request
from .credentials import authorization
from .service_url import check_url

_encode: Final = msgspec.json.Encoder().encode


class Rejected(Exception):  # noqa: N818
    """The service rejects a request for good. Sending it again would not help, but parts of it may do."""


class Unavailable(Exception):  # noqa: N818
    """The service cannot be reached, or cannot answer now."""


class NotTheService(Unavailable):
    """Something else answers at the URL, which may be wrong. A network's login page is there for a while."""


class _Receipt(msgspec.Struct):
    """The service's answer to calls."""

    accepted: int
    duplicates: int


class _Problem(msgspec.Struct):
    """The body of an error of the service."""

    detail: str


class ServiceClient:
    """A client of the service at a URL. Not thread-safe.

    Raises:
        ConfigError: if it is not the URL of a service.
    """

    def __init__(self, url: str) -> None:
        self.url = check_url(url)
        self._connection = Connection(self.url)

    def send(self, calls: Sequence[Call | msgspec.Raw], timeout: float) -> None:
        """Send calls, and return once the service has acknowledged them.

        Something else may answer with success, such as the login page of a network.

        Args:
            calls: the calls, or their JSON.
            timeout: seconds that the request may take.

        Raises:
            Unavailable: if it does not answer, or not with a receipt for these calls.
            Rejected: if it answers that they are not valid calls.
        """
        response = self.post("/api/v1/calls", calls, timeout)
        try:
            receipt = msgspec.json.decode(response, type=_Receipt)
        except msgspec.MsgspecError:
            raise NotTheService(f"{self.url} does not answer like an llm-exporter service") from None
        if (acknowledged := receipt.accepted + receipt.duplicates) != len(calls):
            raise NotTheService(
                f"{self.url} does not answer like an llm-exporter service:"
                f" it acknowledged {acknowledged} of {len(calls)} calls"
            )

    def post(self, path: str, body: object, timeout: float) -> bytes:
        """Post a JSON body, and return the body of the response.

        Args:
            path: the path below the service's URL.
            body: what to encode.
            timeout: seconds that the whole request may take.

        Raises:
            Unavailable: if the service does not answer, or not with success.
            Rejected: if it answers that the request is invalid.
        """
        headers = {"Content-Type": "application/json", "Content-Encoding": "gzip"}
        return self._request("POST", path, timeout, gzip.compress(_encode(body), compresslevel=1), headers)

    def get(self, path: str, timeout: float) -> bytes:
        """Return the body at a path.

        Args:
            path: the path below the service's URL, with its query.
            timeout: seconds that the whole request may take.

        Raises:
            Unavailable: if the service does not answer, or not with success.
            Rejected: if it answers that the request is invalid.
        """
        return self._request("GET", path, timeout)

    def _request(
        self,
        method: str,
        path: str,
        timeout: float,
        body: bytes | None = None,
        headers: dict[str, str] | None = None,
    ) -> bytes:
        try:
            shown = authorization(self.url)
            credentials = {"Authorization": shown} if shown else {}
            request = Request(method, path, body, {**(headers or {}), **credentials})
            status, response = self._connection.send(request, timeout)
        except (OSError, http.client.HTTPException, ConfigError) as error:
            raise Unavailable(f"{self.url}: {clean_text(str(error)) or type(error).__name__}") from None
        if status != 200:
            raise self._error(status, response)
        return response

    def _error(self, status: int, body: bytes) -> Rejected | Unavailable:
        """Return the meaning of an answer without success."""
        try:
            detail = clean_text(msgspec.json.decode(body, type=_Problem).detail)
        except msgspec.MsgspecError:
            detail = ""
        if status == 413 or (detail and status in (400, 422)):
            return Rejected(f"{self.url}: HTTP {status}: {detail or 'the request is too large'}")
        if status == 401:
            hint = "set LLM_EXPORTER_TOKEN or LLM_EXPORTER_TOKEN_FILE to a token that the service accepts"
            return Unavailable(f"{self.url}: HTTP 401: {hint}")
        if status == 403:
            hint = "the token in LLM_EXPORTER_TOKEN or LLM_EXPORTER_TOKEN_FILE lacks a right"
            return Unavailable(f"{self.url}: HTTP 403: {detail or hint}")
        if not detail:
            # A proxy before the service may be too busy or not reach it.
            kind = Unavailable if status == 429 or status >= 500 else NotTheService
            return kind(f"{self.url} does not answer like an llm-exporter service: HTTP {status}")
        return Unavailable(f"{self.url}: HTTP {status}: {detail}")

    def close(self) -> None:
        """Close the connection. The next request opens another."""
        self._connection.close()
