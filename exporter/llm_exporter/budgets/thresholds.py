"""Thresholds: who wants to know when spending passes them is told, once in each window."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence

from ..call import Call
from ..config.model import Threshold
from .events import ThresholdCrossed
from .spending import Account, Spending, facts_of

Tell = Callable[[ThresholdCrossed], object]


class Thresholds:
    """What is spent of each threshold. For one thread.

    Args:
        thresholds: of the configuration.
        tell: takes events.
        clock: seconds since 1970.
    """

    def __init__(
        self, thresholds: Sequence[Threshold], tell: Tell, clock: Callable[[], float] = time.time
    ) -> None:
        self._all = [Spending(threshold, clock) for threshold in thresholds]
        self._tell = tell

    def adopt(self, other: Thresholds) -> None:
        """Go on from what was spent before the configuration changed, where a threshold stays."""
        known = {spending.identity: spending for spending in other._all}
        for spending in self._all:
            if before := known.get(spending.identity):
                spending.adopt(before)

    def settle(self, call: Call) -> None:
        """Add what a call cost."""
        if not self._all:
            return
        facts = facts_of(call, call.model)
        for spending in self._all:
            account = spending.account(facts, (call.model, call.requested_model))
            if account is not None:
                spending.spend(account, call)
                for event in crossed(spending, account):
                    self._tell(event)

    def accounts(self) -> Iterator[tuple[Threshold, Account]]:
        """Yield what is spent of each threshold in its current window."""
        for spending in self._all:
            for account in spending.accounts():
                yield spending.rule, account


def crossed(spending: Spending[Threshold], account: Account) -> Iterator[ThresholdCrossed]:
    """Yield the event of a threshold that is newly passed."""
    if account.spent > account.limit and not account.told:
        account.told = 1.0
        yield ThresholdCrossed(
            threshold=spending.rule.name,
            window=spending.period,
            match=spending.rule.match,
            limit=account.outside(account.limit),
            spent=account.outside(account.spent),
            since=account.span.start,
        )
