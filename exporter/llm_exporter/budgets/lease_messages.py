"""What a process asks of the service that shares budgets, and what the service answers."""

from __future__ import annotations

from typing import Annotated, Any, Final

import msgspec

from ..periods import DAY, END_OF_TIME
from .spending import Key

MAX_ACCOUNTS: Final = 1000
"""The largest number of accounts in one request."""


class AccountUse(msgspec.Struct):
    """The usage that a process reports for one account."""

    rule: str
    """The service's name of the budget."""
    values: Key
    used: int
    """Spent and not yet in the ledger, or held for calls in flight."""
    keeps: int = 0
    """The most that the process may still use of its current lease until it receives another one."""
    wanted: int = 0
    """The estimates of calls that wait for a lease or for a larger one."""
    start: Annotated[float, msgspec.Meta(ge=0, lt=END_OF_TIME - 31 * DAY)] | None = None
    """When the period began by the clock of the process; None for the current one, or without periods."""


class LeaseRequest(msgspec.Struct):
    """The leases that a process asks for."""

    process: Annotated[str, msgspec.Meta(max_length=512)]
    accounts: Annotated[list[AccountUse], msgspec.Meta(max_length=MAX_ACCOUNTS)] = []
    ends: bool = False
    """Whether the process returns its leases because it is exiting."""


class LeaseGrant(msgspec.Struct):
    """The lease on one account."""

    rule: str
    values: Key
    start: float | None
    """When the period began, as a Unix timestamp in seconds; None for a budget without periods."""
    spent: int
    """The amount in the ledger, spent by all processes."""
    amount: int


class SharedBudget(msgspec.Struct):
    """A budget that the service shares."""

    rule: str
    budget: dict[str, Any]


class LeaseResponse(msgspec.Struct):
    """The shared budgets, and the leases that the service grants."""

    budgets: list[SharedBudget]
    granted: list[LeaseGrant]
    prices: dict[str, Any] = {}
    """The service's configured prices, for estimates of calls that the process has no price for."""
    labels: dict[str, str] = {}
    """The labels that replace those of the process's calls, because its token is bound to them."""
