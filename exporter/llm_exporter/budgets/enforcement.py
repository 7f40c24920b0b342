"""Budgets: refuse a call before it is sent if it could exceed one.

The cost of a call is known only when it has ended. So an estimate is held before the call is sent, and
replaced by the actual cost in one step when the call ends. Concurrent calls can exceed a limit only by the
errors of their estimates.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Final

from ..call import Call
from ..config.model import Budget
from ..pricing.prices import PriceList
from ..threads import Event, RLock
from .asked import Asked, asked_by
from .errors import BudgetExceeded
from .estimates import Estimates
from .events import BudgetReached
from .leases import LeasedAccount, Question, SharedBudgets
from .notifications import newly_reached
from .spending import USD, Account, Spending, labels_of

_SMALLEST_AMOUNT: Final = 1
_PAUSE_SECONDS: Final = 0.005
"""How often a call that waits for a lease, or for the cost of other calls, looks for it."""
_MAX_PAUSES: Final = 50
"""How often a call that does not fit looks whether calls that have ended are settled."""

Notify = Callable[[BudgetReached], object]
_Estimated = tuple[Spending[Budget], Account, int]
"""A budget that matches a call, its account, and the call's estimate in its unit."""


class Budgets:
    """The budgets of this process: limits, spending, and amounts held for calls in flight.

    `hold` runs on the caller's thread before a call, `settle` on the worker thread afterwards.

    Args:
        budgets: the configured budgets.
        prices: prices the estimates.
        notify: receives events, on the thread that calls `settle`.
        clock: returns the Unix time in seconds.
        monotonic: returns seconds that no change of the clock affects.
        settle_soon: has calls that have ended settled at once, and returns an event that is set afterwards;
            None if they always are.
    """

    def __init__(
        self,
        budgets: Sequence[Budget],
        prices: PriceList,
        notify: Notify,
        clock: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
        *,
        settle_soon: Callable[[], Event] | None = None,
    ) -> None:
        self._settle_soon = settle_soon
        self._all = [Spending(budget, clock, monotonic) for budget in budgets]
        self._blocking = [spending for spending in self._all if spending.rule.on_exceed == "block"]
        self.shared = SharedBudgets(prices, clock, monotonic)
        self._clock = clock
        self._prices = prices
        self._estimates = Estimates(prices)
        self._notify = notify
        self._holds: dict[str, list[_Estimated]] = {}
        """By call id."""
        self.after_fork()

    def acknowledge(self, call_ids: Iterable[str]) -> None:
        """Note that calls are in the service's ledger, or were dropped."""
        with self._lock:
            self.shared.acknowledge(call_ids)

    @property
    def lock(self) -> AbstractContextManager[object]:
        """The lock for reading or changing the accounts."""
        return self._lock

    def after_fork(self) -> None:
        """Start over in a forked process, where no thread holds the lock and no call is in flight."""
        # Re-entrant: a signal handler may make a call while the interrupted thread holds the lock.
        self._lock = RLock()
        for call_id in list(self._holds):
            self._release(call_id)
        self.shared = self.shared.in_child()

    def carry_over(self, other: Budgets) -> None:
        """Keep spending and held amounts over a reload, for budgets that are still configured."""
        with other._lock:
            known = {spending.identity: spending for spending in other._all}
            for spending in self._all:
                if before := known.get(spending.identity):
                    spending.carry_over(before)
            self._holds = other._holds
            self._lock, self.shared = other._lock, other.shared
            self.shared.prices.own = self._prices
            self._estimates.carry_over(other._estimates)

    @property
    def may_refuse(self) -> bool:
        """Whether any budget can refuse a call."""
        return bool(self._blocking or self.shared.budgets or self.shared.is_new)

    def _matching(self, call: Call) -> list[tuple[Spending[Budget], Account]]:
        """Return the blocking budgets that match a call about to be sent, with their accounts."""
        model = self._estimates.expected_model(call)
        labels = labels_of(call, model)
        models = (model, call.requested_model)
        own = [
            (spending, account)
            for spending in self._blocking
            if (account := spending.account(labels, models)) is not None
        ]
        return [*own, *self.shared.matching(labels, models)] if self.shared.budgets else own

    def hold(self, call: Call, request: object) -> None:
        """As `holding`, sleeping on this thread meanwhile.

        Raises:
            BudgetExceeded: if the estimate does not fit into a budget.
        """
        for seconds in self.holding(call, request):
            time.sleep(seconds)

    def holding(self, call: Call, request: object) -> Iterable[float]:
        """Hold the estimated cost of a call in every matching blocking budget, until it is settled.

        Args:
            call: the call about to be sent.
            request: its body.

        Returns:
            The seconds to sleep before each next step, while the service is asked for a lease, or while the
            cost of calls that have ended replaces their estimates. Iterating raises `BudgetExceeded` if the
            estimate does not fit into a budget; then nothing is held.
        """
        if not self.may_refuse:
            return ()
        asked = asked_by(request)
        if not (self.shared.budgets or self.shared.is_new) and self._hold_at_once(call, asked):
            return ()
        return self._holding(call, asked)

    def _hold_at_once(self, call: Call, asked: Asked) -> bool:
        """Hold the estimate in the budgets of this process alone if it fits; return whether it did."""
        with self._lock:
            estimated = self._estimated(call, asked)
            for _, account, amount in estimated:
                if not account.fits(amount):
                    return False
            self._hold(call, estimated)
            return True

    def _holding(self, call: Call, asked: Asked) -> Iterator[float]:
        question, room = self._question(), _Room(self._settle_soon)
        while True:
            with self._lock:
                estimated = self._estimated(call, asked)
                if (question is None or not question.is_open(estimated)) and room.is_for(estimated):
                    self._hold(call, estimated)
                    return
            yield _PAUSE_SECONDS
            call.started = self._clock()  # a period may have begun meanwhile

    def _hold(self, call: Call, estimated: list[_Estimated]) -> None:
        for _, account, amount in estimated:
            account.held += amount
        if estimated:
            self._holds[call.id] = estimated

    def refusing_if_exhausted(self, call: Call) -> Iterator[float]:
        """Refuse a call that cannot be estimated if nothing is left for it.

        Yields:
            The seconds to sleep before the next step, as `holding` does.

        Raises:
            BudgetExceeded: if nothing is left in a matching blocking budget.
        """
        question, room = self._question(), _Room(self._settle_soon)
        while True:
            with self._lock:
                smallest = [(*matching, _SMALLEST_AMOUNT) for matching in self._matching(call)]
                if (question is None or not question.is_open(smallest)) and room.is_for(smallest):
                    return
            yield _PAUSE_SECONDS

    def _question(self) -> Question | None:
        return Question(self.shared) if self.shared.budgets or self.shared.is_new else None

    def _estimated(self, call: Call, asked: Asked) -> list[_Estimated]:
        matching = self._matching(call)
        if not matching:
            return []
        own = charged = None
        estimated = []
        for spending, account in matching:
            if isinstance(account, LeasedAccount):
                usd, tokens = charged = charged or self.shared.estimates.estimate(call, asked)
            else:
                usd, tokens = own = own or self._estimates.estimate(call, asked)
            estimated.append((spending, account, tokens if spending.unit == "tokens" else round(usd * USD)))
        return estimated

    def settle(self, call: Call) -> None:
        """Replace the amount held for a call by its usage."""
        if not self._all and not self.shared.budgets:
            return
        self._estimates.observe(call)
        labels = labels_of(call, call.model)
        models = (call.model, call.requested_model)
        events: list[BudgetReached] = []
        with self._lock:
            self._release(call.id)
            for spending in self._all:
                account = spending.account(labels, models)
                if account is not None:
                    spending.spend(account, call)
                    if (event := newly_reached(spending, account)) is not None:
                        events.append(event)
            self.shared.spend(call)
        for event in events:
            self._notify(event)

    def _release(self, call_id: str) -> None:
        for _, account, amount in self._holds.pop(call_id, ()):
            account.held -= amount

    def accounts(self) -> Iterator[tuple[Budget, Account]]:
        """Yield every budget with each of its accounts."""
        with self._lock:
            yield from [(spending.rule, account) for spending in self._all for account in spending.accounts()]

    def accounts_for(self, labels: Mapping[str, str]) -> list[tuple[Budget, Account]]:
        """Return the budgets that match calls with these labels, each with its account."""
        models = (labels.get("model", ""),)
        with self._lock:
            own = [
                (spending.rule, account)
                for spending in self._all
                if (account := spending.account(labels, models)) is not None
            ]
            shared = self.shared.matching(labels, models)
            return [*own, *((spending.rule, account) for spending, account in shared)]


