"""The events that spending causes: each fraction of a budget and each threshold once per period."""

from __future__ import annotations

from collections.abc import Iterator

from ..config.model import Budget, Threshold
from .events import BudgetReached, ThresholdCrossed
from .spending import Account, Spending


def newly_reached(spending: Spending[Budget], account: Account) -> Iterator[BudgetReached]:
    """Yield an event if spending has reached a higher fraction of the limit than already notified."""
    ratio = fraction_reached(spending.rule, account)
    if ratio > account.notified:
        account.notified = ratio
        yield BudgetReached(
            budget=spending.rule.name,
            period=spending.period,
            labels=dict(account.labels),
            unit=account.unit,
            ratio=ratio,
            limit=account.to_float(account.limit),
            spent=account.to_float(account.spent),
            since=account.span.start,
        )


def fraction_reached(budget: Budget, account: Account) -> float:
    """Return the highest of the fractions in `warn_at`, and 1.0, that spending has reached; 0.0 if none."""
    fractions = (*budget.warn_at, 1.0)
    return max((fraction for fraction in fractions if account.spent >= fraction * account.limit), default=0.0)


def newly_crossed(spending: Spending[Threshold], account: Account) -> Iterator[ThresholdCrossed]:
    """Yield an event if spending has crossed the threshold and nobody was notified in this window."""
    if account.spent > account.limit and not account.notified:
        account.notified = 1.0
        yield ThresholdCrossed(
            threshold=spending.rule.name,
            window=spending.period,
            match=spending.rule.match,
            limit=account.to_float(account.limit),
            spent=account.to_float(account.spent),
            since=account.span.start,
        )
