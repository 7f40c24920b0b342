"""`/metrics` of this process: a server of its own, or an application to mount."""

from __future__ import annotations

from collections.abc import Callable
from os import PathLike
from typing import TYPE_CHECKING, Any

from .default import pipeline

if TYPE_CHECKING:
    from ..metrics.collector import Metrics
    from ..metrics.server import MetricsServer


def start_http_server(
    port: int = 9847, addr: str = "127.0.0.1", web_config_file: str | PathLike[str] | None = None
) -> MetricsServer:
    """Serve `/metrics` from this process, on threads of its own.

    Args:
        port: the TCP port; 0 for any free one.
        addr: the address to listen on; only this machine can reach the default. Whoever can reach another one
            can read the metrics, unless `web_config_file` has users or requires client certificates.
        web_config_file: TLS, users with passwords and headers, in the format of Prometheus' web configuration
            files: https://github.com/prometheus/exporter-toolkit/blob/master/docs/web-configuration.md.
            Users need the extra `llm-exporter[server]`.

    Returns:
        The running server: its `port`, and `close()` to stop it.

    Raises:
        OSError: if the address cannot be listened on.
        llm_exporter.ConfigError: if the web configuration file cannot be used.

    Example:
        >>> from llm_exporter import start_http_server
        >>> server = start_http_server(0)
        >>> server
        <MetricsServer http://127.0.0.1:.../metrics>
        >>> server.close()
    """
    from ..metrics.server import MetricsServer  # noqa: PLC0415  # loads an HTTP server

    if web_config_file is None:
        return MetricsServer(_flushed, port, addr)
    from ..web_config import load_web_config  # noqa: PLC0415  # loads pydantic and a YAML parser

    return MetricsServer(_flushed, port, addr, load_web_config(web_config_file))


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
