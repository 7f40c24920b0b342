"""llm-exporter meters what Python code spends on LLMs, for Prometheus and Grafana.

Names that are not in `__all__` here or in the modules `types`, `asgi` and `wsgi` are private.
"""

from __future__ import annotations

from typing import Any

from .budgets.errors import BudgetExceeded
from .budgets.events import BudgetReached, ThresholdCrossed
from .budgets.status import BudgetStatus
from .call import Call
from .client.api import (
    check_budget,
    configure,
    estimate_cost,
    flush,
    record,
    reset,
    subscribe,
    totals,
    unsubscribe,
)
from .client.http import make_asgi_app, make_wsgi_app, start_http_server
from .errors import ConfigError, LLMExporterError
from .labels import labels
from .taps.instrument import instrument, uninstrument

__version__: str
__all__ = [
    "BudgetExceeded",
    "BudgetReached",
    "BudgetStatus",
    "Call",
    "ConfigError",
    "LLMExporterError",
    "ThresholdCrossed",
    "__version__",
    "check_budget",
    "configure",
    "estimate_cost",
    "flush",
    "instrument",
    "labels",
    "make_asgi_app",
    "make_wsgi_app",
    "record",
    "reset",
    "start_http_server",
    "subscribe",
    "totals",
    "uninstrument",
    "unsubscribe",
]


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib.metadata import version  # noqa: PLC0415  # takes as long as the rest of the package

        return version("llm-exporter")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
