"""Budgets that the service shares among processes.

A process has a lease on each account: an amount that it may spend before it asks again. The service never
leases more than is left, so all processes together stay within the limit. What a process has spent counts
against its lease until the calls are in the ledger and the lease is renewed. When a lease shrinks, other
processes get the difference only once the process is known to have received the smaller lease.

A thread renews the leases. A call waits for it only if it needs a lease that the process does not have: the
first call of a session or of a period, and one that does not fit into the lease although something is left.
"""

from __future__ import annotations

import heapq
import math
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from typing import Final, NamedTuple

from typing_extensions import override

from ..call import Call
from ..config.model import Budget
from ..periods import Span
from ..pricing.prices import PriceList
from ..threads import Event
from .charged_prices import ChargedPrices
from .estimates import Estimates
from .events import Unit
from .lease_messages import (
    MAX_ACCOUNTS,
    AccountUse,
    LeaseGrant,
    LeaseRequest,
    LeaseResponse,
    SharedBudget,
)
from .spending import Account, Key, Spending, labels_of

LEASE_SECONDS: Final = 5.0
"""How long a process may spend on a lease. The service keeps the lease for twice as long."""
ASK_SECONDS: Final = 1.0
"""The longest time that a call waits for a lease."""
FIRST_SECONDS: Final = 0.25
"""The longest time that the first call of a process waits to learn which budgets the service shares."""
_IDLE_SECONDS: Final = 60.0
"""After this long without a call, the lease on an account of one session or agent is not renewed."""


class LeasedAccount(Account):
    """An account on a lease from the service.

    Without a valid lease the service is unavailable, since calls ask for a lease before they get here. Then
    the account fails closed, or it judges by the service's last word and by what this process has spent.

    Args:
        fails_open: whether calls may be sent without a lease.
        renewal_due: set when a lease is missing or too small.
        monotonic: returns seconds that no change of the clock affects.
    """

    __slots__ = (
        "_monotonic",
        "acknowledged",
        "fails_open",
        "granted",
        "renewal_due",
        "spent_on_lease",
        "unacknowledged",
        "valid_until",
        "wanted",
    )

    def __init__(
        self,
        labels: Mapping[str, str],
        limit: int,
        unit: Unit,
        span: Span,
        *,
        fails_open: bool,
        renewal_due: Event,
        monotonic: Callable[[], float],
    ) -> None:
        super().__init__(labels, limit, unit, span)
        self.fails_open = fails_open
        self.renewal_due = renewal_due
        self._monotonic = monotonic
        self.granted = 0
        self.valid_until = -math.inf
        """When the lease expires, by the monotonic clock."""
        self.spent_on_lease = 0
        self.unacknowledged: dict[str, tuple[Span, int]] = {}
        """The usage of calls that may not be in the ledger yet, by call id."""
        self.acknowledged = 0
        """The part of `spent_on_lease` that was in the ledger when the last request was made."""
        self.wanted = 0
        renewal_due.set()

    @property
    def lease_expired(self) -> bool:
        """Whether there is no valid lease."""
        return self._monotonic() > self.valid_until

    @property
    @override
    def away(self) -> bool:
        return self.lease_expired and not self.fails_open

    @property
    def is_needed(self) -> bool:
        """Whether calls have used it that the ledger may not include yet."""
        return bool(self.held or self.unacknowledged)

    @override
    def fits(self, amount: int) -> bool:
        if self.lease_expired:
            return self.fails_open and super().fits(amount)
        taken = self.spent_on_lease + self.held
        return taken < self.granted and taken + amount <= self.granted

    def lacks_lease(self, amount: int) -> bool:
        """Return whether the service must be asked before a call is judged that is estimated at an amount."""
        return self.lease_expired or (not self.fits(amount) and super().fits(amount))

    def ask(self, amount: int) -> None:
        """Ask for a lease that a call with this estimate fits into."""
        self.wanted += max(amount, 1)
        self.renewal_due.set()

    @override
    def add(self, call_id: str, amount: int) -> None:
        self.spent += amount
        self.spent_on_lease += amount
        self.unacknowledged[call_id] = self.span, amount

    @override
    def add_elsewhere(self, call_id: str, when: float, amount: int) -> Span | None:
        span = super().add_elsewhere(call_id, when, amount)
        if span is not None:
            self.unacknowledged[call_id] = span, amount
        return span

    @override
    def enter(self, span: Span) -> None:
        super().enter(span)
        self.granted = self.spent_on_lease = self.acknowledged = 0
        self.valid_until = -math.inf
        self.renewal_due.set()

    def _used(self) -> int:
        return sum(amount for span, amount in self.unacknowledged.values() if span == self.span)

    def report(self, rule: str, key: Key) -> AccountUse:
        """Return this account's part of a lease request."""
        unacknowledged = self._used()
        self.acknowledged = self.spent_on_lease - unacknowledged
        used = unacknowledged + self.held
        keeps = max(self.granted - self.acknowledged, used)
        wanted, self.wanted = self.wanted, 0
        return AccountUse(rule, key, used, keeps, wanted, self.span.start_or_none)

    def apply(self, grant: LeaseGrant, valid_until: float) -> None:
        """Replace the lease.

        Args:
            grant: the response to the last request.
            valid_until: when the lease expires, by the monotonic clock.
        """
        if grant.start != self.span.start_or_none:
            return  # a new period has begun since the request
        self.granted = grant.amount
        self.spent_on_lease -= self.acknowledged
        self.acknowledged = 0
        self.valid_until = valid_until
        self.spent = grant.spent + self._used()


