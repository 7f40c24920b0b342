"""`/metrics` of this process: a server of its own, or an application to mount."""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import cache
from os import PathLike
from typing import TYPE_CHECKING, Any, Final

from .. import environment
from ..forking import late_import
from ..log import log
from .default import pipeline
from .guard import guarded
from .workers import is_one_of_several

if TYPE_CHECKING:
    from ..metrics.collector import Metrics
    from ..metrics.server import MetricsServer


def start_http_server(
    port: int = 9847, addr: str = "127.0.0.1", web_config_file: str | PathLike[str] | None = None
) -> MetricsServer:
    """Serve `/metrics` from this process, on threads of its own.

    Called again with the same arguments, as when the cell of a notebook runs again, it returns the server
    that is running. With `LLM_EXPORTER_ENABLED=0` nothing is served.

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
        OSError: if the address cannot be listened on, for example because the port is taken.
        llm_exporter.ConfigError: if the web configuration file cannot be used.

    Example:
        >>> from llm_exporter import start_http_server
        >>> server = start_http_server(0)
        >>> server
        <MetricsServer http://127.0.0.1:.../metrics>
        >>> server.close()
    """
    from ..metrics.server import MetricsServer, NoServer  # noqa: PLC0415  # loads an HTTP server

    if not environment.is_enabled():
        return NoServer(port)
    # A forked process has none of its parent's servers.
    key = os.getpid(), port, addr, web_config_file and str(web_config_file)
    with late_import:
        server = _servers.get(key)
        if server is None or not server.is_running:
            web = None
            if web_config_file is not None:
                from ..web_config import load_web_config  # noqa: PLC0415  # loads pydantic and a YAML parser

                web = load_web_config(web_config_file)
            server = _servers[key] = MetricsServer(_flushed, port, addr, web)
        return server


_servers: Final[dict[tuple[object, ...], MetricsServer]] = {}
"""The servers that were started, by process and arguments."""


def make_asgi_app() -> Callable[..., Any]:
    """Return an ASGI application that serves the metrics of this process."""
    from ..metrics.http import AsgiMetrics  # noqa: PLC0415

    return AsgiMetrics(_flushed_for_application)


def make_wsgi_app() -> Callable[..., Any]:
    """Return a WSGI application that serves the metrics of this process."""
    from ..metrics.http import WsgiMetrics  # noqa: PLC0415

    return WsgiMetrics(_flushed_for_application)


def _flushed_for_application() -> Metrics:
    _say_once_if_workers_count_apart()
    return _flushed()


@cache
def _say_once_if_workers_count_apart() -> None:
    """Say that other workers have counters of their own. At the first scrape it is settled where calls go."""
    if not environment.MULTIPROCESS.value and not pipeline().ships and guarded("http", is_one_of_several):
        log.warning(
            "llm-exporter: /metrics shows only the calls of this process, which is one of several workers:"
            " set PROMETHEUS_MULTIPROC_DIR or LLM_EXPORTER_URL, as docs/multiprocess.md says"
        )


def _flushed() -> Metrics:
    return pipeline().flushed()
