"""`BudgetStatus`: how much of a budget is spent, held and left."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from .events import Unit


@dataclass(frozen=True, slots=True)
class BudgetStatus:
    """The status of one budget in its current period."""

    budget: str
    """The budget's name in the configuration."""
    labels: dict[str, str]
    """The labels that the budget matches, and those that it is `per`."""
    unit: Unit
    """The unit of all amounts."""
    limit: float
    spent: float
    """The amount spent in the current period."""
    held: float
    """The estimated amount of calls in flight."""
    resets_at: datetime | None
    """When the next period begins, in UTC; None for a budget without periods."""

    @property
    def left(self) -> float:
        """The amount that is neither spent nor held; never below 0."""
        return max(self.limit - self.spent - self.held, 0.0)
