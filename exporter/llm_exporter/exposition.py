"""`/metrics` from the process itself, in the text format or OpenMetrics, as the scraper asks."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import prometheus_client

from . import exporter as exporters


class MetricsServer:
    """A running `/metrics`, on a thread of its own."""

    def __init__(self, port: int, addr: str) -> None:
        self._server, self._thread = prometheus_client.start_http_server(
            port, addr, exporters.default.registry
        )
        self.port = self._server.server_port
        """The port listened on, also where 0 let the system choose."""

    def close(self) -> None:
        """Stop serving."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


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
    render = prometheus_client.make_asgi_app(exporters.default.registry)

    async def metrics(scope: Any, receive: Any, send: Any) -> None:
        await asyncio.to_thread(exporters.default.flush)  # not to wait for it on the host's event loop
        await render(scope, receive, send)

    return metrics


def make_wsgi_app() -> Callable[..., Any]:
    """Return a WSGI application that serves the metrics, to mount where you like."""
    return prometheus_client.make_wsgi_app(exporters.default.registry)
