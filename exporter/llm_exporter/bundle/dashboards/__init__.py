"""The dashboards as Grafana's JSON: one module each, built from board.py, panels.py and queries.py."""

from __future__ import annotations

from . import agents, budgets, cost, health, latency
from .panels import Json
from .queries import Queries


def boards(declared: tuple[str, ...] = ()) -> list[Json]:
    """Return the dashboards.

    Args:
        declared: the declared labels, which become filters, rows and columns.
    """
    queries = Queries(declared)
    return [
        cost.board(queries),
        agents.board(queries),
        latency.board(),
        budgets.board(declared),
        health.board(),
    ]
