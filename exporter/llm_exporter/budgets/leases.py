"""Budgets that the service shares among processes, without asking it on any call's way.

A process has a lease on each account: so much it may spend before it asks again. The service grants no more
than there is, so that all processes together stay within the limit. What a process has spent stays on its
lease until it is in the ledger and the lease is renewed; and of a lease that becomes smaller nothing is free
for others before the process is known to have taken note.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any, Final

import msgspec

from ..call import Call
from ..config.model import Budget
from ..periods import Span
from .events import Unit
from .spending import Account, Spending, facts_of

LEASE_SECONDS: Final = 5.0
"""How long a process spends of a lease; the service keeps it for twice as long."""
_IDLE_SECONDS: Final = 60.0
"""After which an account of one session, agent or the like is not asked for any longer."""


class Asked(msgspec.Struct):
    """What a process tells of one account."""

    rule: str
    """As the service named it."""
    values: tuple[str, ...]
    used: int
    """Spent and not yet in the ledger, or held for calls under way."""
    keeps: int = 0
    """What it may come to use of the lease that it has, until it knows of another."""
    wanted: int = 0
    """What a call was refused for."""


class Question(msgspec.Struct):
    """What a process asks for."""

    process: str
    accounts: list[Asked] = []
    ends: bool = False
    """Whether it is the last one, so that nothing is to be granted."""


class Granted(msgspec.Struct):
    """What a process may spend of one account."""

    rule: str
    values: tuple[str, ...]
    start: float | None
    """Of the period, in seconds since 1970; None for all time."""
    spent: int
    """By all processes, as far as the ledger has it."""
    amount: int


class Shared(msgspec.Struct):
    """A budget that the service shares."""

    rule: str
    budget: dict[str, Any]


class Answer(msgspec.Struct):
    """What the service grants."""

    budgets: list[Shared]
    granted: list[Granted]


class LeasedAccount(Account):
    """What this process may spend of an account that is not its own.

    Args:
        fails_open: whether calls go on when the lease has run out and the service does not answer.
        wants: called when there is no lease, or not enough of it.
    """

    __slots__ = ("confirmed", "fails_open", "granted", "leased", "unsent", "until", "wanted", "wants")

    def __init__(
        self,
        labels: Mapping[str, str],
        limit: int,
        unit: Unit,
        span: Span,
        *,
        fails_open: bool,
        wants: Callable[[], object],
    ) -> None:
        super().__init__(labels, limit, unit, span)
        self.fails_open = fails_open
        self.wants = wants
        self.granted: int | None = None
        """None before the first answer: then it is as if the account were this process's own."""
        self.until = 0.0
        """When the lease runs out, by the monotonic clock."""
        self.leased = 0
        """Spent of the lease."""
        self.unsent: dict[str, int] = {}
        """Spent and not known to be in the ledger, by the id of the call."""
        self.confirmed = 0
        """What of `leased` was in the ledger when the service was last asked."""
        self.wanted = 0
        wants()

    @property
    def away(self) -> bool:
        """Whether the lease has run out."""
        return self.granted is not None and time.monotonic() > self.until

    def fits(self, amount: int) -> bool:
        """See `Account.fits`."""
        if self.granted is None:
            return super().fits(amount)
        if self.away:
            return self.fails_open
        if self.leased + self.held + amount <= self.granted:
            return True
        self.wanted = amount
        self.wants()
        return False

    def add(self, call_id: str, amount: int) -> None:
        """See `Account.add`."""
        self.spent += amount
        self.leased += amount
        self.unsent[call_id] = amount

    def renew(self, span: Span) -> None:
        """See `Account.renew`."""
        super().renew(span)
        self.granted, self.leased, self.confirmed = None, 0, 0
        self.unsent.clear()
        self.wants()

    def ask(self, rule: str, values: tuple[str, ...]) -> Asked:
        """Return what to tell the service, and to ask it for."""
        unsent = sum(self.unsent.values())
        self.confirmed = self.leased - unsent
        used = unsent + self.held
        keeps = used if self.granted is None else max(self.granted - self.confirmed, used)
        wanted, self.wanted = self.wanted, 0
        return Asked(rule, values, used, keeps, wanted)

    def take(self, grant: Granted, until: float) -> None:
        """Spend of a new lease from now on.

        Args:
            grant: what the service answered to what was last asked.
            until: when the lease runs out, by the monotonic clock.
        """
        if grant.start not in (self.span.start, None):
            return  # the period has changed meanwhile
        self.granted = grant.amount
        self.leased -= self.confirmed
        self.confirmed = 0
        self.until = until
        self.spent = grant.spent + sum(self.unsent.values())


class SharedBudgets:
    """The blocking budgets of the service, as far as this process may spend of them."""

    def __init__(self) -> None:
        self.spendings: tuple[Spending[Budget], ...] = ()
        self.wants_more: Callable[[], object] = lambda: None
        """Called when this process should ask soon."""
        self._names: dict[str, Spending[Budget]] = {}
        self._unsent: dict[str, list[LeasedAccount]] = {}
        """By the id of the call."""

    def follow(self, shared: Sequence[Shared]) -> None:
        """Take over which budgets the service shares; accounts of those that stay are kept."""
        names = {}
        for one in shared:
            budget = Budget.model_validate(one.budget)
            known = self._names.get(one.rule)
            if known is None or known.rule != budget:
                known = self._amended(known, budget)
            names[one.rule] = known
        self._names = names
        self.spendings = tuple(names.values())

    def _amended(self, known: Spending[Budget] | None, budget: Budget) -> Spending[Budget]:
        """Return the accounts of a budget that is new, or has another limit now: what is leased stays so."""
        fails_open = budget.on_unavailable == "fail_open"
        kind = partial(LeasedAccount, fails_open=fails_open, wants=self._ask_soon)
        spending = Spending(budget, kind=kind)
        if known is not None:
            spending.adopt(known)
            for account in spending.accounts():
                if isinstance(account, LeasedAccount):
                    account.fails_open = fails_open
        return spending

    def _ask_soon(self) -> None:
        self.wants_more()

    def ask(self, process: str, *, ends: bool = False) -> Question:
        """Return what this process has to tell the service, and to ask it for."""
        asked = [account.ask(rule, values) for rule, values, account in self._asked_for()]
        return Question(process, asked, ends)

    def take(self, answer: Answer, until: float) -> None:
        """Follow the answer to what was last asked, with leases that run out by the monotonic clock."""
        granted = {(one.rule, one.values): one for one in answer.granted}
        for rule, values, account in self._asked_for():
            if grant := granted.get((rule, values)):
                account.take(grant, until)
        self.follow(answer.budgets)

    def _asked_for(self) -> Iterator[tuple[str, tuple[str, ...], LeasedAccount]]:
        idle = time.time() - _IDLE_SECONDS
        for rule, spending in self._names.items():
            for values, account in spending.by_values():
                if isinstance(account, LeasedAccount) and (not values or account.used > idle):
                    yield rule, values, account

    def spend(self, call: Call) -> None:
        """Spend what a call came to."""
        facts = facts_of(call, call.model)
        for spending in self.spendings:
            account = spending.account(facts, (call.model, call.requested_model))
            if isinstance(account, LeasedAccount):
                spending.spend(account, call)
                self._unsent.setdefault(call.id, []).append(account)

    def shipped(self, call_ids: Iterable[str]) -> None:
        """Take note that calls are in the ledger, or will not come there."""
        for call_id in call_ids:
            for account in self._unsent.pop(call_id, ()):
                account.unsent.pop(call_id, None)
