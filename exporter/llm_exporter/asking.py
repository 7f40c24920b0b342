"""What code may ask before it makes a call: what it would cost, and whether the budgets allow it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from . import exporter as exporters
from .budgets.spending import Unit, facts_of
from .call import Call
from .labels import current_labels


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


def estimate_cost(model: str, input_tokens: int, max_output_tokens: int = 0, *, provider: str = "") -> float:
    """Return what a call would cost at most, in USD, with nothing of it cached.

    Args:
        model: as it is asked for.
        input_tokens: of the prompt.
        max_output_tokens: of the answer.
        provider: the genai-prices provider id; without one, the provider that the model is known of.

    Returns:
        The cost by the prices that calls are counted by; for an unknown model by the configured fallback.

    Raises:
        ValueError: for fewer than no tokens.
    """
    if input_tokens < 0 or max_output_tokens < 0:
        raise ValueError(f"{min(input_tokens, max_output_tokens)} is not a number of tokens")
    call = Call(provider=provider, model=model, operation="chat")
    return exporters.default.prices.estimate(call, input_tokens, max_output_tokens)


def check_budget(model: str = "", *, provider: str = "", **labels: object) -> list[BudgetStatus]:
    """Return how the budgets of a call made here stand: under the labels in force, and those given.

    Nothing is raised: a budget with nothing `left` would refuse the call if it is a blocking one.

    Args:
        model: as it is asked for; budgets that match a model are left out without one.
        provider: the genai-prices provider id; budgets that match a provider are left out without one.
        labels: laid over those in force.
    """
    given = {name: str(value) for name, value in labels.items() if value is not None}
    call = Call(provider=provider, model=model, operation="chat", labels={**current_labels(), **given})
    return [
        BudgetStatus(
            budget=budget.name,
            labels=dict(account.labels),
            unit=account.unit,
            limit=account.outside(account.limit),
            spent=account.outside(account.spent),
            held=account.outside(account.held),
            resets_at=account.resets_at,
        )
        for budget, account in exporters.default.budgets.check(facts_of(call, model))
    ]
