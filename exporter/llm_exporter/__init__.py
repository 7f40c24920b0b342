"""llm-exporter meters what Python code spends on LLMs, for Prometheus and Grafana."""

from __future__ import annotations

from importlib.metadata import version as _version

from .call import Call
from .config import ConfigError
from .exposition import make_asgi_app, make_wsgi_app, start_http_server
from .labels import labels
from .recording import configure, record, subscribe, unsubscribe
from .taps import instrument, uninstrument

__version__ = _version("llm-exporter")
__all__ = [
    "Call",
    "ConfigError",
    "__version__",
    "configure",
    "instrument",
    "labels",
    "make_asgi_app",
    "make_wsgi_app",
    "record",
    "start_http_server",
    "subscribe",
    "uninstrument",
    "unsubscribe",
]
