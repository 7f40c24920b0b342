"""The events that spending causes: each fraction of a budget and each threshold once per period."""

from __future__ import annotations

from ..config.model import Budget, Threshold
from .events import BudgetReached, ThresholdCrossed
from .spending import Account, Spending


def newly_reached(spending: Spending[Budget], account: Account) -> BudgetReached | None:
    """Return an event if spending has reached a higher fraction of the limit than already notified."""
    ratio = fraction_reached(spending.rule, account)
    if ratio <= account.notified:
        return None
    account.notified = ratio
    return BudgetReached(
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
    reached = 0.0
    for fraction in (*budget.warn_at, 1.0):
        if fraction > reached and account.spent >= fraction * account.limit:
            reached = fraction
    return reached


def newly_crossed(spending: Spending[Threshold], account: Account) -> ThresholdCrossed | None:
    """Return an event if spending has crossed the threshold and nobody was notified in this window."""
    if account.spent <= account.limit or account.notified:
        return None
    account.notified = 1.0
    return ThresholdCrossed(
        threshold=spending.rule.name,
        window=spending.period,
        match=spending.rule.match,
        limit=account.to_float(account.limit),
        spent=account.to_float(account.spent),
        since=account.span.start,
    )
