"""The gauges of budgets and thresholds, with the labels that each of them matches."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from prometheus_client.samples import Sample

from ..config.model import Budget, Threshold
from ..metrics.specs import (
    BUDGET_LIMIT_TOKENS,
    BUDGET_LIMIT_USD,
    BUDGET_SPENT_TOKENS,
    BUDGET_SPENT_USD,
    THRESHOLD,
    THRESHOLD_SPENT,
)
from .spending import Account, without_ids

_BY_UNIT = {
    "usd": (BUDGET_LIMIT_USD, BUDGET_SPENT_USD),
    "tokens": (BUDGET_LIMIT_TOKENS, BUDGET_SPENT_TOKENS),
}


def gauges(
    budgets: Iterable[tuple[Budget, Account]], thresholds: Iterable[tuple[Threshold, Account]]
) -> Iterator[Sample]:
    """Yield the samples. Of accounts that differ only in ids, such as those of sessions, take the fullest."""
    rows = [
        (*_BY_UNIT[account.unit], {"budget": budget.name, "period": budget.period}, account)
        for budget, account in budgets
    ]
    rows += [
        (THRESHOLD, THRESHOLD_SPENT, {"threshold": threshold.name, "window": threshold.window}, account)
        for threshold, account in thresholds
    ]
    fullest: dict[tuple[object, ...], tuple[str, str, dict[str, str], Account]] = {}
    for limit, spent, names, account in rows:
        labels = {**names, **without_ids(account.labels)}
        key = limit.name, *sorted(labels.items())
        if key not in fullest or account.spent > fullest[key][3].spent:
            fullest[key] = limit.name, spent.name, labels, account
    for limit_name, spent_name, labels, account in fullest.values():
        yield Sample(limit_name, labels, account.to_float(account.limit))
        yield Sample(spent_name, labels, account.to_float(account.spent))
