"""The accounts of budgets and thresholds in the service. The ledger stores what is spent, beside the calls.

So several services on one ledger agree, and a restart changes nothing.

A budget or threshold that is added is charged the calls of its current period from before, in the background.
Until it includes all of them, calls are judged by those that it includes, and no events are emitted for it.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import count
from typing import Any, Final, cast

from ..budgets.events import Event, Unit
from ..budgets.gauges import gauges
from ..budgets.notifications import fraction_reached, newly_crossed, newly_reached
from ..budgets.spending import SESSION_SECONDS, USD, Account, Key, Spending, labels_of
from ..call import Call
from ..config.model import Budget, Config
from ..log import log
from ..metrics.registry import GaugeSample
from ..metrics.specs import CATCHING_UP
from ..periods import DAY, END_OF_TIME, Span, span_of
from .ledger.base import Charge, Ledger, Rule
from .requests import rfc3339
from .schemas import BudgetRow

_GRACE_SECONDS: Final = 400.0 * DAY
"""How long an account is kept after its period, for calls that arrive late."""

_READ_SECONDS: Final = 60.0
_SLICE_ACCOUNTS: Final = 250
"""Accounts that are read at a time."""

_Touched = tuple[Spending[Any], Key]
"""An account that calls were charged to: its rule and key."""


class _ReadAccount(Account):
    """An account whose amount is read from the ledger."""

    __slots__ = ("reading",)

    def __init__(self, labels: Mapping[str, str], limit: int, unit: Unit, span: Span) -> None:
        super().__init__(labels, limit, unit, span)
        self.reading = 0
        """The number of the reading that the amount is from."""


class Accounts:
    """The accounts of all budgets and thresholds.

    Args:
        config: The budgets and thresholds.
        ledger: Stores what is spent.
        emit: Receives events, on the threads that call `settle` and `catch_up`.
        clock: Returns Unix seconds.

    Raises:
        LedgerError: The ledger cannot be read.
    """

    def __init__(
        self,
        config: Config,
        ledger: Ledger,
        emit: Callable[[Event], object],
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._ledger = ledger
        self._emit = emit
        self._clock = clock
        self._lock = threading.RLock()
        self._readings = count(1)
        """Numbers the readings of the ledger by their beginning. An older one replaces no newer amount."""
        self._all_read = 0.0
        """When all accounts were last read, by the monotonic clock."""
        self.prices: dict[str, Any] = config.prices.model_dump(
            mode="json", exclude_defaults=True, exclude={"update", "update_url"}
        )
        """The configured prices, as JSON."""
        self.budgets = [Spending(budget, clock, new_account=_ReadAccount) for budget in config.budgets]
        self.thresholds = [
            Spending(threshold, clock, new_account=_ReadAccount) for threshold in config.thresholds
        ]
        self.rules: list[Spending[Any]] = [*self.budgets, *self.thresholds]
        self._names = {rule.ledger_rule: rule for rule in self.rules}
        self._withheld: dict[str, set[Key]] = {}
        """The accounts without events, by rule: these do not include all earlier calls yet."""
        self.complete = threading.Event()
        """Set when all accounts include all earlier calls of their periods."""
        ledger.prepare_rules(list(self._names))
        self._load(self.rules)

    def register(self) -> None:
        """Begin to charge the calls that are added from now on.

        Meanwhile nobody may add calls. It takes milliseconds: calls from before are charged by `catch_up`.

        Raises:
            LedgerError: The ledger cannot be used.
        """
        self._ledger.register_rules(list(self._names))
        self._read_all()
        self._skip_past_events()
        self._find_behind()

    def _find_behind(self) -> None:
        behind = self._ledger.rules_behind() & self._names.keys()
        for name in behind - self._withheld.keys():
            self._withheld[name] = set()
            log.warning(
                "llm-exporter: %s does not include all earlier calls yet: they are being added up",
                self._names[name].rule.name,
            )
        if behind:
            self.complete.clear()
        else:
            self.complete.set()

    @property
    def behind(self) -> int:
        """The number of budgets and thresholds that do not include all earlier calls of their period yet."""
        return len(self._withheld)

    def catch_up(self) -> bool:
        """Charge some of the calls from before a budget or threshold was added, if there are any.

        Returns:
            Whether more are left.
        """
        self._find_behind()
        for name in list(self._withheld):
            rule = self._names[name]
            if self._ledger.charge_earlier(self._in_ledger(name, rule)):
                return True
            self._finish(name, rule)
        self.complete.set()
        return False

    def _in_ledger(self, name: str, rule: Spending[Any]) -> Rule:
        since = span_of(rule.period, self._clock()).start
        # Accounts of sessions expire by their last call, however long ago that was.
        return Rule(
            name,
            rule.period,
            since,
            rule.rule.match,
            rule.per,
            lambda call: _charges(rule, call, call.started),
        )

    def _finish(self, name: str, rule: Spending[Any]) -> None:
        """Show all accounts of a rule, and emit events from now on."""
        self._load([rule])
        self._read_all()
        with self._lock:
            touched = [(rule, key) for key in self._withheld.pop(name)]
            events = [*self._events(touched)]
            self._skip_past_events_of(rule)
        log.info("llm-exporter: %s includes all earlier calls now", rule.rule.name)
        for event in events:
            self._emit(event)

    def _load(self, rules: Sequence[Spending[Any]]) -> None:
        """Open the accounts of the current periods that are in the ledger."""
        if not rules:
            return
        by_name = {rule.ledger_rule: rule for rule in rules}
        starts = {rule: span_of(rule.period, self._clock()).start_or_none for rule in rules}
        for name in self._ledger.accounts():
            identity, values, start = json.loads(name)
            rule = by_name.get(json.dumps(identity, ensure_ascii=False))
            if rule is not None and start == starts[rule]:
                with self._lock:
                    rule.account_at(tuple(values))

    def _skip_past_events(self) -> None:
        """Emit no events for what was spent before the service started."""
        for rule in self.rules:
            self._skip_past_events_of(rule)

    def _skip_past_events_of(self, rule: Spending[Any]) -> None:
        for account in rule.accounts():
            if rule in self.budgets:
                account.notified = fraction_reached(rule.rule, account)
            else:
                account.notified = float(account.spent > account.limit)

    def charges(self, call: Call) -> Iterator[Charge]:
        """Yield the accounts that a call is charged to."""
        now = self._clock()
        for rule in self.rules:
            yield from _charges(rule, call, now)

    def settle(self, calls: Sequence[Call]) -> list[BudgetRow]:
        """Read the accounts of calls that were added to the ledger, and emit events.

        Returns:
            The state of the budgets that the calls were charged to.
        """
        if not self.rules:
            return []
        with self._lock:
            touched = [
                (rule, values)
                for rule in self.rules
                for values in {rule.key_of(labels_of(call, call.model), _models(call)) for call in calls}
                if values is not None
            ]
            accounts = [(rule, rule.account_at(values), values) for rule, values in touched]
        self._read(accounts)
        with self._lock:
            events = [*self._events(touched if not self._withheld else self._withhold(touched))]
            rows = self._rows((rule, account) for rule, account, _ in accounts if rule in self.budgets)
        for event in events:
            self._emit(event)
        return rows

    def _withhold(self, touched: Iterable[_Touched]) -> Iterator[_Touched]:
        """Yield the accounts that may emit events, and note the others."""
        for rule, values in touched:
            if (name := rule.ledger_rule) in self._withheld:
                self._withheld[name].add(values)
            else:
                yield rule, values

    def _events(self, touched: Iterable[_Touched]) -> Iterator[Event]:
        for rule, values in touched:
            account = rule.account_at(values)
            event = (newly_reached if rule in self.budgets else newly_crossed)(rule, account)
            if event is not None:
                yield event

    def refresh(self) -> None:
        """Read all accounts from the ledger, which other services may also write to.

        If none does, once a minute is enough: for accounts that expire, and for those that could not be read.
        """
        if self._ledger.shared or time.monotonic() - self._all_read >= _READ_SECONDS:
            self._read_all()

    def _read_all(self) -> None:
        self._all_read = time.monotonic()
        with self._lock:
            accounts = [(rule, account, key) for rule in self.rules for key, account in rule.items()]
        for first in range(0, len(accounts), _SLICE_ACCOUNTS):
            self._read(accounts[first : first + _SLICE_ACCOUNTS])

    def _read(self, accounts: Sequence[tuple[Spending[Any], Account, tuple[str, ...]]]) -> None:
        spans = [account.span for _, account, _ in accounts]
        if not spans:
            return
        names = [rule.ledger_name(key, span) for (rule, _, key), span in zip(accounts, spans, strict=True)]
        reading = next(self._readings)
        known = self._ledger.spent(names)  # may hang, so without the lock that scrapes need
        with self._lock:
            for (rule, each, _), span, spent in zip(accounts, spans, known, strict=True):
                account = cast(_ReadAccount, each)
                if account.span == span and account.reading < reading:
                    account.reading = reading
                    account.spent = spent.tokens if rule.unit == "tokens" else round(spent.usd * USD)

    def forget(self, label: str, value: str) -> None:
        """Delete the accounts of one label value, such as a session that is reset."""
        with self._lock:
            names = [
                rule.ledger_name(values, account.span)
                for rule in self.rules
                if label in rule.per
                for values, account in rule.items()
                if values[rule.per.index(label)] == value
            ]
            self._ledger.delete_accounts(names)
            for rule in self.rules:
                rule.forget(label, value)

    def samples(self) -> Iterator[GaugeSample]:
        """Yield the gauges of budgets and thresholds."""
        with self._lock:
            budgets = [(rule.rule, account) for rule in self.budgets for account in rule.accounts()]
            thresholds = [(rule.rule, account) for rule in self.thresholds for account in rule.accounts()]
        yield from gauges(budgets, thresholds)
        yield GaugeSample(CATCHING_UP.name, {}, self.behind)

    def rows(self) -> list[BudgetRow]:
        """Return the state of all budgets, the most used first."""
        with self._lock:
            accounts = [(rule, account) for rule in self.budgets for account in rule.accounts()]
        return self._rows(accounts)

    def _rows(self, accounts: Iterable[tuple[Spending[Budget], Account]]) -> list[BudgetRow]:
        """Return the state of some budgets, the most used first."""
        return [
            BudgetRow(
                budget=rule.rule.name,
                period=rule.period,
                labels=account.labels,
                unit=account.unit,
                limit=account.to_float(account.limit),
                spent=account.to_float(account.spent),
                left=account.to_float(max(account.limit - account.spent, 0)),
                on_exceed=rule.rule.on_exceed,
                catching_up=rule.ledger_rule in self._withheld,
                resets_at=None if rule.period == "total" else rfc3339(account.span.end),
            )
            for rule, account in sorted(accounts, key=lambda each: -each[1].spent / each[1].limit)
        ]


def _charges(rule: Spending[Any], call: Call, now: float) -> Iterator[Charge]:
    values = rule.key_of(labels_of(call, call.model), _models(call))
    if values is not None:
        span = span_of(rule.period, call.started)
        expires = now + SESSION_SECONDS if rule.expires else min(span.end + _GRACE_SECONDS, END_OF_TIME - 1)
        yield Charge(rule.ledger_name(values, span), expires)


def _models(call: Call) -> tuple[str, str]:
    return call.model, call.requested_model
