"""`BudgetStatus`: how much of a budget is spent, held and left."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from .events import Unit


@dataclass(frozen=True, slots=True)
class BudgetStatus:
    """How one budget stands."""

    budget: str
    """Its name in the configuration."""
    labels: dict[str, str]
    """The labels of the calls that it is for."""
    unit: Unit
    """`usd` or `tokens`: of the amounts."""
    limit: float
    spent: float
    """In the current period."""
    held: float
    """What the calls under way may come to."""
    resets_at: datetime | None
    """When the next period begins, in UTC; None for a budget for all time."""

    @property
    def left(self) -> float:
        """What is neither spent nor held, or 0."""
        return max(self.limit - self.spent - self.held, 0.0)
