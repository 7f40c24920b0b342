"""What a ledger can be asked, whatever it keeps its calls in."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Final, Literal, NamedTuple, Protocol

import msgspec

from ...call import UNATTRIBUTED, Call
from ...metrics.saved_sample import SavedSample
from ...metrics.zero_first import SeriesKey

Period = Literal["hour", "day", "month"]

DEFAULT: Final = "default"
"""The session and the project of calls that name none."""


class LedgerError(Exception):
    """A ledger that cannot be used; the message says which and why, for whoever runs the service."""


class Totals(msgspec.Struct, kw_only=True):
    """What some calls came to."""

    calls: int = 0
    errors: int = 0
    cost_usd: float = 0.0
    input_tokens: int = 0
    """Of the prompts, cached ones included."""
    output_tokens: int = 0
    """Generated, reasoning included."""
    unpriced_tokens: int = 0

    def add(self, other: Totals) -> None:
        """Add what other calls came to."""
        for name in self.__struct_fields__:
            setattr(self, name, getattr(self, name) + getattr(other, name))


class Query(msgspec.Struct, kw_only=True, frozen=True):
    """Which calls are meant: those that fit everything that is set."""

    since: float | None = None
    """Started then or later, in seconds since the epoch."""
    until: float | None = None
    """Started before."""
    session: str | None = None
    match: dict[str, str] = {}
    """By dimension: `model`, `agent`, `project` …"""


class Logged(msgspec.Struct, frozen=True):
    """A call in the ledger, and where."""

    position: int
    """Rises with every call that is added."""
    call: Call


class Spent(NamedTuple):
    """What calls have added to an account of a budget or threshold."""

    usd: float = 0.0
    tokens: int = 0


class Charge(NamedTuple):
    """What a call is added to beside the totals."""

    account: str
    expires: float
    """When the account may be forgotten, in seconds since 1970."""


class Lease(msgspec.Struct, frozen=True):
    """What a process may spend of an account before it asks again."""

    amount: int
    until: float
    """In seconds since 1970; then it is free for others."""


Leases = dict[str, Lease]
"""By process."""


class Ledger(Protocol):
    """Keeps calls for good, each once. Errors of the store are `LedgerError`."""

    charges: Callable[[Call], Iterable[Charge]]
    """Returns the accounts that a call is added to, in one step with the call itself."""

    def begun(self, rules: Sequence[str]) -> set[str]:
        """Return which of these rules have accounts, and forget that any other one has."""

    def begin(self, rule: str, spent: Mapping[Charge, Spent]) -> None:
        """Give a rule accounts, with what was spent before; of those who do so together one counts."""

    def accounts(self) -> list[str]:
        """Return the accounts that there are."""

    def spent(self, accounts: Sequence[str]) -> list[Spent]:
        """Return what was spent of accounts."""

    def forget(self, accounts: Sequence[str]) -> None:
        """Forget what was spent of accounts."""

    def lease(self, account: str, decide: Callable[[Leases], Leases]) -> None:
        """Change who may spend how much of an account, with nobody changing it meanwhile.

        Args:
            account: its name.
            decide: returns the leases that there are to be; called again when somebody was faster.
        """

    def add(self, calls: Sequence[Call]) -> list[Call]:
        """Keep calls, and return those that are not there yet, once they are safe on disk."""

    def after_checkpoint(self) -> tuple[list[SavedSample], Iterator[Call]]:
        """Return the last checkpoint, and the calls that have come since."""

    def checkpoint(self, counted: Sequence[SavedSample]) -> None:
        """Keep what the metrics have counted of all the calls so far."""

    def released(self) -> list[SeriesKey]:
        """Return the series whose value a Prometheus may have been shown."""

    def release(self, series: Iterable[SeriesKey]) -> None:
        """Keep that the values of series are shown from now on."""

    def calls(self, query: Query, *, limit: int, before: int | None = None) -> list[Logged]:
        """Return calls, the newest first.

        Args:
            query: which.
            limit: how many at most.
            before: only those at an earlier position, to page on.
        """

    def totals(self, query: Query, by: Sequence[str] = ()) -> dict[tuple[str, ...], Totals]:
        """Return what calls came to by dimensions: `model`, `agent`, `phase`, `provider` or any label."""

    def periods(
        self, query: Query, period: Period, by: Sequence[str] = ()
    ) -> dict[tuple[float, tuple[str, ...]], Totals]:
        """Return what calls came to by the UTC period they started in (its start) and by dimensions."""

    def session(self, name: str | None) -> str | None:
        """Return a session that has calls, the latest one for None; None when there is no such session."""

    def reset_session(self, name: str) -> None:
        """Let a session begin anew: its earlier calls stay in the ledger and no longer count for it."""

    def prune(self, before: float) -> int:
        """Forget calls that were received before a time and are in the checkpoint; return how many."""

    def close(self) -> None:
        """Let go of the store."""


def totals_of(call: Call) -> Totals:
    """Return what one call comes to."""
    return Totals(
        calls=1,
        errors=int(call.error is not None),
        cost_usd=call.total_cost,
        input_tokens=call.input_tokens,
        output_tokens=call.output_tokens,
        unpriced_tokens=call.unpriced_tokens,
    )


def dimension(call: Call, name: str) -> str:
    """Return the value of a dimension: a property of the call, or a label."""
    if name in ("provider", "model", "operation"):
        return str(getattr(call, name))
    if name in ("session", "project"):
        return call.labels.get(name) or DEFAULT
    return call.labels.get(name) or UNATTRIBUTED
