"""Lease shared budgets to processes, so that all of them together stay within the limits."""

from __future__ import annotations

import json
import time
from typing import Final

import msgspec

from ..budgets.leases import LEASE_SECONDS, AccountUse, LeaseGrant, LeaseRequest, LeaseResponse, SharedBudget
from ..budgets.spending import USD, Account, Spending
from ..config.model import Budget
from .accounts import Accounts
from .ledger.base import Lease, Leases, Ledger
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


def grant_leases(request: LeaseRequest, accounts: Accounts, ledger: Ledger) -> LeaseResponse:
    """Grant the leases that a process asks for, and name all shared budgets.

    Raises:
        LedgerError: if the ledger cannot be used.
    """
    shared = {
        json.dumps(spending.identity): spending
        for spending in accounts.budgets
        if spending.rule.on_exceed == "block"
    }
    granted = [
        _grant(request, use, spending, accounts.account_of(spending, use.values), ledger)
        for use in request.accounts
        if (spending := shared.get(use.rule)) is not None and len(use.values) == len(spending.per)
    ]
    budgets = [SharedBudget(rule, spending.rule.model_dump(mode="json")) for rule, spending in shared.items()]
    return LeaseResponse(budgets, granted)


def _grant(
    request: LeaseRequest, use: AccountUse, spending: Spending[Budget], account: Account, ledger: Ledger
) -> LeaseGrant:
    name = spending.ledger_name(use.values, account.span)
    used, keeps, wanted = max(use.used, 0), max(use.keeps, 0), max(use.wanted, 0)
    spent = amount = 0

    def decide(leases: Leases) -> Leases:
        nonlocal spent, amount
        now = time.time()
        (in_ledger,) = ledger.spent([name])
        spent = in_ledger.tokens if spending.unit == "tokens" else round(in_ledger.usd * USD)
        others = {
            process: lease
            for process, lease in leases.items()
            if process != request.process and lease.until > now
        }
        left = account.limit - spent - sum(lease.amount for lease in others.values()) - used
        # Leave one share for the next process. What is used counts in any case, even beyond the limit.
        share = max(left // (len(others) + 2), wanted)
        amount = used if request.ends else used + max(min(left, share), 0)
        # The process does not know of a smaller lease yet: it may be spending on the old one right now.
        kept = used if request.ends else max(amount, keeps)
        return {**others, request.process: Lease(kept, now + _KEPT_SECONDS)} if kept else others

    ledger.update_leases(name, decide)
    return LeaseGrant(use.rule, use.values, account.span.start_or_none, spent, amount)
