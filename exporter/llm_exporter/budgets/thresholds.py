"""Thresholds: notify when spending crosses them, once per window."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence

from ..call import Call
from ..config.model import Threshold
from .events import ThresholdCrossed
from .notifications import newly_crossed
from .spending import Account, Spending, labels_of

Notify = Callable[[ThresholdCrossed], object]


class Thresholds:
    """Spending against each threshold. Not thread-safe.

    Args:
        thresholds: the configured thresholds.
        notify: receives events.
        clock: returns the Unix time in seconds.
    """

    def __init__(
        self, thresholds: Sequence[Threshold], notify: Notify, clock: Callable[[], float] = time.time
    ) -> None:
        self._all = [Spending(threshold, clock) for threshold in thresholds]
        self._notify = notify

    def carry_over(self, other: Thresholds) -> None:
        """Keep spending over a reload, for thresholds that are still configured."""
        known = {spending.identity: spending for spending in other._all}
        for spending in self._all:
            if before := known.get(spending.identity):
                spending.carry_over(before)

    def settle(self, call: Call) -> None:
        """Add the cost of a call."""
        if not self._all:
            return
        labels = labels_of(call, call.model)
        for spending in self._all:
            account = spending.account(labels, (call.model, call.requested_model))
            if account is not None:
                spending.spend(account, call)
                if (event := newly_crossed(spending, account)) is not None:
                    self._notify(event)

    def accounts(self) -> Iterator[tuple[Threshold, Account]]:
        """Yield every threshold with its account for the current window."""
        for spending in self._all:
            for account in spending.accounts():
                yield spending.rule, account
