"""`/metrics` from the process itself, in the text format or OpenMetrics, as the scraper asks."""

from __future__ import annotations

import asyncio
import socket
import threading
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from socketserver import ThreadingMixIn
from typing import Any, Final
from urllib.parse import parse_qs
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

from prometheus_client.exposition import choose_encoder, gzip_accepted

from .collector import Metrics

_SCRAPE_HEADER: Final = "x-prometheus-scrape-timeout-seconds"
"""What Prometheus, and what scrapes as it does, sends with every scrape: others just look."""


class MetricsServer:
    """A running `/metrics`, on a thread of its own."""

    def __init__(self, metrics: Callable[[], Metrics], port: int, addr: str) -> None:
        self._server = make_server(addr, port, WsgiMetrics(metrics), _server_class(addr, port), _Handler)
        self.port = self._server.server_port
        """The port listened on, also where 0 let the system choose."""
        self._thread = threading.Thread(
            target=self._server.serve_forever, name="llm-exporter-metrics", daemon=True
        )
        self._thread.start()

    def close(self) -> None:
        """Stop serving."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


class _Server(ThreadingMixIn, WSGIServer):
    daemon_threads = True


def _server_class(addr: str, port: int) -> type[_Server]:
    family = socket.getaddrinfo(addr or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0][0]
    return type("_Server", (_Server,), {"address_family": family})


class _Handler(WSGIRequestHandler):
    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
        """Say nothing: scrapes are many."""


@dataclass(frozen=True)
class MetricsResponse:
    """The answer to one request."""

    status: str
    headers: list[tuple[str, str]]
    body: list[bytes]


def respond(
    metrics: Callable[[], Metrics], method: str, query: str, headers: Mapping[str, str]
) -> MetricsResponse:
    """Answer a request for metrics.

    Args:
        metrics: what is to be shown; called for each request that is answered with them.
        method: the HTTP method.
        query: `name[]=llm_calls_total` asks for one family alone, and may be repeated.
        headers: of the request, their names in lower case.
    """
    if method != "GET":
        status = "200 OK" if method == "OPTIONS" else "405 Method Not Allowed"
        return MetricsResponse(status, [("Allow", "GET, OPTIONS")], [])
    openmetrics = choose_encoder(headers.get("accept", ""))[1].startswith("application/openmetrics-text")
    kind = "application/openmetrics-text; version=1.0.0" if openmetrics else "text/plain; version=0.0.4"
    said = [("Content-Type", f"{kind}; charset=utf-8")]
    names = frozenset(parse_qs(query).get("name[]", ()))
    text = metrics().text(scrape=_SCRAPE_HEADER in headers, openmetrics=openmetrics, names=names)
    if gzip_accepted(headers.get("accept-encoding", "")):
        said.append(("Content-Encoding", "gzip"))
        text = _gzipped(text)
    body = list(text)
    said.append(("Content-Length", str(sum(map(len, body)))))
    return MetricsResponse("200 OK", said, body)


def _gzipped(pieces: Iterable[bytes]) -> Iterator[bytes]:
    # What repeats itself as much as this does gets little smaller by more effort.
    compressor = zlib.compressobj(level=1, wbits=16 + zlib.MAX_WBITS)
    for piece in pieces:
        if compressed := compressor.compress(piece):
            yield compressed
    yield compressor.flush()


class AsgiMetrics:
    """An ASGI application that serves metrics; the event loop goes on while they are rendered.

    Args:
        metrics: returns them, on a thread where it may wait.
    """

    def __init__(self, metrics: Callable[[], Metrics]) -> None:
        self._metrics = metrics

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Answer one request."""
        headers: dict[str, str] = {}
        for name, value in scope["headers"]:
            known = headers.get(name.decode("latin-1"))
            text = value.decode("latin-1")
            headers[name.decode("latin-1")] = text if known is None else f"{known}, {text}"
        query = scope.get("query_string", b"").decode("latin-1")
        said = await asyncio.to_thread(respond, self._metrics, scope["method"], query, headers)
        await send(
            {
                "type": "http.response.start",
                "status": int(said.status[:3]),
                "headers": [(name.lower().encode(), value.encode()) for name, value in said.headers],
            }
        )
        for piece in said.body:
            await send({"type": "http.response.body", "body": piece, "more_body": True})
        await send({"type": "http.response.body", "body": b""})


class WsgiMetrics:
    """A WSGI application that serves metrics.

    Args:
        metrics: returns them.
    """

    def __init__(self, metrics: Callable[[], Metrics]) -> None:
        self._metrics = metrics

    def __call__(self, environ: Any, start_response: Any) -> Iterable[bytes]:
        """Answer one request."""
        headers = {
            name[5:].replace("_", "-").lower(): value
            for name, value in environ.items()
            if name.startswith("HTTP_")
        }
        said = respond(self._metrics, environ["REQUEST_METHOD"], environ.get("QUERY_STRING", ""), headers)
        start_response(said.status, said.headers)
        return said.body
