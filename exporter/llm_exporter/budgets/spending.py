"""Spending in the current period of each threshold and budget.

Amounts are integers, so that a hundred times $0.01 is exactly $1: tokens, or trillionths of a USD, which is
finer than any published price of one token.
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
Key = tuple[str, ...]
"""The values of the labels that a rule is `per`; empty for a rule with one account."""

USD: Final = 10**12
"""The amount of one USD."""
_MAX_ACCOUNTS: Final = 10_000
"""The largest number of accounts of one rule. Beyond it, the least recently used one is dropped."""
SESSION_SECONDS: Final = 86400.0
"""A session or thread without a call for this long has ended."""


class Account:
    """The amounts spent and held of a rule in the current period, for one set of labels."""

    __slots__ = ("held", "labels", "last_used", "limit", "notified", "span", "spent", "unit")

    def __init__(self, labels: Mapping[str, str], limit: int, unit: Unit, span: Span) -> None:
        self.labels = dict(labels)
        self.limit = limit
        self.unit = unit
        self.span = span
        self.spent = 0
        self.held = 0
        self.notified = 0.0
        """The highest fraction of the limit that an event was emitted for."""
        self.last_used = 0.0

    def renew(self, span: Span) -> None:
        """Begin a new period."""
        self.span = span
        self.spent = 0
        self.notified = 0.0

    def fits(self, amount: int) -> bool:
        """Return whether a call with this estimate may be sent. Nothing fits once the limit is reached."""
        taken = self.spent + self.held
        return taken < self.limit and taken + amount <= self.limit

    def add(self, call_id: str, amount: int) -> None:
        """Add the usage of a call."""
        self.spent += amount

    @property
    def lease_expired(self) -> bool:
        """Whether the service that shares the budget has not renewed the lease in time."""
        return False

    @property
    def resets_at(self) -> datetime | None:
        """When the next period begins, in UTC; None if there is none."""
        return None if isinf(self.span.end) else datetime.fromtimestamp(self.span.end, UTC)

    def to_float(self, amount: int) -> float:
        """Return an amount in USD or tokens."""
        return amount / USD if self.unit == "usd" else float(amount)


class Spending(Generic[R]):
    """The accounts of one rule. Not thread-safe.

    Args:
        rule: a threshold or a budget.
        clock: returns the Unix time in seconds.
        new_account: makes an account.
    """

    def __init__(
        self,
        rule: R,
        clock: Callable[[], float] = time.time,
        new_account: Callable[[Mapping[str, str], int, Unit, Span], Account] = Account,
    ) -> None:
        self._new_account = new_account
        self.rule: R = rule
        self.period: Period = rule.period
        self.unit: Unit = rule.unit
        self._limit = int(rule.limit * USD if rule.unit == "usd" else rule.limit)
        self.per: tuple[str, ...] = rule.per
        """Each combination of values of these labels has an account."""
        self._match = tuple((name, value) for name, value in rule.match.items() if name != "model")
        self._model = rule.match.get("model")
        self.expires = not IDS.isdisjoint(self.per)
        """Whether accounts without calls are dropped, such as those of sessions."""
        self._clock = clock
        self._accounts: OrderedDict[Key, Account] = OrderedDict()
        if not self.per:
            self._open(())

    def key_of(self, labels: Mapping[str, str], models: Iterable[str]) -> Key | None:
        """Return the key of a call's account, or None if the rule does not match the call.

        Args:
            labels: the labels of the call, as from `labels_of`.
            models: the names of its model: the requested one and the one in the response.
        """
        for name, value in self._match:
            if labels.get(name) != value:
                return None
        if self._model is not None and self._model not in models:
            return None
        if not self.per:
            return ()
        values = [labels.get(name, "") for name in self.per]
        return tuple(values) if all(values) else None  # a call without a session has no budget per session

    def account(self, labels: Mapping[str, str], models: Iterable[str]) -> Account | None:
        """Return a call's account for the current period, or None if the rule does not match the call."""
        key = self.key_of(labels, models)
        return None if key is None else self.account_at(key)

    def account_at(self, key: Key) -> Account:
        """Return the account of a key for the current period."""
        account = self._accounts.get(key)
        now = self._clock()
        if account is None:
            account = self._open(key)
        elif not account.span.start <= now < account.span.end:
            account.renew(span_of(self.period, now))
        elif self.expires and now - account.last_used > SESSION_SECONDS:
            account.renew(account.span)
        account.last_used = now
        if self.per:
            self._accounts.move_to_end(key)
        return account

    def spend(self, account: Account, call: Call) -> None:
        """Add the usage of a call, if it started in the current period."""
        if call.started >= account.span.start:
            account.add(call.id, self.amount_of(call))

    def accounts(self) -> Iterator[Account]:
        """Yield the accounts for the current period."""
        return (account for _, account in self.items())

    def items(self) -> Iterator[tuple[Key, Account]]:
        """Yield the keys and accounts for the current period."""
        now = self._clock()
        for key, account in list(self._accounts.items()):
            if not account.span.start <= now < account.span.end:
                account.renew(span_of(self.period, now))
            yield key, account

    def forget(self, label: str, value: str) -> None:
        """Drop the accounts of an id, such as that of a session that has ended."""
        if label in self.per:
            at = self.per.index(label)
            for key in [key for key in self._accounts if key[at] == value]:
                del self._accounts[key]

    def amount_of(self, call: Call) -> int:
        """Return the usage of a call in the rule's unit."""
        return call.total_tokens if self.unit == "tokens" else round(call.total_cost * USD)

    def carry_over(self, other: Spending[R]) -> None:
        """Keep the accounts of the same rule from before a reload."""
        self._accounts = other._accounts
        for account in self._accounts.values():
            account.limit = self._limit

    def ledger_name(self, key: Key, span: Span) -> str:
        """Return the name of an account in the ledger, as JSON."""
        return json.dumps([self.identity, key, span.start_or_none], ensure_ascii=False)

    @property
    def identity(self) -> tuple[object, ...]:
        """Equal for two versions of the same rule, even if the limit differs."""
        kind = type(self.rule).__name__
        return kind, self.rule.name, self.period, self.unit, tuple(sorted(self.rule.match.items())), self.per

    def _open(self, key: Key) -> Account:
        labels = {**self.rule.match, **dict(zip(self.per, key, strict=True))}
        account = self._new_account(labels, self._limit, self.unit, span_of(self.period, self._clock()))
        self._accounts[key] = account
        if len(self._accounts) > _MAX_ACCOUNTS:
            self._accounts.popitem(last=False)
        return account


def labels_of(call: Call, model: str) -> dict[str, str]:
    """Return all labels that rules can match: the call's labels, its provider and its model."""
    return {
        **call.labels,
        "provider": call.provider,
        "model": model,
        "agent": call.agent,
        "phase": call.phase,
    }


def without_ids(labels: Mapping[str, str]) -> dict[str, str]:
    """Return labels without ids such as `session`: each of their values would make a series."""
    return {name: value for name, value in labels.items() if name not in IDS}