class _Reported(NamedTuple):
    """An account whose lease to renew."""

    rule: str
    key: Key
    account: LeasedAccount

    def urgency(self) -> tuple[bool, float]:
        return not self.account.wanted, self.account.valid_until


class SharedBudgets:
    """The blocking budgets of the service, with this process's leases. Not thread-safe.

    Args:
        prices: the prices of this process.
        clock: returns the Unix time in seconds.
        monotonic: returns seconds that no change of the clock affects.
    """

    def __init__(
        self,
        prices: PriceList,
        clock: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self.prices = ChargedPrices(prices)
        self.estimates = Estimates(self.prices)
        self.budgets: tuple[Spending[Budget], ...] = ()
        self._labels: dict[str, str] = {}
        """What the service replaces labels of calls with."""
        self.renewal_due = Event()
        """Set if leases should be renewed soon. May be set and awaited from any thread."""
        self.monotonic = monotonic
        self.sent = self.answered = 0
        """The number of requests, and of the last one that was answered."""
        self.responds = False
        """Whether the service answers in time, as far as is known. If it does not, no call waits."""
        self._first_until = -math.inf
        self._clock = clock
        self._by_name: dict[str, Spending[Budget]] = {}
        self._reported: list[_Reported] = []
        self._unacknowledged: dict[str, list[LeasedAccount]] = {}
        """By call id."""

    def in_child(self) -> SharedBudgets:
        """Return the same budgets for a forked process, which has no lease yet."""
        child = SharedBudgets(self.prices.own, self._clock, self.monotonic)
        child.prices.configure(self.prices.configured)
        for rule, spending in self._by_name.items():
            child._by_name[rule] = child._changed(None, spending.rule)
        child.budgets = tuple(child._by_name.values())
        child._labels = self._labels
        return child

    @property
    def is_new(self) -> bool:
        """Whether this process is about to learn which budgets the service shares."""
        return self._first_until > -math.inf and self.monotonic() < self._first_until

    def begin(self) -> None:
        """Note that a thread begins to ask the service."""
        self.responds = True
        self._first_until = self.monotonic() + FIRST_SECONDS

    def request(self, process: str, *, ends: bool = False) -> LeaseRequest:
        """Return the request for this process's leases."""
        reported = list(self._active())
        if len(reported) > MAX_ACCOUNTS:
            reported = heapq.nsmallest(MAX_ACCOUNTS, reported, key=_Reported.urgency)
            self.renewal_due.set()
        self._reported = reported
        self.sent += 1
        return LeaseRequest(process, [account.report(rule, key) for rule, key, account in reported], ends)

    def apply(self, response: LeaseResponse, valid_until: float) -> None:
        """Apply the response to the last request.

        Args:
            response: the shared budgets, and the granted leases.
            valid_until: when the leases expire, by the monotonic clock.
        """
        grants = {(grant.rule, grant.values): grant for grant in response.granted}
        for rule, key, account in self._reported:
            if grant := grants.get((rule, key)):
                account.apply(grant, valid_until)
        self._configure(response.budgets)
        self.prices.configure(response.prices)
        self._labels = response.labels
        self.answered = self.sent
        self.responds = True
        self._first_until = -math.inf

    def failed(self) -> None:
        """Note that the service did not answer, or not in time."""
        self.responds = False
        self._first_until = -math.inf

    def _configure(self, shared: Sequence[SharedBudget]) -> None:
        """Replace the budgets. Those that are still shared keep their accounts."""
        by_name = {}
        for each in shared:
            budget = Budget.model_validate(each.budget)
            spending = self._by_name.get(each.rule)
            if spending is None or spending.rule != budget:
                spending = self._changed(spending, budget)
            by_name[each.rule] = spending
        self._by_name = by_name
        self.budgets = tuple(by_name.values())

    def _changed(self, before: Spending[Budget] | None, budget: Budget) -> Spending[Budget]:
        """Return the accounts of a new or changed budget. Leases on existing accounts stay."""
        fails_open = budget.on_unavailable == "fail_open"
        new_account = partial(
            LeasedAccount, fails_open=fails_open, renewal_due=self.renewal_due, monotonic=self.monotonic
        )
        spending = Spending(budget, self._clock, self.monotonic, new_account)
        if before is not None:
            spending.carry_over(before)
            for _, account in _leased(spending):
                account.fails_open = fails_open
        return spending

    def _active(self) -> Iterator[_Reported]:
        """Yield the accounts whose leases to renew."""
        idle = self.monotonic() - _IDLE_SECONDS
        for rule, spending in self._by_name.items():
            for key, account in _leased(spending):
                if not key or account.last_used > idle or account.is_needed:
                    yield _Reported(rule, key, account)

    def matching(
        self, labels: Mapping[str, str], models: Iterable[str]
    ) -> Iterator[tuple[Spending[Budget], Account]]:
        """Yield the budgets that match a call, each with its account; see `Spending.key_of`."""
        labels = {**labels, **self._labels}
        for spending in self.budgets:
            if (account := spending.account(labels, models)) is not None:
                yield spending, account

    def spend(self, call: Call) -> None:
        """Add the usage of a call, with the cost that the service charges."""
        if not self.budgets:
            return
        call = self.prices.charged(call)
        self.estimates.observe(call)
        labels = labels_of(call, call.model)
        for spending, account in self.matching(labels, (call.model, call.requested_model)):
            if isinstance(account, LeasedAccount):
                spending.spend(account, call)
                self._unacknowledged.setdefault(call.id, []).append(account)

    def acknowledge(self, call_ids: Iterable[str]) -> None:
        """Note that calls are in the service's ledger, or were dropped."""
        for call_id in call_ids:
            for account in self._unacknowledged.pop(call_id, ()):
                account.unacknowledged.pop(call_id, None)


def _leased(spending: Spending[Budget]) -> Iterator[tuple[Key, LeasedAccount]]:
    for key, account in spending.items():
        if isinstance(account, LeasedAccount):
            yield key, account


class Question:
    """What one call asks the service before it is judged. Not thread-safe.

    Args:
        shared: the leases of this process.
    """

    def __init__(self, shared: SharedBudgets) -> None:
        self._shared = shared
        self._until = shared.monotonic() + ASK_SECONDS
        self._asked: int | None = None
        """The number of requests that had been sent when the call asked."""

    def is_open(self, estimated: Iterable[tuple[object, Account, int]]) -> bool:
        """Ask for the leases that the call lacks; return whether to wait for them.

        Args:
            estimated: the budgets of the call, each with its account and the estimate in its unit.
        """
        shared = self._shared
        if not shared.budgets:
            return shared.is_new
        lacking = [
            (account, amount)
            for _, account, amount in estimated
            if isinstance(account, LeasedAccount) and account.lacks_lease(amount)
        ]
        if not lacking:
            return False
        if self._asked is not None and shared.answered > self._asked:
            if not any(account.lease_expired for account, _ in lacking):
                return False
            self._asked = None  # the answer was for a period that has ended
        if self._asked is None:
            self._asked = shared.sent
            for account, amount in lacking:
                account.ask(amount)
        if shared.responds and shared.monotonic() > self._until:
            shared.failed()
        return shared.responds
