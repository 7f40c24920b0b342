"""Lease shared budgets to processes, so that all of them together stay within the limits."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from typing import Final

import msgspec

from ..budgets.lease_messages import AccountUse, LeaseGrant, LeaseRequest, LeaseResponse, SharedBudget
from ..budgets.leases import LEASE_SECONDS
from ..budgets.spending import USD, Spending
from ..config.model import Budget
from ..periods import span_of
from .access.rights import Holder
from .accounts import Accounts
from .ledger.base import Lease, Leases, Ledger, Spent
from .requests import Problem

_KEPT_SECONDS: Final = 2 * LEASE_SECONDS
"""A process stops spending on a lease before the lease is free for others."""

_decode: Final = msgspec.json.Decoder(LeaseRequest).decode


def parse_lease_request(body: bytes) -> LeaseRequest:
    """Return the lease request in a body.

    Raises:
        Problem: if the body is not a lease request.
    """
    try:
        return _decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise Problem(400, f"invalid lease request: {error}") from None


def grant_leases(
    request: LeaseRequest,
    holder: Holder,
    accounts: Accounts,
    ledger: Ledger,
    clock: Callable[[], float] = time.time,
) -> LeaseResponse:
    """Grant the leases that a process asks for, and name the shared budgets that its calls may count against.

    A process whose token is bound to labels only gets leases on accounts of calls with these labels.

    Raises:
        LedgerError: if the ledger cannot be used.
    """
    shared = {
        json.dumps(spending.identity): spending
        for spending in accounts.budgets
        if spending.rule.on_exceed == "block" and _agree(holder.labels, spending.rule.match)
    }
    # Processes of other holders have other leases, whatever a process calls itself. Holders have no colon.
    owner = f"{holder.name}:{request.process}"
    granted = [
        _grant(owner, use, spending, ledger, clock, ends=request.ends)
        for use in request.accounts
        if (spending := shared.get(use.rule)) is not None
        and len(use.values) == len(spending.per)
        and _agree(holder.labels, dict(zip(spending.per, use.values, strict=True)))
    ]
    budgets = [SharedBudget(rule, spending.rule.model_dump(mode="json")) for rule, spending in shared.items()]
    return LeaseResponse(budgets, granted, accounts.prices, dict(holder.labels))


def _agree(labels: Mapping[str, str], others: Mapping[str, str]) -> bool:
    """Return whether a call can have both."""
    return all(others.get(name, value) == value for name, value in labels.items())


def _grant(
    owner: str,
    use: AccountUse,
    spending: Spending[Budget],
    ledger: Ledger,
    clock: Callable[[], float],
    *,
    ends: bool,
) -> LeaseGrant:
    # The period is that of the process's clock, by which its calls are charged.
    span = span_of(spending.period, clock() if use.start is None else use.start)
    name = spending.ledger_name(use.values, span)
    used, keeps, wanted = (_within(amount, spending.limit) for amount in (use.used, use.keeps, use.wanted))
    spent = amount = 0

    def decide(leases: Leases, in_ledger: Spent) -> Leases:
        nonlocal spent, amount
        now = clock()
        spent = in_ledger.tokens if spending.unit == "tokens" else round(in_ledger.usd * USD)
        # A lease that ends later was granted before the clock stepped back: it does not last any longer.
        latest = now + _KEPT_SECONDS
        others = {
            process: Lease(lease.amount, min(lease.until, latest))
            for process, lease in leases.items()
            if process != owner and lease.until > now
        }
        left = spending.limit - spent - sum(lease.amount for lease in others.values()) - used
        # Leave one share for the next process. What is used counts in any case, even beyond the limit.
        share = max(left // (len(others) + 2), wanted)
        amount = used if ends else used + max(min(left, share), 0)
        # The process does not know of a smaller lease yet: it may be spending on the old one right now.
        before = leases[owner].amount if owner in leases else 0
        kept = used if ends else max(amount, min(keeps, before))
        return {**others, owner: Lease(kept, latest)} if kept else others

    ledger.update_leases(name, decide)
    return LeaseGrant(use.rule, use.values, span.start_or_none, spent, amount)


def _within(amount: int, limit: int) -> int:
    """Return a claimed amount within what any process can have: no claim frees or fills a budget for good."""
    return min(max(amount, 0), limit)
