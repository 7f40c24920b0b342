"""`/metrics` of this process: a server of its own, or an application to mount."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from .default import pipeline

if TYPE_CHECKING:
    from ..metrics.collector import Metrics
    from ..metrics.http import MetricsServer


def start_http_server(port: int = 9847, addr: str = "127.0.0.1") -> MetricsServer:
    """Serve `/metrics` from this process, on a thread of its own.

    Args:
        port: the TCP port; 0 for any free one.
        addr: the address to listen on; only this machine can reach the default.

    Returns:
        The running server: its `port`, and `close()` to stop it.

    Raises:
        OSError: if the address cannot be listened on.

    Example:
        >>> from llm_exporter import start_http_server
        >>> server = start_http_server(0)
        >>> server
        <MetricsServer http://127.0.0.1:.../metrics>
        >>> server.close()
    """
    from ..metrics.http import MetricsServer  # noqa: PLC0415  # loads an HTTP server

    return MetricsServer(_flushed, port, addr)


def make_asgi_app() -> Callable[..., Any]:
    """Return an ASGI application that serves the metrics of this process."""
    from ..metrics.http import AsgiMetrics  # noqa: PLC0415

    return AsgiMetrics(_flushed)


def make_wsgi_app() -> Callable[..., Any]:
    """Return a WSGI application that serves the metrics of this process."""
    from ..metrics.http import WsgiMetrics  # noqa: PLC0415

    return WsgiMetrics(_flushed)


def _flushed() -> Metrics:
    return pipeline().flushed()
