"""Measure the budget check before a call is sent."""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal
from statistics import median
from typing import Any

from llm_exporter import Call
from llm_exporter.budgets.enforcement import Budgets
from llm_exporter.config.model import Budget
from llm_exporter.pricing.prices import PriceList

from .compared import Row, Table, alternate, microseconds, repeat, table

CHECKS = 5000
TURNS = 15
TARGET = 3e-6

REQUEST: Any = {"model": "gpt-4o", "messages": [{"role": "user", "content": "How many? " * 100}]}


def tables() -> Iterator[Table]:
    """Yield the only table."""
    yield table("Budgets", _rows())


def _rows() -> Iterator[Row]:
    """Compare no budget with a budget per agent."""
    budget = Budget(name="agents", period="day", usd=Decimal(10**6), per=("agent",), on_exceed="block")
    call = Call(
        provider="openai",
        model="gpt-4o",
        requested_model="gpt-4o",
        operation="chat",
        labels={"agent": "planner"},
    )

    def check(budgets: Budgets) -> None:
        budgets.hold(call, REQUEST)

    without, with_one = (
        repeat(check, CHECKS, Budgets(some, PriceList(), lambda _: None)) for some in ((), (budget,))
    )
    none, one = alternate(without, with_one, turns=TURNS)
    seconds = median(one) / CHECKS
    yield Row(
        "a budget check",
        microseconds(median(none) / CHECKS),
        microseconds(seconds),
        microseconds(TARGET),
        seconds <= TARGET,
    )
