"""Budgets with a clock, and calls of a given cost."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from llm_exporter.budgets.enforcement import Budgets
from llm_exporter.budgets.errors import BudgetExceeded
from llm_exporter.budgets.events import BudgetReached
from llm_exporter.call import Call
from llm_exporter.client.pipeline import Pipeline
from llm_exporter.config.model import Budget, Config
from llm_exporter.pricing.prices import PriceList

NOON = datetime(2026, 11, 23, 12, tzinfo=UTC).timestamp()


class Clock:
    def __init__(self, now: float = NOON) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


class Scenario:
    """Budgets, the events that they emitted, and calls of a given cost."""

    def __init__(self, *budgets: Budget, now: float = NOON) -> None:
        self.clock = Clock(now)
        self.monotonic = Clock(0.0)
        self.events: list[BudgetReached] = []
        self.budgets = Budgets(budgets, PriceList(), self.events.append, self.clock, self.monotonic)

    def call(self, usd: float = 0.0, tokens: int = 0, **labels: str) -> Call:
        return Call(
            provider="openai",
            model="gpt-4o-2024-08-06",
            requested_model="gpt-4o",
            operation="chat",
            started=self.clock.now,
            labels=labels,
            tokens={"output": tokens} if tokens else {},
            cost={"output": usd} if usd else {},
        )

    def spend(self, usd: float = 0.0, tokens: int = 0, **labels: str) -> None:
        self.budgets.settle(self.call(usd, tokens, **labels))

    def hold(self, max_tokens: int = 0, **labels: str) -> Call:
        """Hold the estimate of a call without a prompt: $0.01 for 1,000 tokens."""
        call = self.call(0.0, 0, **labels)
        self.budgets.hold(call, {"max_tokens": max_tokens})
        return call

    def refusal(self, max_tokens: int = 0, **labels: str) -> BudgetExceeded:
        with pytest.raises(BudgetExceeded) as raised:
            self.hold(max_tokens, **labels)
        return raised.value

    def status(self) -> dict[tuple[str, ...], tuple[float, float]]:
        """Return (spent, held) by budget and label values."""
        return {
            (budget.name, *account.labels.values()): (
                account.to_float(account.spent),
                account.to_float(account.held),
            )
            for budget, account in self.budgets.accounts()
        }


def budget(usd: str | None = "1", **more: Any) -> Budget:
    rule = {"name": "all", "period": "day", "usd": usd, "on_exceed": "block", **more}
    return Budget.model_validate(rule)


def allow(pipeline: Pipeline, usd: str, **more: Any) -> None:
    """Configure a budget that blocks calls."""
    rule = {"name": "all", "period": "total", "usd": usd, "on_exceed": "block", **more}
    pipeline.configure(Config(budgets=(Budget.model_validate(rule),)))
