"""Responds to requests for `/metrics` in the Prometheus text format or OpenMetrics, over ASGI or WSGI."""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import parse_qs

from prometheus_client.exposition import choose_encoder, gzip_accepted

from . import protobuf
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
    accept = headers.get("accept", "")
    scrape = _SCRAPE_TIMEOUT_HEADER in headers
    names = frozenset(parse_qs(query).get("name[]", ()))
    if _prefers_protobuf(accept):
        content_type = protobuf.CONTENT_TYPE
        content = metrics().protobuf(scrape=scrape, names=names)
    else:
        openmetrics = choose_encoder(accept)[1].startswith("application/openmetrics-text")
        text_type = (
            "application/openmetrics-text; version=1.0.0" if openmetrics else "text/plain; version=0.0.4"
        )
        content_type = f"{text_type}; charset=utf-8"
        content = metrics().text(scrape=scrape, openmetrics=openmetrics, names=names)
    response_headers = [("Content-Type", content_type)]
    if gzip_accepted(headers.get("accept-encoding", "")):
        response_headers.append(("Content-Encoding", "gzip"))
        content = _gzipped(content)
    body = list(content)
    response_headers.append(("Content-Length", str(sum(map(len, body)))))
    return MetricsResponse("200 OK", response_headers, body)


def _prefers_protobuf(accept: str) -> bool:
    """Return whether an Accept header prefers the protobuf format to all others.

    Prometheus prefers it only if it stores native histograms or start timestamps.
    """
    ranges = [_media_range(text) for text in accept.split(",")]
    kind, parameters, quality = max(ranges, key=lambda one: one[2])  # the first of several
    return (
        quality > 0
        and kind == "application/vnd.google.protobuf"
        and parameters.get("proto") == "io.prometheus.client.MetricFamily"
        and parameters.get("encoding") == "delimited"
    )


def _media_range(text: str) -> tuple[str, dict[str, str], float]:
    """Return the type, the parameters and the quality of one of the media ranges of an Accept header."""
    kind, *rest = text.split(";")
    named = (parameter.partition("=") for parameter in rest)
    parameters = {name.strip().lower(): value.strip().strip('"') for name, _, value in named}
    try:
        quality = float(parameters.get("q", 1))
    except ValueError:
        quality = 0.0
    return kind.strip().lower(), parameters, quality


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
