"""Budgets: a call that would pass one is not sent.

What a call costs is known when it has been answered. So an estimate is held from before it is sent until what
it came to is spent, which happens in one step: a hundred calls at a time pass a limit by no more than the
errors of their estimates.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Final

from ..call import Call
from ..config.model import Budget
from ..pricing.prices import PriceList
from .errors import BudgetExceeded
from .estimates import Estimates
from .events import BudgetReached
from .leases import LeasedAccount, SharedBudgets
from .spending import USD, Account, Spending, facts_of

_LEAST: Final = 1
"""The smallest amount."""

Tell = Callable[[BudgetReached], object]


class Budgets:
    """What may be spent, what is, and what is held for calls under way.

    Asked on the caller's thread before a call, told on the exporter's worker afterwards.

    Args:
        budgets: of the configuration.
        prices: of the estimates.
        tell: takes events, on the thread that settles.
        clock: seconds since 1970.
    """

    def __init__(
        self,
        budgets: Sequence[Budget],
        prices: PriceList,
        tell: Tell,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._all = [Spending(budget, clock) for budget in budgets]
        self._blocking = [spending for spending in self._all if spending.rule.on_exceed == "block"]
        self.shared = SharedBudgets()
        self._estimates = Estimates(prices)
        self._tell = tell
        self._holds: dict[str, list[tuple[Account, int]]] = {}
        """By the id of the call."""
        self.forked()

    def shipped(self, call_ids: Iterable[str]) -> None:
        """Take note that calls are in the ledger of the service, or will not come there."""
        with self._lock:
            self.shared.shipped(call_ids)

    @property
    def lock(self) -> threading.RLock:
        """Held while the accounts are read or changed."""
        return self._lock

    def forked(self) -> None:
        """Begin in a forked process, where nobody holds the lock and no call is under way."""
        # Re-entrant: a signal handler may make a call while the thread that it interrupts is about to.
        self._lock = threading.RLock()
        for call_id in list(self._holds):
            self._release(call_id)
        self.shared = SharedBudgets()

    def adopt(self, other: Budgets) -> None:
        """Go on from what was spent before the configuration changed, where a budget stays."""
        with other._lock:
            known = {spending.identity: spending for spending in other._all}
            for spending in self._all:
                if before := known.get(spending.identity):
                    spending.adopt(before)
            self._holds = other._holds
            self._lock, self.shared = other._lock, other.shared
            self._estimates.adopt(other._estimates)

    @property
    def block(self) -> bool:
        """Whether there is a budget that may keep a call from being sent."""
        return bool(self._blocking or self.shared.spendings)

    def _concerned(self, call: Call) -> list[tuple[Spending[Budget], Account]]:
        """Return the blocking budgets for a call that is about to be sent, with their accounts."""
        model = self._estimates.answering(call)
        facts = facts_of(call, model)
        models = (model, call.requested_model)
        return [
            (spending, account)
            for spending in (*self._blocking, *self.shared.spendings)
            if (account := spending.account(facts, models)) is not None
        ]

    def hold(self, call: Call, request: object) -> None:
        """Hold what a call may come to in every blocking budget that is for it, until it is settled.

        Args:
            call: about to be sent.
            request: its body.

        Raises:
            BudgetExceeded: when it does not fit into one of them; then nothing is held.
        """
        if not self.block:
            return
        with self._lock:
            concerned = self._concerned(call)
            if not concerned:
                return
            usd, tokens = self._estimates.of(call, request)
            holds = []
            for spending, account in concerned:
                amount = tokens if spending.unit == "tokens" else round(usd * USD)
                if not account.fits(amount):
                    raise exceeded_by(spending, account, amount)
                holds.append((account, amount))
            for account, amount in holds:
                account.held += amount
            self._holds[call.id] = holds

    def refuse_if_used_up(self, call: Call) -> None:
        """See that a call that cannot be estimated is not sent when nothing is left for it.

        Raises:
            BudgetExceeded: when nothing is left in one of the blocking budgets that are for it.
        """
        with self._lock:
            for spending, account in self._concerned(call):
                if not account.fits(_LEAST):
                    raise exceeded_by(spending, account, _LEAST)

    def settle(self, call: Call) -> None:
        """Spend what a call came to, instead of what was held for it."""
        if not self._all and not self.shared.spendings:
            return
        self._estimates.learn(call)
        facts = facts_of(call, call.model)
        models = (call.model, call.requested_model)
        events: list[BudgetReached] = []
        with self._lock:
            self._release(call.id)
            for spending in self._all:
                account = spending.account(facts, models)
                if account is not None:
                    spending.spend(account, call)
                    events += reached(spending, account)
            self.shared.spend(call)
        for event in events:
            self._tell(event)

    def release(self, call_id: str) -> None:
        """Hold nothing any longer for a call that will not be settled."""
        with self._lock:
            self._release(call_id)

    def _release(self, call_id: str) -> None:
        for account, amount in self._holds.pop(call_id, ()):
            account.held -= amount

    def forget(self, label: str, value: str) -> None:
        """Forget what was spent under an id, such as that of a session that has ended."""
        with self._lock:
            for spending in self._all:
                spending.forget(label, value)

    def accounts(self) -> Iterator[tuple[Budget, Account]]:
        """Yield every account there is, and its budget."""
        with self._lock:
            yield from [(spending.rule, account) for spending in self._all for account in spending.accounts()]

    def check(self, facts: Mapping[str, str]) -> list[tuple[Budget, Account]]:
        """Return the accounts of calls with these labels."""
        models = (facts.get("model", ""),)
        with self._lock:
            return [
                (spending.rule, account)
                for spending in (*self._all, *self.shared.spendings)
                if (account := spending.account(facts, models)) is not None
            ]


def exceeded_by(spending: Spending[Budget], account: Account, amount: int) -> BudgetExceeded:
    """Return the refusal of a call that may come to an amount."""
    return BudgetExceeded(
        budget=spending.rule.name,
        labels=dict(account.labels),
        unit=account.unit,
        period=spending.period,
        spent=account.outside(account.spent),
        held=account.outside(account.held),
        estimate=account.outside(amount),
        limit=account.outside(account.limit),
        resets_at=account.resets_at,
        away=isinstance(account, LeasedAccount) and account.away,
    )


def reached(spending: Spending[Budget], account: Account) -> Iterator[BudgetReached]:
    """Yield the event of the highest part of the limit that is newly reached."""
    ratio = part_reached(spending.rule, account)
    if ratio > account.told:
        account.told = ratio
        yield BudgetReached(
            budget=spending.rule.name,
            period=spending.period,
            labels=dict(account.labels),
            unit=account.unit,
            ratio=ratio,
            limit=account.outside(account.limit),
            spent=account.outside(account.spent),
            since=account.span.start,
        )


def part_reached(budget: Budget, account: Account) -> float:
    """Return the highest part of the limit, of those to be told of, that is reached."""
    parts = (*budget.warn_at, 1.0)
    return max((part for part in parts if account.spent >= part * account.limit), default=0.0)
