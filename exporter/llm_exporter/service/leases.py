"""Lease shared budgets to processes, so that all of them together stay within the limits."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from typing import Final

import msgspec

from ..budgets.lease_messages import AccountUse, LeaseGrant, LeaseRequest, LeaseResponse, SharedBudget
from ..budgets.spending import Spending
from ..config.model import Budget
from ..periods import Span, span_of
from .access.rights import Holder
from .accounts import Accounts
from .ledger.base import Claim, Ledger
from .requests import Problem

_MAX_LIMIT: Final = 10**30
"""Larger limits are as good as none, and may be larger than any float."""

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
    now = clock()
    # The period is that of the process's clock, by which its calls are charged.
    wanted = [
        (use, spending, span_of(spending.period, now if use.start is None else use.start))
        for use in request.accounts
        if (spending := shared.get(use.rule)) is not None
        and len(use.values) == len(spending.per)
        and _agree(holder.labels, dict(zip(spending.per, use.values, strict=True)))
    ]
    claims = [_claim(owner, use, spending, span, ends=request.ends) for use, spending, span in wanted]
    granted = [
        LeaseGrant(use.rule, use.values, span.start_or_none, grant.spent, grant.amount)
        for (use, _, span), grant in zip(wanted, ledger.lease(claims, now), strict=True)
    ]
    budgets = [SharedBudget(rule, spending.rule.model_dump(mode="json")) for rule, spending in shared.items()]
    return LeaseResponse(budgets, granted, accounts.prices, dict(holder.labels))


def _agree(labels: Mapping[str, str], others: Mapping[str, str]) -> bool:
    """Return whether a call can have both."""
    return all(others.get(name, value) == value for name, value in labels.items())


def _claim(owner: str, use: AccountUse, spending: Spending[Budget], span: Span, *, ends: bool) -> Claim:
    """Return the claim of a process on an account.

    Its amounts are within the limit, so that no process can free or fill a budget for good.
    """
    limit = min(spending.limit, _MAX_LIMIT)
    used, keeps, wanted = (min(max(amount, 0), limit) for amount in (use.used, use.keeps, use.wanted))
    account = spending.ledger_name(use.values, span)
    return Claim(account, owner, spending.unit, limit, used, keeps, wanted, ends)
