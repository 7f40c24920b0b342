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
from functools import cached_property
from math import isinf
from typing import Final, Generic, NamedTuple, TypeVar

from ..call import Call
from ..config.model import IDS, Budget, Threshold
from ..log import log
from ..periods import Period, Span, span_of
from .events import Unit

R = TypeVar("R", bound=Budget | Threshold)
Key = tuple[str, ...]
"""The values of the labels that a rule is `per`; empty for a rule with one account."""

USD: Final = 10**12
"""The amount of one USD."""
_MAX_ACCOUNTS: Final = 10_000
"""The largest number of accounts of one rule. Beyond it, the least recently used one is set aside."""
_MAX_SET_ASIDE: Final = 100_000
"""The largest number of accounts of one rule of which only the amounts are kept."""
_MAX_OTHER_PERIODS: Final = 2
"""The number of periods beside the current one whose amounts an account keeps."""
SESSION_SECONDS: Final = 86400.0
"""A session or thread without a call for this long has ended."""


class _Amounts(NamedTuple):
    spent: int = 0
    notified: float = 0.0


class Account:
    """The amounts spent and held of a rule in the current period, for one set of labels.

    A clock may step back to the period before, or far ahead and back again. So the amounts of the periods
    that it was in last are kept.
    """

    __slots__ = (
        "_other_periods",
        "held",
        "labels",
        "last_used",
        "limit",
        "notified",
        "span",
        "spent",
        "unit",
    )

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
        """By the monotonic clock, in seconds."""
        self._other_periods: dict[Span, _Amounts] = {}

    def enter(self, span: Span) -> None:
        """Go on in another period, with what was spent in it before."""
        if len(self._other_periods) >= _MAX_OTHER_PERIODS:
            del self._other_periods[next(iter(self._other_periods))]
        self._other_periods[self.span] = _Amounts(self.spent, self.notified)
        self.span = span
        self.spent, self.notified = self._other_periods.pop(span, _Amounts())

    def clear(self) -> None:
        """Start over in the same period."""
        self.spent, self.notified = 0, 0.0

    def add_elsewhere(self, call_id: str, when: float, amount: int) -> Span | None:
        """Add the usage of a call that started in another period, and return that if it is known."""
        for span, amounts in self._other_periods.items():
            if span.start <= when < span.end:
                self._other_periods[span] = amounts._replace(spent=amounts.spent + amount)
                return span
        return None

    def fits(self, amount: int) -> bool:
        """Return whether a call with this estimate may be sent. Nothing fits once the limit is reached."""
        taken = self.spent + self.held
        return taken < self.limit and taken + amount <= self.limit

    def add(self, call_id: str, amount: int) -> None:
        """Add the usage of a call."""
        self.spent += amount

    @property
    def away(self) -> bool:
        """Whether calls are refused because the service that shares the budget is unavailable."""
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
        monotonic: returns seconds that no change of the clock affects.
        new_account: makes an account.
    """

    def __init__(
        self,
        rule: R,
        clock: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
        new_account: Callable[[Mapping[str, str], int, Unit, Span], Account] = Account,
    ) -> None:
        self._new_account = new_account
        self.rule: R = rule
        self.period: Period = rule.period
        self.unit: Unit = rule.unit
        self.limit = int(rule.limit * USD if rule.unit == "usd" else rule.limit)
        self.per: tuple[str, ...] = rule.per
        """Each combination of values of these labels has an account."""
        self._match = tuple((name, value) for name, value in rule.match.items() if name != "model")
        self._model = rule.match.get("model")
        self.expires = not IDS.isdisjoint(self.per)
        """Whether accounts without calls are dropped, such as those of sessions."""
        self._forgets = False
        self._clock = clock
        self._monotonic = monotonic
        self._accounts: OrderedDict[Key, Account] = OrderedDict()
        self._set_aside: OrderedDict[Key, tuple[Span, _Amounts, float]] = OrderedDict()
        """The period, amounts and last use of accounts that fell out of `_accounts`."""
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
        if account is None:
            account = self._open(key)
        span = account.span
        if not span.start <= self._clock() < span.end:
            self._update(account)
        now = self._monotonic()
        if self.expires and now - account.last_used > SESSION_SECONDS:
            account.clear()
        account.last_used = now
        if self.per:
            self._accounts.move_to_end(key)
        return account

    def _update(self, account: Account) -> None:
        span = span_of(self.period, self._clock())
        if span != account.span:
            account.enter(span)

    def spend(self, account: Account, call: Call) -> None:
        """Add the usage of a call to the period that it started in, if the account still knows it."""
        if call.started >= account.span.start:
            account.add(call.id, self.amount_of(call))
        else:
            account.add_elsewhere(call.id, call.started, self.amount_of(call))

    def accounts(self) -> Iterator[Account]:
        """Yield the accounts for the current period."""
        return (account for _, account in self.items())

    def items(self) -> Iterator[tuple[Key, Account]]:
        """Yield the keys and accounts for the current period."""
        now = self._clock()
        for key, account in list(self._accounts.items()):
            if not account.span.start <= now < account.span.end:
                self._update(account)
            yield key, account

    def forget(self, label: str, value: str) -> None:
        """Drop the accounts of an id, such as that of a session that has ended."""
        if label in self.per:
            at = self.per.index(label)
            for key in [key for key in (*self._accounts, *self._set_aside) if key[at] == value]:
                self._accounts.pop(key, None)
                self._set_aside.pop(key, None)

    def amount_of(self, call: Call) -> int:
        """Return the usage of a call in the rule's unit."""
        return call.total_tokens if self.unit == "tokens" else round(call.total_cost * USD)

    def carry_over(self, other: Spending[R]) -> None:
        """Keep the accounts of the same rule from before a reload."""
        self._accounts, self._set_aside = other._accounts, other._set_aside
        for account in self._accounts.values():
            account.limit = self.limit

    def ledger_name(self, key: Key, span: Span) -> str:
        """Return the name of an account in the ledger, as JSON."""
        return f"[{self.ledger_rule}, {_json(key)}, {_json(span.start_or_none)}]"

    @cached_property
    def ledger_rule(self) -> str:
        """The name of the rule in the ledger, as JSON."""
        return _json(self.identity)

    @property
    def identity(self) -> tuple[object, ...]:
        """Equal for two versions of the same rule, even if the limit differs."""
        kind = type(self.rule).__name__
        return kind, self.rule.name, self.period, self.unit, tuple(sorted(self.rule.match.items())), self.per

    def _open(self, key: Key) -> Account:
        labels = {**self.rule.match, **dict(zip(self.per, key, strict=True))}
        account = self._new_account(labels, self.limit, self.unit, span_of(self.period, self._clock()))
        span, amounts, last_used = self._set_aside.pop(key, (account.span, _Amounts(), self._monotonic()))
        if span == account.span:
            account.spent, account.notified = amounts
        account.last_used = last_used
        self._accounts[key] = account
        if len(self._accounts) > _MAX_ACCOUNTS:
            self._put_aside(*self._accounts.popitem(last=False))
        return account

    def _put_aside(self, key: Key, account: Account) -> None:
        """Keep only the amounts of an account, if it has any."""
        if not account.spent:
            return
        amounts = _Amounts(account.spent, account.notified)
        self._set_aside[key] = account.span, amounts, account.last_used
        if len(self._set_aside) > _MAX_SET_ASIDE:
            self._set_aside.popitem(last=False)
            if not self._forgets:
                self._forgets = True
                log.warning(
                    "llm-exporter: %s has more than %d accounts: what the least recently used ones have "
                    "spent is forgotten",
                    self.rule.name,
                    _MAX_ACCOUNTS + _MAX_SET_ASIDE,
                )


def _json(value: object) -> str:
    return json.dumps(value, ensure_ascii=False)


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
