"""Events of budgets and thresholds, for callbacks, the live page and the log."""

from __future__ import annotations

from typing import Final, Literal

import msgspec

from ..periods import Period

Unit = Literal["usd", "tokens"]
"""The unit of a budget's amounts."""

_CURRENT: Final[dict[Period, str]] = {
    "hour": "this hour",
    "day": "today",
    "month": "this month",
    "total": "in total",
}


class ThresholdCrossed(msgspec.Struct, kw_only=True, frozen=True):
    """Spending has crossed a threshold. Emitted once per window."""

    threshold: str
    """The threshold's name in the configuration."""
    window: Period
    match: dict[str, str]
    """The labels that the threshold matches."""
    limit: float
    """USD."""
    spent: float
    """USD since the window began."""
    since: float
    """When the window began, as a Unix timestamp in seconds."""

    def __str__(self) -> str:
        return (
            f"threshold {self.threshold}{format_labels(self.match)} crossed: "
            f"${self.spent:.2f} spent {_CURRENT[self.window]}, limit ${self.limit:.2f}"
        )


class BudgetReached(msgspec.Struct, kw_only=True, frozen=True):
    """Spending has reached a fraction in `warn_at` or the limit. Emitted once per fraction and period."""

    budget: str
    """The budget's name in the configuration."""
    period: Period
    labels: dict[str, str]
    """The labels that the budget matches, and those that it is `per`."""
    unit: Unit
    """The unit of `limit` and `spent`."""
    ratio: float
    """The fraction of the limit that is reached; 1.0 is the limit."""
    limit: float
    spent: float
    since: float
    """When the period began, as a Unix timestamp in seconds; -inf for a budget without periods."""

    def __str__(self) -> str:
        spent, limit = format_amount(self.spent, self.unit), format_amount(self.limit, self.unit)
        state = "used up" if self.ratio >= 1 else f"{self.ratio:.0%} used"
        name = f"budget {self.budget}{format_labels(self.labels)}"
        return f"{name} is {state}: {spent} of {limit} {_CURRENT[self.period]}"


Event = ThresholdCrossed | BudgetReached


def format_labels(labels: dict[str, str]) -> str:
    """Return labels in parentheses, as they follow a name; "" without labels."""
    return f" ({', '.join(f'{name} {value}' for name, value in labels.items())})" if labels else ""


def format_amount(amount: float, unit: Unit) -> str:
    """Return an amount with its unit: `$1.50`, `$0.0123` or `4,000 tokens`."""
    if unit == "tokens":
        return f"{amount:,.0f} tokens"
    return f"${amount:,.2f}" if abs(amount) >= 1 else f"${amount:.4f}"
