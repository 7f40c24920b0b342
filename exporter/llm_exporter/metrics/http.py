"""Responds to requests for `/metrics` in the Prometheus text format or OpenMetrics, over ASGI or WSGI."""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import parse_qs

from prometheus_client.exposition import choose_encoder, gzip_accepted

from .collector import Metrics

_SCRAPE_TIMEOUT_HEADER: Final = "x-prometheus-scrape-timeout-seconds"
"""Prometheus and compatible scrapers send this header with every scrape; browsers do not."""


@dataclass(frozen=True)
class MetricsResponse:
    """The response to one request."""

    status: str
    headers: list[tuple[str, str]]
    body: list[bytes]


def respond(
    metrics: Callable[[], Metrics], method: str, query: str, headers: Mapping[str, str]
) -> MetricsResponse:
    """Return the response to a request for metrics.

    Args:
        metrics: returns the metrics to show; called for each valid request.
        method: the HTTP method.
        query: the query string; `name[]=llm_calls_total` selects one family and may be repeated.
        headers: the headers of the request, with names in lower case.
    """
    if method != "GET":
        status = "200 OK" if method == "OPTIONS" else "405 Method Not Allowed"
        return MetricsResponse(status, [("Allow", "GET, OPTIONS")], [])
    openmetrics = choose_encoder(headers.get("accept", ""))[1].startswith("application/openmetrics-text")
    content_type = (
        "application/openmetrics-text; version=1.0.0" if openmetrics else "text/plain; version=0.0.4"
    )
    response_headers = [("Content-Type", f"{content_type}; charset=utf-8")]
    names = frozenset(parse_qs(query).get("name[]", ()))
    text = metrics().text(scrape=_SCRAPE_TIMEOUT_HEADER in headers, openmetrics=openmetrics, names=names)
    if gzip_accepted(headers.get("accept-encoding", "")):
        response_headers.append(("Content-Encoding", "gzip"))
        text = _gzipped(text)
    body = list(text)
    response_headers.append(("Content-Length", str(sum(map(len, body)))))
    return MetricsResponse("200 OK", response_headers, body)


def _gzipped(pieces: Iterable[bytes]) -> Iterator[bytes]:
    # The text is so repetitive that a higher level would hardly make it smaller.
    compressor = zlib.compressobj(level=1, wbits=16 + zlib.MAX_WBITS)
    for piece in pieces:
        if compressed := compressor.compress(piece):
            yield compressed
    yield compressor.flush()


class AsgiMetrics:
    """An ASGI application that serves metrics without blocking the event loop.

    Args:
        metrics: returns the metrics to show; called on a thread, where it may block.
    """

    def __init__(self, metrics: Callable[[], Metrics]) -> None:
        self._metrics = metrics

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Respond to one request."""
        headers: dict[str, str] = {}
        for name, value in scope["headers"]:
            earlier = headers.get(name.decode("latin-1"))
            text = value.decode("latin-1")
            headers[name.decode("latin-1")] = text if earlier is None else f"{earlier}, {text}"
        query = scope.get("query_string", b"").decode("latin-1")
        response = await asyncio.to_thread(respond, self._metrics, scope["method"], query, headers)
        await send(
            {
                "type": "http.response.start",
                "status": int(response.status[:3]),
                "headers": [(name.lower().encode(), value.encode()) for name, value in response.headers],
            }
        )
        for piece in response.body:
            await send({"type": "http.response.body", "body": piece, "more_body": True})
        await send({"type": "http.response.body", "body": b""})


class WsgiMetrics:
    """A WSGI application that serves metrics.

    Args:
        metrics: returns the metrics to show; called for each request.
    """

    def __init__(self, metrics: Callable[[], Metrics]) -> None:
        self._metrics = metrics

    def __call__(self, environ: Any, start_response: Any) -> Iterable[bytes]:
        """Respond to one request."""
        headers = {
            name[5:].replace("_", "-").lower(): value
            for name, value in environ.items()
            if name.startswith("HTTP_")
        }
        response = respond(self._metrics, environ["REQUEST_METHOD"], environ.get("QUERY_STRING", ""), headers)
        start_response(response.status, response.headers)
        return response.body
