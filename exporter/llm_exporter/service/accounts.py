"""The budgets and thresholds of the service: what is spent of them is in the ledger, beside the calls.

Several services on one ledger so have one figure, and a restart changes none.
"""

from __future__ import annotations

import json
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Final

from prometheus_client.samples import Sample

from ..budgets.enforcement import fraction_reached, newly_reached
from ..budgets.events import Event
from ..budgets.gauges import gauges
from ..budgets.spending import SESSION_SECONDS, USD, Account, Spending, labels_of
from ..budgets.thresholds import newly_crossed
from ..call import Call
from ..config.model import Config
from ..periods import Span, span_of
from .ledger.base import Charge, Ledger, Query, Spent
from .requests import rfc3339

_AT_ONCE: Final = 1000
_LATE_SECONDS: Final = 400 * 86400.0
"""How long an account is kept after its period, for calls that come late."""
_FOREVER: Final = 253402300799.0
"""The end of the year 9999."""


class Accounts:
    """What is spent of budgets and thresholds.

    Args:
        config: names them.
        ledger: keeps what is spent.
        tell: takes events, on the intake's thread.
        clock: seconds since 1970.

    Raises:
        LedgerError: when the ledger cannot be read.
    """

    def __init__(
        self,
        config: Config,
        ledger: Ledger,
        tell: Callable[[Event], object],
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._ledger = ledger
        self._tell = tell
        self._clock = clock
        self._lock = threading.RLock()
        self.budgets = [Spending(budget, clock) for budget in config.budgets]
        self.thresholds = [Spending(threshold, clock) for threshold in config.thresholds]
        self._rules: list[Spending[Any]] = [*self.budgets, *self.thresholds]
        self._begin()
        ledger.charges = self._charges
        self._find()
        self.refresh()
        for spending in self.budgets:
            for account in spending.accounts():
                account.notified = fraction_reached(spending.rule, account)
        for passed in self.thresholds:
            for account in passed.accounts():
                account.notified = float(account.spent > account.limit)

    def _begin(self) -> None:
        """Give new rules accounts, with what the calls of the current period have come to."""
        names = {json.dumps(rule.identity): rule for rule in self._rules}
        begun = self._ledger.begun(list(names))
        for name, rule in names.items():
            if name not in begun:
                now = self._clock()
                start = span_of(rule.period, now).start
                query = Query(since=None if rule.period == "total" else start)
                spent: defaultdict[Charge, Spent] = defaultdict(Spent)
                for call in self._kept(query):
                    for charge in _charges(rule, call, now):
                        usd, tokens = spent[charge]
                        spent[charge] = Spent(usd + call.total_cost, tokens + call.total_tokens)
                self._ledger.begin(name, spent)

    def _kept(self, query: Query) -> Iterator[Call]:
        before: int | None = None
        while page := self._ledger.calls(query, limit=_AT_ONCE, before=before):
            yield from (logged.call for logged in page)
            before = page[-1].position

    def _find(self) -> None:
        """Open the accounts that the ledger has of the current periods."""
        if not self._rules:
            return
        rules = {json.dumps(rule.identity): rule for rule in self._rules}
        for name in self._ledger.accounts():
            identity, values, start = json.loads(name)
            rule = rules.get(json.dumps(identity))
            if rule is not None and start == start_of_period(span_of(rule.period, self._clock())):
                rule.account_at(tuple(values))

    def _charges(self, call: Call) -> Iterator[Charge]:
        now = self._clock()
        for rule in self._rules:
            yield from _charges(rule, call, now)

    def settle(self, calls: Sequence[Call]) -> None:
        """Look what is spent now that calls are in the ledger, and tell of what that reaches."""
        if not self._rules:
            return
        touched: list[tuple[Spending[Any], tuple[str, ...]]] = []
        with self._lock:
            for rule in self._rules:
                of_rule = {rule.key_of(labels_of(call, call.model), _models(call)) for call in calls} - {None}
                touched += [(rule, values) for values in of_rule if values is not None]
            self._read([(rule, rule.account_at(values), values) for rule, values in touched])
            events = [*self._events(touched)]
        for event in events:
            self._tell(event)

    def _events(self, touched: Iterable[tuple[Spending[Any], tuple[str, ...]]]) -> Iterator[Event]:
        for rule, values in touched:
            account = rule.account_at(values)
            yield from (newly_reached if rule in self.budgets else newly_crossed)(rule, account)

    def account_of(self, spending: Spending[Any], values: tuple[str, ...]) -> Account:
        """Return an account of now."""
        with self._lock:
            return spending.account_at(values)

    def refresh(self) -> None:
        """Look what is spent of every account, also by what other services have taken in."""
        with self._lock:
            self._read([(rule, account, values) for rule in self._rules for values, account in rule.items()])

    def _read(self, accounts: Sequence[tuple[Spending[Any], Account, tuple[str, ...]]]) -> None:
        names = [rule.ledger_name(values, account.span) for rule, account, values in accounts]
        if not names:
            return
        for (rule, account, _), spent in zip(accounts, self._ledger.spent(names), strict=True):
            account.spent = spent.tokens if rule.unit == "tokens" else round(spent.usd * USD)

    def forget(self, label: str, value: str) -> None:
        """Forget what was spent under an id, such as that of a session that begins anew."""
        with self._lock:
            names = [
                rule.ledger_name(values, account.span)
                for rule in self._rules
                if label in rule.per
                for values, account in rule.items()
                if values[rule.per.index(label)] == value
            ]
            self._ledger.forget(names)
            for rule in self._rules:
                rule.forget(label, value)

    def samples(self) -> Iterator[Sample]:
        """Yield the gauges."""
        with self._lock:
            yield from gauges(
                [(rule.rule, account) for rule in self.budgets for account in rule.accounts()],
                [(rule.rule, account) for rule in self.thresholds for account in rule.accounts()],
            )

    def shown(self) -> list[dict[str, Any]]:
        """Return the budgets as the API shows them, the fullest first."""
        with self._lock:
            rows = [(rule.rule, account) for rule in self.budgets for account in rule.accounts()]
        rows.sort(key=lambda row: -row[1].spent / row[1].limit)
        return [
            {
                "budget": budget.name,
                "period": budget.period,
                "labels": account.labels,
                "unit": account.unit,
                "limit": account.to_float(account.limit),
                "spent": account.to_float(account.spent),
                "left": account.to_float(max(account.limit - account.spent, 0)),
                "on_exceed": budget.on_exceed,
                "resets_at": None if budget.period == "total" else rfc3339(account.span.end),
            }
            for budget, account in rows
        ]


def _charges(rule: Spending[Any], call: Call, now: float) -> Iterator[Charge]:
    values = rule.key_of(labels_of(call, call.model), _models(call))
    if values is not None:
        span = span_of(rule.period, call.started)
        kept = now + SESSION_SECONDS if rule.expires else min(span.end + _LATE_SECONDS, _FOREVER)
        yield Charge(rule.ledger_name(values, span), kept)


def _models(call: Call) -> tuple[str, str]:
    return call.model, call.requested_model


def start_of_period(span: Span) -> float | None:
    """Return when a period began; None for all time."""
    return None if span.start == -float("inf") else span.start
