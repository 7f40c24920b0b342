"""Budgets that the service shares among processes, without asking it on any call's way.

A process has a lease on each account: so much it may spend before it asks again, which a thread of its own
does all the time. The service grants no more than there is, so that all processes together stay within the
limit. What a process has spent stays on its lease until it is in the ledger and the lease is renewed.
"""

from __future__ import annotations

import logging
import os
import socket
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from functools import partial
from typing import Any, Final

import msgspec
from pydantic import ValidationError

from ..call import Call
from ..config import Budget
from ..shipping import Away, Refused, Service
from .periods import Span
from .spending import Account, Spending, Unit, facts_of

log = logging.getLogger("llm_exporter")

RENEW_SECONDS: Final = 1.0
_REST_SECONDS: Final = 15.0
"""Between questions while the service shares no budget."""
_GAP_SECONDS: Final = 0.02
"""Between questions of a process that wants more than it has."""
LEASE_SECONDS: Final = 5.0
"""How long a process spends of a lease; the service keeps it for twice as long."""
_TIMEOUT_SECONDS: Final = 2.0
_FIRST_SECONDS: Final = 1.0
_IDLE_SECONDS: Final = 60.0
"""After which an account of one session, agent or the like is not asked for any longer."""


class Asked(msgspec.Struct):
    """What a process tells of one account."""

    rule: str
    """As the service named it."""
    values: tuple[str, ...]
    used: int
    """Spent and not yet in the ledger, or held for calls under way."""
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


_decode: Final = msgspec.json.Decoder(Answer).decode


class LeasedAccount(Account):
    """What this process may spend of an account that is not its own.

    Args:
        fails_open: whether calls go on when the lease has run out and the service does not answer.
    """

    __slots__ = ("fails_open", "granted", "leased", "unsent", "until", "wanted")

    def __init__(
        self, labels: Mapping[str, str], limit: int, unit: Unit, span: Span, *, fails_open: bool
    ) -> None:
        super().__init__(labels, limit, unit, span)
        self.fails_open = fails_open
        self.granted: int | None = None
        """None before the first answer: then it is as if the account were this process's own."""
        self.until = 0.0
        """When the lease runs out, by the monotonic clock."""
        self.leased = 0
        """Spent of the lease."""
        self.unsent = 0
        """Spent and not yet with the service."""
        self.wanted = 0

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
        return False

    def add(self, amount: int) -> None:
        """See `Account.add`."""
        self.spent += amount
        self.leased += amount
        self.unsent += amount

    def renew(self, span: Span) -> None:
        """See `Account.renew`."""
        super().renew(span)
        self.granted, self.leased, self.unsent = None, 0, 0


class SharedBudgets:
    """The blocking budgets of the service, as far as this process may spend of them."""

    def __init__(self) -> None:
        self.spendings: tuple[Spending[Budget], ...] = ()
        self._names: dict[str, Spending[Budget]] = {}

    def follow(self, shared: Sequence[Shared]) -> None:
        """Take over which budgets the service shares; accounts of those that stay are kept."""
        names = {}
        for one in shared:
            budget = Budget.model_validate(one.budget)
            known = self._names.get(one.rule)
            if known is None or known.rule != budget:
                kind = partial(LeasedAccount, fails_open=budget.on_unavailable == "fail_open")
                known = Spending(budget, kind=kind)
            names[one.rule] = known
        self._names = names
        self.spendings = tuple(names.values())

    def questions(self) -> Iterator[tuple[Asked, LeasedAccount, int]]:
        """Yield what to ask for, with the account and what was spent of its lease so far."""
        idle = time.time() - _IDLE_SECONDS
        for rule, spending in self._names.items():
            for values, account in spending.by_values():
                if isinstance(account, LeasedAccount) and (not values or account.used > idle):
                    used = account.unsent + account.held
                    wanted, account.wanted = account.wanted, 0
                    yield Asked(rule, values, used, wanted), account, account.leased - account.unsent

    def sent(self, calls: Sequence[Call]) -> None:
        """Take note that calls are with the service."""
        for call in calls:
            facts = facts_of(call, call.model)
            for spending in self.spendings:
                account = spending.account(facts, (call.model, call.requested_model))
                if isinstance(account, LeasedAccount):
                    account.unsent = max(account.unsent - spending.amount_of(call), 0)


class Leases:
    """Renews the leases of this process, on a thread of its own.

    Args:
        url: of the service.
        shared: what it shares.
        lock: held where calls look at that.
        answered: called with whether the service answered.
    """

    def __init__(
        self,
        url: str,
        shared: SharedBudgets,
        lock: AbstractContextManager[object],
        answered: Callable[[bool], object],
    ) -> None:
        self._service = Service(url)
        self._shared = shared
        self._lock = lock
        self._answered = answered
        self._process = f"{socket.gethostname()}:{os.getpid()}:{uuid.uuid4().hex[:8]}"
        self._wake = threading.Event()
        self._ends = False
        self.first = threading.Event()
        """Set when the service has answered, or cannot be reached."""
        self._thread = threading.Thread(target=self._work, name="llm-exporter-leases", daemon=True)
        self._thread.start()

    def wake(self) -> None:
        """Ask now."""
        self._wake.set()

    def wait(self) -> None:
        """Wait for the first answer, for a second at most."""
        self.first.wait(_FIRST_SECONDS)

    def close(self) -> None:
        """Give the leases back."""
        self._ends = True
        self._wake.set()
        self._thread.join(_TIMEOUT_SECONDS)

    def _work(self) -> None:
        while not self._ends:
            self._wake.clear()
            self._renew()
            self.first.set()
            if self._ends:
                break
            time.sleep(_GAP_SECONDS)
            self._wake.wait(RENEW_SECONDS if self._shared.spendings else _REST_SECONDS)
        self._renew()
        self._service.close()

    def _renew(self) -> None:
        try:
            known = bool(self._shared.spendings)
            self._ask()
            if self._shared.spendings and not known:
                self._ask()  # what there is to ask for is known by now
        except (Away, Refused, msgspec.MsgspecError, ValidationError) as error:
            log.debug("llm-exporter: no lease on budgets: %s", error)
            self._answered(False)
        except Exception:
            log.exception("llm-exporter: no lease on budgets")
        else:
            self._answered(True)

    def _ask(self) -> None:
        with self._lock:
            asked = list(self._shared.questions())
        question = Question(self._process, [each for each, _, _ in asked], self._ends)
        began = time.monotonic()
        answer = _decode(self._service.post("/api/v1/budgets/leases", question, _TIMEOUT_SECONDS))
        with self._lock:
            granted = {(one.rule, one.values): one for one in answer.granted}
            for each, account, before in asked:
                if grant := granted.get((each.rule, each.values)):
                    _follow(account, grant, before, began + LEASE_SECONDS)
            self._shared.follow(answer.budgets)


def _follow(account: LeasedAccount, grant: Granted, before: int, until: float) -> None:
    """Spend of a new lease from now on.

    Args:
        account: which.
        grant: what the service says.
        before: what had been spent of the old lease and was in the ledger when the service was asked.
        until: when the new lease runs out.
    """
    if grant.start not in (account.span.start, None):
        return  # the period has changed meanwhile
    account.granted = grant.amount
    account.leased -= before
    account.until = until
    account.spent = grant.spent + account.unsent