class _Room:
    """Whether there is room for a call in its budgets, once calls that have ended are settled."""

    def __init__(self, settle_soon: Callable[[], Event] | None) -> None:
        self._settle_soon = settle_soon
        self._settled: Event | None = None
        self._looks = 0

    def is_for(self, estimated: Iterable[_Estimated]) -> bool:
        """Return whether estimates fit; False to be asked again.

        Raises:
            BudgetExceeded: if one does not fit.
        """
        for spending, account, amount in estimated:
            if not account.fits(amount):
                if not account.held or not self._may_grow():
                    raise refusal(spending, account, amount)
                return False
        return True

    def _may_grow(self) -> bool:
        if self._settle_soon is None:
            return False
        if self._settled is None:
            self._settled = self._settle_soon()
            return True
        self._looks += 1
        return not self._settled.is_set() and self._looks < _MAX_PAUSES


def refusal(spending: Spending[Budget], account: Account, amount: int) -> BudgetExceeded:
    """Return the error for a call whose estimate does not fit."""
    return BudgetExceeded(
        budget=spending.rule.name,
        labels=dict(account.labels),
        unit=account.unit,
        period=spending.period,
        spent=account.to_float(account.spent),
        held=account.to_float(account.held),
        estimate=account.to_float(amount),
        limit=account.to_float(account.limit),
        resets_at=account.resets_at,
        away=account.away,
    )
