"""The interface of a ledger, whatever stores its calls."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextvars import ContextVar
from typing import ClassVar, Final, NamedTuple, Protocol

import msgspec

from ...budgets.events import Unit
from ...call import UNATTRIBUTED, Call
from ...metrics.saved_sample import SavedSample
from ...metrics.zero_first import SeriesKey
from ...periods import Period, Step

SUMMED_BY: Final = ("provider", "model", "operation", "agent", "phase", "project")
"""The dimensions that a ledger stores sums by. Reports by any of them do not read each call."""

MAX_INTEGER: Final = 2**63 - 1
"""The largest 64-bit integer. Sums of tokens stop there."""

DEFAULT: Final = "default"
"""The session and the project of calls that have none."""


abandoned: Final[ContextVar[Callable[[], bool] | None]] = ContextVar("abandoned", default=None)
"""Returns whether nobody waits any more for what is read in this context. A long read then ends."""


class LedgerError(Exception):
    """The ledger is unavailable. The message names it and the reason, for the operator of the service."""


class NoLedger(LedgerError):  # noqa: N818  # describes a state
    """There is no ledger to read."""


class LedgerInUse(LedgerError):  # noqa: N818  # describes a state
    """Another process is writing to the ledger."""


class Totals(msgspec.Struct, kw_only=True, gc=False):
    """The totals of some calls. Input tokens include cached ones; output tokens include reasoning."""

    calls: int = 0
    errors: int = 0
    cost_usd: float = 0.0
    input_tokens: int = 0
    output_tokens: int = 0
    unpriced_tokens: int = 0
    approximated_tokens: int = 0

    def add(self, other: Totals) -> None:
        """Add the totals of other calls."""
        self.cost_usd += other.cost_usd
        for name in _COUNTS:
            setattr(self, name, min(getattr(self, name) + getattr(other, name), MAX_INTEGER))


_COUNTS: Final = tuple(name for name in Totals.__struct_fields__ if name != "cost_usd")


class Query(msgspec.Struct, kw_only=True, frozen=True):
    """Selects the calls that match all conditions."""

    since: float | None = None
    """Only calls that started at this time or later, in Unix seconds."""
    until: float | None = None
    """Only calls that started before this time."""
    session: str | None = None
    match: dict[str, str] = {}
    """Values by dimension: `model`, `agent`, `project` or any label."""


class Logged(msgspec.Struct, frozen=True, gc=False):
    """A call in the ledger."""

    position: int
    """Increases with every call that is added."""
    call: Call


class Spent(NamedTuple):
    """What is spent from an account of a budget or threshold."""

    usd: float = 0.0
    tokens: int = 0


class Charge(NamedTuple):
    """An account that a call is charged to."""

    account: str
    expires: float
    """When the account may be deleted, in Unix seconds."""


Charges = Callable[[Call], Iterable[Charge]]
"""Returns the accounts that a call is charged to."""


def no_charges(_: Call) -> Iterable[Charge]:
    """Charge a call to no account."""
    return ()


class Rule(NamedTuple):
    """A budget or threshold whose accounts are in the ledger."""

    name: str
    """As JSON. The names of its accounts begin with it: `[name, …]`."""
    period: Period
    since: float
    """When the current period began, in Unix seconds; minus infinity for all time."""
    match: Mapping[str, str]
    per: Sequence[str]
    charges: Charges
    """Returns the accounts of this rule that a call is charged to."""


class Lease(msgspec.Struct, frozen=True):
    """The amount that a process may spend from an account before it renews the lease."""

    amount: int
    until: float
    """When the lease expires, in Unix seconds."""


Leases = dict[str, Lease]
"""The leases of an account by process."""


class Claim(NamedTuple):
    """What a process claims of an account. Amounts are in trillionths of a USD, or in tokens."""

    account: str
    process: str
    unit: Unit
    limit: int
    used: int
    """Used and not yet in the ledger. It is leased in any case, even beyond the limit."""
    keeps: int = 0
    """The most that the process may still use of its present lease."""
    wanted: int = 0
    """The least that the process needs beside what it has used."""
    ends: bool = False
    """Whether the process returns the lease, except for what it has used."""


class Grant(NamedTuple):
    """The response to a claim, in the unit of the claim."""

    spent: int
    """What is spent from the account by the calls in the ledger."""
    amount: int
    """What the process may spend before it renews the lease, including what it has used."""


class Ledger(Protocol):
    """Stores each call once, durably. All methods raise `LedgerError` if the store is unavailable."""

    shared: ClassVar[bool] = False
    """Whether several services may write to it."""

    def prepare_rules(self, rules: Sequence[str]) -> None:
        """Delete what is left of rules that were registered once and are to be registered again.

        It may take long, and nothing waits for it.
        """

    def register_rules(self, rules: Sequence[str]) -> None:
        """Register rules by name, and forget all others.

        Calls that are added from now on must be charged to the accounts of these rules. Calls from before
        are charged to the accounts of a new rule by `charge_earlier`.
        """

    def rules_behind(self) -> set[str]:
        """Return the rules whose accounts do not include all earlier calls yet."""

    def charge_earlier(self, rule: Rule) -> bool:
        """Charge some of the calls from before a rule was registered to its accounts, each of them once.

        Returns:
            Whether more are left.
        """

    def accounts(self) -> list[str]:
        """Return the names of all accounts."""

    def spent(self, accounts: Sequence[str]) -> list[Spent]:
        """Return what is spent from each account."""

    def delete_accounts(self, accounts: Sequence[str]) -> None:
        """Delete accounts."""

    def lease(self, claims: Sequence[Claim], now: float) -> list[Grant]:
        """Lease amounts of accounts by the rule in `leasing.py`, whoever else leases at the same time.

        Args:
            claims: What a process claims.
            now: Unix seconds.
        """

    def add(self, calls: Sequence[Call], charges: Charges = no_charges) -> list[Call]:
        """Store calls, and charge their accounts in the same transaction.

        Args:
            calls: Calls without a `mistake`, see `bounds`; those with a known id are ignored.
            charges: Returns the accounts that a call is charged to.

        Returns:
            The new calls, once they are stored durably.
        """

    def after_checkpoint(self) -> tuple[list[SavedSample], Iterator[Call]]:
        """Return the last checkpoint and the calls that were added after it."""

    def checkpoint(self, counted: Sequence[SavedSample]) -> None:
        """Store the values of the metrics, which include all calls so far."""

    def released(self) -> list[SeriesKey]:
        """Return the series whose value a Prometheus may have scraped."""

    def release(self, series: Iterable[SeriesKey]) -> None:
        """Store that the values of these series are exposed from now on."""

    def calls(self, query: Query, *, limit: int, before: int | None = None) -> list[Logged]:
        """Return calls, newest first.

        Args:
            query: Selects the calls.
            limit: The maximum number of calls.
            before: Only calls before this position, for the next page.
        """

    def totals(self, query: Query, by: Sequence[str] = ()) -> dict[tuple[str, ...], Totals]:
        """Return totals by dimensions: `model`, `agent`, `phase`, `provider` or any label."""

    def periods(
        self, query: Query, period: Step, by: Sequence[str] = ()
    ) -> dict[tuple[float, tuple[str, ...]], Totals]:
        """Return totals by the start of the UTC period that the calls started in, and by dimensions.

        Minutes have no sums: they are made of the calls.
        """

    def session(self, name: str | None) -> str | None:
        """Return a session if it has calls, or the session of the latest call for None; else None."""

    def reset_session(self, name: str) -> None:
        """Reset a session: its earlier calls stay in the ledger but no longer belong to it."""

    def prune(self, before: float) -> int:
        """Delete some calls that were received before a time and are in the checkpoint: the oldest ones.

        Accounts and leases that have expired are deleted, too.

        Returns:
            The number of deleted calls; 0 if there is nothing more to delete.
        """

    def shrink(self) -> bool:
        """Return some free space to the file system, if there is much; return whether more may be left."""

    def catch_up(self) -> int:
        """Do a part of what an upgrade left to do, if anything.

        Returns:
            The number of calls in this part; 0 if nothing is left.
        """

    def check(self) -> None:
        """Check that calls could be added now."""

    def report_unreadable(self, report: Callable[[], object]) -> None:
        """Call a function once for each damaged part of the store, such as a call. They are skipped."""

    def close(self) -> None:
        """Close the store."""


def totals_of(call: Call) -> Totals:
    """Return the totals of one call."""
    prompt = call.input_tokens
    return Totals(
        calls=1,
        errors=int(call.error is not None),
        cost_usd=call.total_cost,
        input_tokens=prompt,
        output_tokens=call.total_tokens - prompt,
        unpriced_tokens=call.unpriced_tokens,
        approximated_tokens=call.approximated_tokens if call.approximated else 0,
    )


def dimensions(call: Call) -> tuple[str, ...]:
    """Return the values of the dimensions in `SUMMED_BY`."""
    label = call.labels.get
    agent, phase = label("agent") or UNATTRIBUTED, label("phase") or UNATTRIBUTED
    return call.provider, call.model, call.operation, agent, phase, label("project") or DEFAULT


def dimension(call: Call, name: str) -> str:
    """Return the value of a dimension: an attribute of the call, or a label."""
    if name in ("provider", "model", "operation"):
        return str(getattr(call, name))
    if name in ("session", "project"):
        return call.labels.get(name) or DEFAULT
    return call.labels.get(name) or UNATTRIBUTED
