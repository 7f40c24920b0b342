"""The rule by which a ledger leases amounts of an account to processes.

`LEASE` in `redis_scripts.py` is the same rule in Lua, so that Redis applies it in one round trip, whatever
other services do. `tests/service/ledger/test_leasing.py` compares both. Lua's numbers are floats: they are
exact up to 2^53, which is 9,007 USD, and the leases of larger budgets are right to 15 digits of the limit.
"""

from __future__ import annotations

from typing import Final

from ...budgets.leases import LEASE_SECONDS
from ...budgets.spending import USD
from .base import Claim, Grant, Lease, Leases, Spent

KEPT_SECONDS: Final = 2 * LEASE_SECONDS
"""A process stops spending on a lease before the lease is free for others."""


def leased(claim: Claim, leases: Leases, in_ledger: Spent, now: float) -> tuple[Leases, Grant]:
    """Return the leases of an account after a claim, and the response to it.

    Args:
        claim: What a process claims.
        leases: The present leases.
        in_ledger: What is spent from the account.
        now: Unix seconds.
    """
    spent = in_ledger.tokens if claim.unit == "tokens" else round(in_ledger.usd * USD)
    # A lease that ends later was granted before the clock stepped back: it does not last any longer.
    latest = now + KEPT_SECONDS
    others = {
        process: Lease(lease.amount, min(lease.until, latest))
        for process, lease in leases.items()
        if process != claim.process and lease.until > now
    }
    amount = kept = claim.used
    if not claim.ends:
        left = claim.limit - spent - sum(lease.amount for lease in others.values()) - claim.used
        # Leave one share for the next process. What is used counts in any case, even beyond the limit.
        share = max(left // (len(others) + 2), claim.wanted)
        amount = claim.used + max(min(left, share), 0)
        # The process does not know of a smaller lease yet: it may be spending on the old one right now.
        before = leases[claim.process].amount if claim.process in leases else 0
        kept = max(amount, min(claim.keeps, before))
    if kept:
        others[claim.process] = Lease(kept, latest)
    return others, Grant(spent, amount)
