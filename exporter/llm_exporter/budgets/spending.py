"""What calls have come to in the current period of each threshold and budget.

Amounts are whole numbers, so that a hundred times $0.01 is $1 and not a little more: tokens, or trillionths
of a USD, which is finer than any published price for one token.
"""

from __future__ import annotations

import json
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import UTC, datetime
from math import isinf
from typing import Final, Generic, TypeVar

from ..call import Call
from ..config.model import IDS, Budget, Threshold
from ..periods import Period, Span, span_of
from .events import Unit

R = TypeVar("R", bound=Budget | Threshold)

USD: Final = 10**12
"""One USD as an amount."""
_MOST_ACCOUNTS: Final = 10_000
"""Of one rule at most; the one that was not used for the longest time is forgotten first."""
SESSION_SECONDS: Final = 86400.0
"""A session or thread with no call for so long has ended."""


class Account:
    """What is spent, and held for calls under way, in the current period of a rule, for one set of labels."""

    __slots__ = ("held", "labels", "limit", "span", "spent", "told", "unit", "used")

    def __init__(self, labels: Mapping[str, str], limit: int, unit: Unit, span: Span) -> None:
        self.labels = dict(labels)
        self.limit = limit
        self.unit = unit
        self.span = span
        self.spent = 0
        self.held = 0
        self.told = 0.0
        """The highest part of the limit that was told of."""
        self.used = 0.0

    def renew(self, span: Span) -> None:
        """Begin a new period."""
        self.span = span
        self.spent = 0
        self.told = 0.0

    def fits(self, amount: int) -> bool:
        """Tell whether a call may be sent that may come to so much; none once the limit is reached."""
        taken = self.spent + self.held
        return taken < self.limit and taken + amount <= self.limit

    def add(self, call_id: str, amount: int) -> None:
        """Spend what a call came to."""
        self.spent += amount

    @property
    def resets_at(self) -> datetime | None:
        """When the next period begins, in UTC; None when there is none."""
        return None if isinf(self.span.end) else datetime.fromtimestamp(self.span.end, UTC)

    def outside(self, amount: int) -> float:
        """Return an amount in USD or tokens."""
        return amount / USD if self.unit == "usd" else float(amount)


class Spending(Generic[R]):
    """The accounts of one rule. Not locked.

    Args:
        rule: a threshold or a budget.
        clock: seconds since 1970.
        kind: of the accounts.
    """

    def __init__(
        self,
        rule: R,
        clock: Callable[[], float] = time.time,
        kind: Callable[[Mapping[str, str], int, Unit, Span], Account] = Account,
    ) -> None:
        self._kind = kind
        self.rule: R = rule
        self.period: Period = rule.period if isinstance(rule, Budget) else rule.window
        self.unit: Unit = "tokens" if isinstance(rule, Budget) and rule.tokens is not None else "usd"
        self._limit = _limit(rule)
        self.by: tuple[str, ...] = rule.per if isinstance(rule, Budget) else ()
        """The labels of which every value has an account."""
        self._match = tuple((name, value) for name, value in rule.match.items() if name != "model")
        self._model = rule.match.get("model")
        self.ends = bool({*self.by} & IDS)
        """Whether accounts are forgotten without calls: those of sessions and the like."""
        self._clock = clock
        self._accounts: OrderedDict[tuple[str, ...], Account] = OrderedDict()
        if not self.by:
            self._open(())

    def per(self, facts: Mapping[str, str], models: Iterable[str]) -> tuple[str, ...] | None:
        """Return the values that a call's account is for; None for a call that the rule is not for.

        Args:
            facts: the labels of the call, provider and model included.
            models: the names of its model: as it was asked for, and as it answered.
        """
        for name, value in self._match:
            if facts.get(name) != value:
                return None
        if self._model is not None and self._model not in models:
            return None
        if not self.by:
            return ()
        values = [facts.get(name, "") for name in self.by]
        return tuple(values) if all(values) else None  # a call in no session has no budget for its session

    def account(self, facts: Mapping[str, str], models: Iterable[str]) -> Account | None:
        """Return the account of a call for now; None for a call that the rule is not for."""
        values = self.per(facts, models)
        return None if values is None else self.account_of(values)

    def account_of(self, values: tuple[str, ...]) -> Account:
        """Return the account for values of the labels that each have one, for now."""
        account = self._accounts.get(values)
        now = self._clock()
        if account is None:
            account = self._open(values)
        elif not account.span.start <= now < account.span.end:
            account.renew(span_of(self.period, now))
        elif self.ends and now - account.used > SESSION_SECONDS:
            account.renew(account.span)
        account.used = now
        if self.by:
            self._accounts.move_to_end(values)
        return account

    def spend(self, account: Account, call: Call) -> None:
        """Add what a call came to, if it was made in the current period."""
        if call.started >= account.span.start:
            account.add(call.id, self.amount_of(call))

    def accounts(self) -> Iterator[Account]:
        """Yield the accounts, as they stand now."""
        return (account for _, account in self.by_values())

    def by_values(self) -> Iterator[tuple[tuple[str, ...], Account]]:
        """Yield the accounts with the values that they are for."""
        now = self._clock()
        for values, account in list(self._accounts.items()):
            if not account.span.start <= now < account.span.end:
                account.renew(span_of(self.period, now))
            yield values, account

    def forget(self, label: str, value: str) -> None:
        """Forget what was spent under an id, such as that of a session that has ended."""
        if label in self.by:
            at = self.by.index(label)
            for key in [key for key in self._accounts if key[at] == value]:
                del self._accounts[key]

    def amount_of(self, call: Call) -> int:
        """Return what a call comes to in the rule's unit."""
        return call.total_tokens if self.unit == "tokens" else round(call.total_cost * USD)

    def adopt(self, other: Spending[R]) -> None:
        """Go on from the accounts of the same rule before the configuration changed."""
        self._accounts = other._accounts
        for account in self._accounts.values():
            account.limit = self._limit

    def name_of(self, values: tuple[str, ...], span: Span) -> str:
        """Return the name of an account in a ledger; JSON, also where a period has no start."""
        start = None if isinf(span.start) else span.start
        return json.dumps([self.identity, values, start], ensure_ascii=False)

    @property
    def identity(self) -> tuple[object, ...]:
        """What makes two rules the same one with perhaps another limit."""
        kind = type(self.rule).__name__
        return kind, self.rule.name, self.period, self.unit, tuple(sorted(self.rule.match.items())), self.by

    def _open(self, key: tuple[str, ...]) -> Account:
        labels = {**self.rule.match, **dict(zip(self.by, key, strict=True))}
        account = self._kind(labels, self._limit, self.unit, span_of(self.period, self._clock()))
        self._accounts[key] = account
        if len(self._accounts) > _MOST_ACCOUNTS:
            self._accounts.popitem(last=False)
        return account


def facts_of(call: Call, model: str) -> dict[str, str]:
    """Return what rules can match of a call: its labels, its provider and its model."""
    return {
        **call.labels,
        "provider": call.provider,
        "model": model,
        "agent": call.agent,
        "phase": call.phase,
    }


def public(labels: Mapping[str, str]) -> dict[str, str]:
    """Return labels without the ids, which would make a series for each of their values."""
    return {name: value for name, value in labels.items() if name not in IDS}


def _limit(rule: Budget | Threshold) -> int:
    if isinstance(rule, Budget) and rule.tokens is not None:
        return rule.tokens
    assert rule.usd is not None  # noqa: S101 - a budget has one of the two
    return int(rule.usd * USD)
