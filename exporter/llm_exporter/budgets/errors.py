"""`BudgetExceeded`, raised before a call is sent."""

from __future__ import annotations

from datetime import datetime

from ..errors import LLMExporterError
from .events import Unit, format_amount, format_labels


class BudgetExceeded(LLMExporterError):  # noqa: N818 - its name is in the contract
    """A call was not sent because it could exceed a budget.

    Args:
        budget: the name of the budget in the configuration.
        labels: the labels that the budget matches, and those that it is `per`.
        unit: the unit of all amounts: `usd` or `tokens`.
        period: the period of the budget: `hour`, `day`, `month` or `total`.
        spent: the amount spent in the current period.
        held: the estimated amount of calls in flight.
        estimate: the estimated amount of this call.
        limit: the limit of the budget.
        resets_at: when the next period begins, in UTC; None for a budget without periods.
        away: whether the budget could not be checked because the service that shares it is unavailable.
    """

    def __init__(
        self,
        *,
        budget: str,
        labels: dict[str, str],
        unit: Unit,
        period: str,
        spent: float,
        held: float,
        estimate: float,
        limit: float,
        resets_at: datetime | None,
        away: bool = False,
    ) -> None:
        self.budget = budget
        self.labels = labels
        self.unit = unit
        self.period = period
        self.spent = spent
        self.held = held
        self.estimate = estimate
        self.limit = limit
        self.resets_at = resets_at
        self.away = away
        super().__init__(self._message())

    def _message(self) -> str:
        name = f"budget {self.budget}{format_labels(self.labels)}"
        if self.away:
            return f"{name} cannot be checked: the service that shares it is unavailable"
        amounts = [
            format_amount(each, self.unit) for each in (self.spent, self.limit, self.held, self.estimate)
        ]
        spent, limit, held, estimate = amounts
        used = f"{spent} of {limit} spent"
        if self.spent < self.limit:
            used += f", {held} held for calls in flight, {estimate} estimated for this call"
        resets = f"resets at {self.resets_at:%Y-%m-%d %H:%M} UTC" if self.resets_at else "never resets"
        return f"{name} exceeded: {used}; {resets}"

    def __repr__(self) -> str:
        return (
            f"{type(self).__name__}({', '.join(f'{name}={value!r}' for name, value in vars(self).items())})"
        )

    def __reduce__(self) -> tuple[object, ...]:
        """Keep the attributes when the error is pickled."""
        return _rebuild, (vars(self),)


def _rebuild(attributes: dict[str, object]) -> BudgetExceeded:
    return BudgetExceeded(**attributes)  # type: ignore[arg-type]
