"""The types of llm-exporter's public signatures, for annotations in your own code."""

from __future__ import annotations

from .budgets.events import BudgetReached, Event, ThresholdCrossed, Unit
from .budgets.status import BudgetStatus
from .call import ApproximationReason, Call, CostSource, ErrorKind, TokenType
from .client.running_totals import Totals
from .labels import Labels
from .metrics.server import MetricsServer
from .periods import Period, Window

__all__ = [
    "ApproximationReason",
    "BudgetReached",
    "BudgetStatus",
    "Call",
    "CostSource",
    "ErrorKind",
    "Event",
    "Labels",
    "MetricsServer",
    "Period",
    "ThresholdCrossed",
    "TokenType",
    "Totals",
    "Unit",
    "Window",
]
