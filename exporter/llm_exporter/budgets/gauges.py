"""The gauges of budgets and thresholds, with the labels that each of them matches."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from heapq import nlargest
from typing import Final

from ..config.model import Budget, Threshold
from ..metrics.registry import GaugeSample
from ..metrics.specs import (
    ACCOUNTS_LEFT_OUT,
    BUDGET_BLOCKING,
    BUDGET_LIMIT_TOKENS,
    BUDGET_LIMIT_USD,
    BUDGET_SPENT_TOKENS,
    BUDGET_SPENT_USD,
    THRESHOLD,
    THRESHOLD_SPENT,
    Spec,
)
from .spending import Account, without_ids

_BY_UNIT: Final = {
    "usd": (BUDGET_LIMIT_USD, BUDGET_SPENT_USD),
    "tokens": (BUDGET_LIMIT_TOKENS, BUDGET_SPENT_TOKENS),
}


MAX_ACCOUNTS: Final = 1000
"""The largest number of accounts of a rule that have series. Labels from outside make accounts."""


def gauges(
    budgets: Iterable[tuple[Budget, Account]], thresholds: Iterable[tuple[Threshold, Account]]
) -> Iterator[GaugeSample]:
    """Yield the samples of the fullest accounts of each rule, and how many others it has.

    Of accounts that differ only in ids, such as those of sessions, take the fullest. The others have no sum:
    it could not be compared with the limit, which is that of one account.
    """
    rules: dict[tuple[str, str, str], _Rule] = {}
    blocking: dict[tuple[str, str], bool] = {}
    for budget, account in budgets:
        limit, spent = _BY_UNIT[account.unit]
        key = limit.name, budget.name, budget.period
        if key not in rules:
            rules[key] = _Rule(limit, spent, {"budget": budget.name, "period": budget.period})
            blocking[budget.name, budget.period] = budget.on_exceed == "block"
        rules[key].add(account)
    for threshold, account in thresholds:
        key = THRESHOLD.name, threshold.name, threshold.window
        if key not in rules:
            names = {"threshold": threshold.name, "window": threshold.window}
            rules[key] = _Rule(THRESHOLD, THRESHOLD_SPENT, names)
        rules[key].add(account)
    left_out: Counter[str] = Counter()
    for (_, name, _), rule in rules.items():
        for labels, account in rule.fullest():
            yield GaugeSample(rule.limit.name, labels, account.to_float(account.limit))
            yield GaugeSample(rule.spent.name, labels, account.to_float(account.spent))
        left_out[name] += max(len(rule.accounts) - MAX_ACCOUNTS, 0)
    for (name, period), blocks in blocking.items():
        yield GaugeSample(BUDGET_BLOCKING.name, {"budget": name, "period": period}, blocks)
    for name, number in left_out.items():
        yield GaugeSample(ACCOUNTS_LEFT_OUT.name, {"rule": name}, number)


class _Rule:
    """The accounts of a budget or threshold, by the labels of their series."""

    def __init__(self, limit: Spec, spent: Spec, names: dict[str, str]) -> None:
        self.limit = limit
        self.spent = spent
        self.accounts: dict[tuple[tuple[str, str], ...], Account] = {}
        self._names = names

    def add(self, account: Account) -> None:
        labels = tuple(sorted(without_ids(account.labels).items()))
        known = self.accounts.get(labels)
        if known is None or account.spent > known.spent:
            self.accounts[labels] = account

    def fullest(self) -> Iterator[tuple[dict[str, str], Account]]:
        """Yield the labels and accounts that have series."""
        accounts = self.accounts.items()
        if len(accounts) > MAX_ACCOUNTS:
            accounts = dict(nlargest(MAX_ACCOUNTS, accounts, key=lambda each: each[1].spent)).items()
        for labels, account in accounts:
            yield {**self._names, **dict(labels)}, account
