"""Budgets that the service shares among processes, with no request to the service in any call's way.

A process has a lease on each account: an amount that it may spend before it asks again. The service never
leases more than is left, so all processes together stay within the limit. What a process has spent counts
against its lease until the calls are in the ledger and the lease is renewed. When a lease shrinks, other
processes get the difference only once the process is known to have received the smaller lease.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any, Final

import msgspec
from typing_extensions import override

from ..call import Call
from ..config.model import Budget
from ..periods import Span
from .events import Unit
from .spending import Account, Key, Spending, labels_of

LEASE_SECONDS: Final = 5.0
"""How long a process may spend on a lease. The service keeps the lease for twice as long."""
_IDLE_SECONDS: Final = 60.0
"""After this long without a call, the lease on an account of one session or agent is not renewed."""


class AccountUse(msgspec.Struct):
    """The usage that a process reports for one account."""

    rule: str
    """The service's name of the budget."""
    values: Key
    used: int
    """Spent and not yet in the ledger, or held for calls in flight."""
    keeps: int = 0
    """The most that the process may still use of its current lease until it receives another one."""
    wanted: int = 0
    """The estimate of a call that was refused."""


class LeaseRequest(msgspec.Struct):
    """The leases that a process asks for."""

    process: str
    accounts: list[AccountUse] = []
    ends: bool = False
    """Whether the process returns its leases because it is exiting."""


class LeaseGrant(msgspec.Struct):
    """The lease on one account."""

    rule: str
    values: Key
    start: float | None
    """When the period began, as a Unix timestamp in seconds; None for a budget without periods."""
    spent: int
    """The amount in the ledger, spent by all processes."""
    amount: int


class SharedBudget(msgspec.Struct):
    """A budget that the service shares."""

    rule: str
    budget: dict[str, Any]


class LeaseResponse(msgspec.Struct):
    """The shared budgets, and the leases that the service grants."""

    budgets: list[SharedBudget]
    granted: list[LeaseGrant]


class LeasedAccount(Account):
    """An account on a lease from the service.

    Args:
        fails_open: whether calls may be sent when the lease has expired.
        renewal_due: set when a lease is missing or too small.
    """

    __slots__ = (
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
        renewal_due: threading.Event,
    ) -> None:
        super().__init__(labels, limit, unit, span)
        self.fails_open = fails_open
        self.renewal_due = renewal_due
        self.granted: int | None = None
        """None before the first response: until then the whole limit is this process's."""
        self.valid_until = 0.0
        """When the lease expires, by the monotonic clock."""
        self.spent_on_lease = 0
        self.unacknowledged: dict[str, int] = {}
        """The usage of calls that may not be in the ledger yet, by call id."""
        self.acknowledged = 0
        """The part of `spent_on_lease` that was in the ledger when the last request was made."""
        self.wanted = 0
        renewal_due.set()

    @property
    @override
    def lease_expired(self) -> bool:
        return self.granted is not None and time.monotonic() > self.valid_until

    @override
    def fits(self, amount: int) -> bool:
        if self.granted is None:
            return super().fits(amount)
        if self.lease_expired:
            return self.fails_open
        if self.spent_on_lease + self.held + amount <= self.granted:
            return True
        self.wanted = amount
        self.renewal_due.set()
        return False

    @override
    def add(self, call_id: str, amount: int) -> None:
        self.spent += amount
        self.spent_on_lease += amount
        self.unacknowledged[call_id] = amount

    @override
    def renew(self, span: Span) -> None:
        super().renew(span)
        self.granted, self.spent_on_lease, self.acknowledged = None, 0, 0
        self.unacknowledged.clear()
        self.renewal_due.set()

    def report(self, rule: str, key: Key) -> AccountUse:
        """Return this account's part of a lease request."""
        unacknowledged = sum(self.unacknowledged.values())
        self.acknowledged = self.spent_on_lease - unacknowledged
        used = unacknowledged + self.held
        keeps = used if self.granted is None else max(self.granted - self.acknowledged, used)
        wanted, self.wanted = self.wanted, 0
        return AccountUse(rule, key, used, keeps, wanted)

    def apply(self, grant: LeaseGrant, valid_until: float) -> None:
        """Replace the lease.

        Args:
            grant: the response to the last request.
            valid_until: when the lease expires, by the monotonic clock.
        """
        if grant.start not in (self.span.start, None):
            return  # a new period has begun since the request
        self.granted = grant.amount
        self.spent_on_lease -= self.acknowledged
        self.acknowledged = 0
        self.valid_until = valid_until
        self.spent = grant.spent + sum(self.unacknowledged.values())


class SharedBudgets:
    """The blocking budgets of the service, with this process's leases. Not thread-safe."""

    def __init__(self) -> None:
        self.budgets: tuple[Spending[Budget], ...] = ()
        self.renewal_due = threading.Event()
        """Set if leases should be renewed soon. May be set and awaited from any thread."""
        self._by_name: dict[str, Spending[Budget]] = {}
        self._unacknowledged: dict[str, list[LeasedAccount]] = {}
        """By call id."""

    def request(self, process: str, *, ends: bool = False) -> LeaseRequest:
        """Return the request for this process's leases."""
        accounts = [account.report(rule, key) for rule, key, account in self._active()]
        return LeaseRequest(process, accounts, ends)

    def apply(self, response: LeaseResponse, valid_until: float) -> None:
        """Apply the response to the last request.

        Args:
            response: the shared budgets, and the granted leases.
            valid_until: when the leases expire, by the monotonic clock.
        """
        grants = {(grant.rule, grant.values): grant for grant in response.granted}
        for rule, key, account in self._active():
            if grant := grants.get((rule, key)):
                account.apply(grant, valid_until)
        self._configure(response.budgets)

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
        new_account = partial(LeasedAccount, fails_open=fails_open, renewal_due=self.renewal_due)
        spending = Spending(budget, new_account=new_account)
        if before is not None:
            spending.carry_over(before)
            for _, account in _leased(spending):
                account.fails_open = fails_open
        return spending

    def _active(self) -> Iterator[tuple[str, Key, LeasedAccount]]:
        """Yield the accounts whose leases to renew, with the name of their budget and their key."""
        idle = time.time() - _IDLE_SECONDS
        for rule, spending in self._by_name.items():
            for key, account in _leased(spending):
                if not key or account.last_used > idle:
                    yield rule, key, account

    def spend(self, call: Call) -> None:
        """Add the usage of a call."""
        labels = labels_of(call, call.model)
        for spending in self.budgets:
            account = spending.account(labels, (call.model, call.requested_model))
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
