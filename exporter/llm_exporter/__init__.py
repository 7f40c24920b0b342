"""llm-exporter meters what Python code spends on LLMs, for Prometheus and Grafana."""

from __future__ import annotations

from importlib.metadata import version as _version

from .asking import BudgetStatus, check_budget, estimate_cost
from .budgets.enforcement import BudgetExceeded
from .budgets.events import BudgetReached, ThresholdCrossed
from .call import Call
from .config import ConfigError
from .exposition import make_asgi_app, make_wsgi_app, start_http_server
from .labels import labels
from .recording import configure, record, subscribe, unsubscribe
from .taps import instrument, uninstrument

__version__ = _version("llm-exporter")
__all__ = [
    "BudgetExceeded",
    "BudgetReached",
    "BudgetStatus",
    "Call",
    "ConfigError",
    "ThresholdCrossed",
    "__version__",
    "check_budget",
    "configure",
    "estimate_cost",
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
