"""The accounts of budgets and thresholds in the service. The ledger stores what is spent, beside the calls.

So several services on one ledger agree, and a restart changes nothing.
"""

from __future__ import annotations

import json
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Final

from prometheus_client.samples import Sample

from ..budgets.events import Event
from ..budgets.gauges import gauges
from ..budgets.notifications import fraction_reached, newly_crossed, newly_reached
from ..budgets.spending import SESSION_SECONDS, USD, Account, Spending, labels_of
from ..call import Call
from ..config.model import Config
from ..periods import DAY, END_OF_TIME, span_of
from .ledger.base import Charge, Ledger, Query, Spent
from .requests import rfc3339
from .schemas import BudgetRow

_PAGE_CALLS: Final = 1000
_GRACE_SECONDS: Final = 400.0 * DAY
"""How long an account is kept after its period, for calls that arrive late."""


class Accounts:
    """The accounts of all budgets and thresholds.

    Args:
        config: The budgets and thresholds.
        ledger: Stores what is spent.
        emit: Receives events, on the intake's worker thread.
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
        self._reading = threading.Lock()
        """Held to read amounts from the ledger, so that no older amount replaces a newer one."""
        self.prices: dict[str, Any] = config.prices.model_dump(
            mode="json", exclude_defaults=True, exclude={"update", "update_url"}
        )
        """The configured prices, as JSON."""
        self.budgets = [Spending(budget, clock) for budget in config.budgets]
        self.thresholds = [Spending(threshold, clock) for threshold in config.thresholds]
        self._rules: list[Spending[Any]] = [*self.budgets, *self.thresholds]
        self._open_new_rules()
        self._load()
        self.refresh()
        self._skip_past_events()

    def _open_new_rules(self) -> None:
        """Open accounts for new rules, with what the calls of the current period have cost."""
        names = {json.dumps(rule.identity): rule for rule in self._rules}
        known = self._ledger.retain_rules(list(names))
        for name, rule in names.items():
            if name not in known:
                self._ledger.open_accounts(name, self._spent_before(rule))

    def _spent_before(self, rule: Spending[Any]) -> dict[Charge, Spent]:
        now = self._clock()
        spent: defaultdict[Charge, Spent] = defaultdict(Spent)
        for call in self._stored(Query(since=span_of(rule.period, now).start_or_none)):
            for charge in _charges(rule, call, now):
                usd, tokens = spent[charge]
                spent[charge] = Spent(usd + call.total_cost, tokens + call.total_tokens)
        return spent

    def _stored(self, query: Query) -> Iterator[Call]:
        before: int | None = None
        while page := self._ledger.calls(query, limit=_PAGE_CALLS, before=before):
            yield from (logged.call for logged in page)
            before = page[-1].position

    def _load(self) -> None:
        """Open the accounts of the current periods that are in the ledger."""
        if not self._rules:
            return
        rules = {json.dumps(rule.identity): rule for rule in self._rules}
        for name in self._ledger.accounts():
            identity, values, start = json.loads(name)
            rule = rules.get(json.dumps(identity))
            if rule is not None and start == span_of(rule.period, self._clock()).start_or_none:
                rule.account_at(tuple(values))

    def _skip_past_events(self) -> None:
        """Emit no events for what was spent before the service started."""
        for spending in self.budgets:
            for account in spending.accounts():
                account.notified = fraction_reached(spending.rule, account)
        for threshold in self.thresholds:
            for account in threshold.accounts():
                account.notified = float(account.spent > account.limit)

    def charges(self, call: Call) -> Iterator[Charge]:
        """Yield the accounts that a call is charged to."""
        now = self._clock()
        for rule in self._rules:
            yield from _charges(rule, call, now)

    def settle(self, calls: Sequence[Call]) -> None:
        """Read the accounts of calls that were added to the ledger, and emit events."""
        if not self._rules:
            return
        with self._reading:
            with self._lock:
                touched = [
                    (rule, values)
                    for rule in self._rules
                    for values in {rule.key_of(labels_of(call, call.model), _models(call)) for call in calls}
                    if values is not None
                ]
                accounts = [(rule, rule.account_at(values), values) for rule, values in touched]
            self._read(accounts)
            with self._lock:
                events = [*self._events(touched)]
        for event in events:
            self._emit(event)

    def _events(self, touched: Iterable[tuple[Spending[Any], tuple[str, ...]]]) -> Iterator[Event]:
        for rule, values in touched:
            account = rule.account_at(values)
            yield from (newly_reached if rule in self.budgets else newly_crossed)(rule, account)

    def refresh(self) -> None:
        """Read all accounts from the ledger, which other services may also write to."""
        with self._reading:
            with self._lock:
                accounts = [(rule, account, key) for rule in self._rules for key, account in rule.items()]
            self._read(accounts)

    def _read(self, accounts: Sequence[tuple[Spending[Any], Account, tuple[str, ...]]]) -> None:
        spans = [account.span for _, account, _ in accounts]
        if not spans:
            return
        names = [rule.ledger_name(key, span) for (rule, _, key), span in zip(accounts, spans, strict=True)]
        known = self._ledger.spent(names)  # may hang, so without the lock that scrapes need
        with self._lock:
            for (rule, account, _), span, spent in zip(accounts, spans, known, strict=True):
                if account.span == span:
                    account.spent = spent.tokens if rule.unit == "tokens" else round(spent.usd * USD)

    def forget(self, label: str, value: str) -> None:
        """Delete the accounts of one label value, such as a session that is reset."""
        with self._lock:
            names = [
                rule.ledger_name(values, account.span)
                for rule in self._rules
                if label in rule.per
                for values, account in rule.items()
                if values[rule.per.index(label)] == value
            ]
            self._ledger.delete_accounts(names)
            for rule in self._rules:
                rule.forget(label, value)

    def samples(self) -> Iterator[Sample]:
        """Yield the gauges of budgets and thresholds."""
        with self._lock:
            yield from gauges(
                [(rule.rule, account) for rule in self.budgets for account in rule.accounts()],
                [(rule.rule, account) for rule in self.thresholds for account in rule.accounts()],
            )

    def rows(self) -> list[BudgetRow]:
        """Return the state of all budgets, the most used first."""
        with self._lock:
            rows = [(rule.rule, account) for rule in self.budgets for account in rule.accounts()]
        rows.sort(key=lambda row: -row[1].spent / row[1].limit)
        return [
            BudgetRow(
                budget=budget.name,
                period=budget.period,
                labels=account.labels,
                unit=account.unit,
                limit=account.to_float(account.limit),
                spent=account.to_float(account.spent),
                left=account.to_float(max(account.limit - account.spent, 0)),
                on_exceed=budget.on_exceed,
                resets_at=None if budget.period == "total" else rfc3339(account.span.end),
            )
            for budget, account in rows
        ]


def _charges(rule: Spending[Any], call: Call, now: float) -> Iterator[Charge]:
    values = rule.key_of(labels_of(call, call.model), _models(call))
    if values is not None:
        span = span_of(rule.period, call.started)
        expires = now + SESSION_SECONDS if rule.expires else min(span.end + _GRACE_SECONDS, END_OF_TIME - 1)
        yield Charge(rule.ledger_name(values, span), expires)


def _models(call: Call) -> tuple[str, str]:
    return call.model, call.requested_model
