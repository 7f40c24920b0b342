"""What happens to thresholds and budgets, as it is told to callbacks, to the live page and to the log."""

from __future__ import annotations

from typing import Literal

import msgspec

from ..periods import Period

Unit = Literal["usd", "tokens"]
"""What the amounts of a budget are."""


class ThresholdCrossed(msgspec.Struct, kw_only=True, frozen=True):
    """Spending has passed a threshold: once in each of its windows."""

    threshold: str
    """Its name in the configuration."""
    window: Period
    match: dict[str, str]
    """The labels of the calls that it is for."""
    limit: float
    """USD."""
    spent: float
    """USD since the window began."""
    since: float
    """When the window began, in seconds since 1970."""

    def __str__(self) -> str:
        return (
            f"threshold {self.threshold}{of(self.match)}: ${self.spent:.2f} spent this {self.window}, "
            f"more than ${self.limit:.2f}"
        )


class BudgetReached(msgspec.Struct, kw_only=True, frozen=True):
    """A part of a budget that is to be told of, or all of it, is spent: once in each of its periods."""

    budget: str
    """Its name in the configuration."""
    period: Period
    labels: dict[str, str]
    """The labels of the calls that it is for."""
    unit: Unit
    """`usd` or `tokens`: of what is spent and of the limit."""
    ratio: float
    """The part of the limit that is reached, 1.0 for all of it."""
    limit: float
    spent: float
    since: float
    """When the period began, in seconds since 1970; minus infinity for a budget for all time."""

    def __str__(self) -> str:
        spent, limit = money(self.spent, self.unit), money(self.limit, self.unit)
        how_far = "is used up" if self.ratio >= 1 else f"is used to {self.ratio:.0%}"
        return f"budget {self.budget}{of(self.labels)} {how_far}: {spent} of {limit} {this(self.period)}"


Event = ThresholdCrossed | BudgetReached


def of(labels: dict[str, str]) -> str:
    """Return labels as they stand behind a name."""
    return f" of {', '.join(f'{name} {value}' for name, value in labels.items())}" if labels else ""


def this(period: Period) -> str:
    """Return the name of the current period in a sentence."""
    return "in all" if period == "total" else f"this {period}"


def money(amount: float, unit: str) -> str:
    """Return an amount of USD or of tokens for people."""
    if unit == "tokens":
        return f"{amount:,.0f} tokens"
    return f"${amount:,.2f}" if abs(amount) >= 1 else f"${amount:.4f}"
