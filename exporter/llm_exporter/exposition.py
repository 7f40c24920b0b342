"""`/metrics` from the process itself, in the text format or OpenMetrics, as the scraper asks."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Callable
from socketserver import ThreadingMixIn
from typing import Any, Final
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

import prometheus_client
from prometheus_client import CollectorRegistry

from . import exporter as exporters

_SCRAPE_HEADER: Final = "x-prometheus-scrape-timeout-seconds"
"""What Prometheus, and what scrapes as it does, sends with every scrape: others just look."""


class MetricsServer:
    """A running `/metrics`, on a thread of its own."""

    def __init__(self, port: int, addr: str) -> None:
        self._server = make_server(addr, port, make_wsgi_app(), _server_class(addr, port), _Handler)
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


def start_http_server(port: int = 9847, addr: str = "127.0.0.1") -> MetricsServer:
    """Serve `/metrics` from this process.

    Args:
        port: TCP port; 0 lets the system choose.
        addr: address to listen on; this machine only unless told otherwise.

    Raises:
        OSError: when the address cannot be listened on.
    """
    return MetricsServer(port, addr)


def make_asgi_app() -> Callable[..., Any]:
    """Return an ASGI application that serves the metrics, to mount where you like."""
    return AsgiMetrics(exporters.default.registry, exporters.default.scraped, exporters.default.flush)


class AsgiMetrics:
    """An ASGI application that serves one registry to a Prometheus and another to whoever looks.

    Args:
        seen: for whoever looks.
        scraped: for a Prometheus.
        flush: called before, on another thread than the host's event loop.
    """

    def __init__(
        self, seen: CollectorRegistry, scraped: CollectorRegistry, flush: Callable[[], object]
    ) -> None:
        self._for_people = prometheus_client.make_asgi_app(seen)
        self._for_prometheus = prometheus_client.make_asgi_app(scraped)
        self._flush = flush

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Answer one request."""
        await asyncio.to_thread(self._flush)
        names = {name.decode("latin-1") for name, _ in scope.get("headers", ())}
        await (self._for_prometheus if _SCRAPE_HEADER in names else self._for_people)(scope, receive, send)


def make_wsgi_app() -> Callable[..., Any]:
    """Return a WSGI application that serves the metrics, to mount where you like."""
    for_people = prometheus_client.make_wsgi_app(exporters.default.registry)
    for_prometheus = prometheus_client.make_wsgi_app(exporters.default.scraped)
    header = "HTTP_" + _SCRAPE_HEADER.upper().replace("-", "_")

    def metrics(environ: Any, start_response: Any) -> Any:
        return (for_prometheus if header in environ else for_people)(environ, start_response)

    return metrics
