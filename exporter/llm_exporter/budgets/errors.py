"""`BudgetExceeded`, which keeps a call from being sent."""

from __future__ import annotations

from datetime import datetime

from ..errors import LLMExporterError
from .events import Unit, money, of


class BudgetExceeded(LLMExporterError):  # noqa: N818 - its name is in the contract
    """A call was not sent: with it, more could be spent than a budget allows.

    Args:
        budget: the name of the budget in the configuration.
        labels: the labels of the calls that it is for.
        unit: `usd` or `tokens`, of the three amounts.
        spent: so far in the period.
        held: what the calls under way may come to.
        estimate: what the call may come to.
        limit: of the budget.
        resets_at: when the next period begins, in UTC; None for a budget for all time.
        away: whether it cannot be told, because the service that shares the budget does not answer.
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
        if self.away:
            return (
                f"budget {self.budget}{of(self.labels)} cannot be checked: the service that shares it is away"
            )
        amounts = [money(amount, self.unit) for amount in (self.spent, self.limit, self.held, self.estimate)]
        spent, limit, held, estimate = amounts
        state = "is used up" if self.spent >= self.limit else "has too little left"
        until = f"until {self.resets_at:%Y-%m-%d %H:%M} UTC" if self.resets_at else "for good"
        if self.spent >= self.limit:
            why = f"{spent} of {limit} spent"
        else:
            why = (
                f"{spent} of {limit} spent, {held} held for calls under way, this one may come to {estimate}"
            )
        return f"budget {self.budget}{of(self.labels)} {state} {until}: {why}"

    def __reduce__(self) -> tuple[object, ...]:
        """Keep the amounts when it is sent to another process."""
        return _rebuilt, (vars(self),)


def _rebuilt(amounts: dict[str, object]) -> BudgetExceeded:
    return BudgetExceeded(**amounts)  # type: ignore[arg-type]
