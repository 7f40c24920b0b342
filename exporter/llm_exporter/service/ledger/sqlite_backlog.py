"""Charge calls to accounts in the SQLite ledger, also those from before a budget or threshold was added.

A new rule notes the position of the last call. Later calls are charged when they are added. Earlier ones are
its backlog, which is charged in the background: at once from sums of calls if these tell the accounts apart,
otherwise from the calls, a few at a time. A transaction that charges them also notes how far it came, so that
each call is charged once, however often the service is stopped.
"""

from __future__ import annotations

import sqlite3
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from math import inf
from typing import Final, NamedTuple

import msgspec

from ...call import Call
from ...config.model import IDS
from ...periods import HOUR
from .base import DEFAULT, MAX_INTEGER, Charge, Charges, Rule
from .decoding import CallDecoder
from .sqlite_file import SqliteFile
from .sqlite_groups import ALL_OMITTED
from .sqlite_queries import SPANS, parts, start_in_sql, union

_SLICE_CALLS: Final = 250
"""Calls that are charged in one transaction."""
_SLICE_ACCOUNTS: Final = 250
_CHARGE: Final = (
    "INSERT INTO accounts VALUES (?, ?, ?, ?) ON CONFLICT (account) DO UPDATE SET"  # noqa: S608  # no values
    " usd = usd + excluded.usd, expires = max(expires, excluded.expires),"
    f" tokens = min(tokens + excluded.tokens, {MAX_INTEGER})"
)
_SUMMED: Final = dict.fromkeys(("provider", "model", "agent", "phase", "project"), "")
"""The dimensions of sums that a rule may have too, beside labels."""
_NOT_SUMMED: Final = IDS | {"operation"}
"""Labels that sums do not have, and those whose accounts expire some time after their last call."""

_decode_labels: Final = lru_cache(maxsize=10_000)(msgspec.json.Decoder(dict[str, str | None] | None).decode)

Row = tuple[str, float, float, int]
"""An account, when it expires, and the amounts in USD and tokens to charge to it."""


def charge(writer: sqlite3.Connection, rows: Iterable[Row]) -> None:
    """Charge amounts to accounts, in a transaction."""
    writer.executemany(_CHARGE, rows)


def charged(calls: Iterable[Call], charges: Charges) -> Iterator[Row]:
    """Yield what calls are charged."""
    for call in calls:
        for account, expires in charges(call):
            yield account, expires, call.total_cost, min(call.total_tokens, MAX_INTEGER)


class _Progress(NamedTuple):
    position: int
    before_start: float
    before_position: int


class Backlog:
    """The calls that are still to be charged to new rules.

    Args:
        file: The file of the ledger.
        decode: Decodes its calls.
    """

    def __init__(self, file: SqliteFile, decode: CallDecoder) -> None:
        self._file = file
        self._decode = decode

    def prepare(self, rules: Sequence[str]) -> None:
        """Delete the accounts of those rules that are not registered, a few at a time."""
        for rule in {*rules} - {known for (known,) in self._file.read("SELECT rule FROM rules")}:
            condition = "account IN (SELECT account FROM accounts WHERE account >= ? AND account < ? LIMIT ?)"
            deleted = _SLICE_ACCOUNTS
            while deleted == _SLICE_ACCOUNTS:
                with self._file.transaction() as writer:
                    # The name of the rule is followed by a list.
                    limits = (f"[{rule}, [", f"[{rule}, \\", _SLICE_ACCOUNTS)
                    deleted = writer.execute(f"DELETE FROM accounts WHERE {condition}", limits).rowcount  # noqa: S608

    def register(self, rules: Sequence[str]) -> None:
        """Register rules and no others. New ones have all calls so far as their backlog."""
        with self._file.transaction() as writer:
            known = {rule for (rule,) in writer.execute("SELECT rule FROM rules")}
            for table in ("rules", "backlogs"):
                obsolete = [(rule,) for rule in known - {*rules}]
                writer.executemany(f"DELETE FROM {table} WHERE rule = ?", obsolete)  # noqa: S608
            new = [(rule,) for rule in {*rules} - known]
            writer.executemany("INSERT INTO rules VALUES (?)", new)
            writer.executemany(
                "INSERT OR REPLACE INTO backlogs"
                " SELECT ?, position, 9e999, 0 FROM calls ORDER BY position DESC LIMIT 1",
                new,
            )

    def rules(self) -> set[str]:
        """Return the rules that have a backlog."""
        return {rule for (rule,) in self._file.read("SELECT rule FROM backlogs")}

    def charge(self, rule: Rule) -> bool:
        """Charge the backlog of a rule, or a part of it; return whether more is left."""
        columns = ", ".join(_Progress._fields)
        rows = self._file.read(f"SELECT {columns} FROM backlogs WHERE rule = ?", (rule.name,))  # noqa: S608
        if not rows:
            return False
        done = _Progress(*rows[0])
        if done.before_start == inf and (sums := self._sums(rule, done.position)) is not None:
            self._advance(rule.name, done, None, sums)
            return False
        calls = self._file.read(
            "SELECT position, call, started FROM calls INDEXED BY calls_by_start"
            " WHERE started >= ? AND started <= ? AND (started, position) < (?, ?) AND position <= ?"
            " ORDER BY started DESC, position DESC LIMIT ?",
            (rule.since, done.before_start, *done[1:], done.position, _SLICE_CALLS),
        )
        more = len(calls) == _SLICE_CALLS
        following = done._replace(before_start=calls[-1][2], before_position=calls[-1][0]) if more else None
        decoded = (logged.call for logged in self._decode(row[:2] for row in calls))
        self._advance(rule.name, done, following, list(charged(decoded, rule.charges)))
        return more

    def _advance(self, rule: str, done: _Progress, following: _Progress | None, rows: Iterable[Row]) -> None:
        """Charge amounts, unless somebody else has done that meanwhile."""
        this = f"rule = ? AND ({', '.join(_Progress._fields)}) = (?, ?, ?)"
        with self._file.transaction() as writer:
            if following is None:
                changed = writer.execute(f"DELETE FROM backlogs WHERE {this}", (rule, *done))  # noqa: S608
            else:
                changed = writer.execute(
                    f"UPDATE backlogs SET before_start = ?, before_position = ? WHERE {this}",  # noqa: S608
                    (*following[1:], rule, *done),
                )
            if changed.rowcount:
                charge(writer, rows)

    def _sums(self, rule: Rule, position: int) -> list[Row] | None:
        """Return what calls up to a position are charged, from sums; None if the sums do not tell.

        The sums also include later calls, which are taken off again.
        """
        source = union(parts(rule.since, inf, (HOUR,) if rule.period == "hour" else SPANS))
        if source is None:
            return None
        accounts: defaultdict[Charge, _Amounts] = defaultdict(_Amounts)
        with self._file.snapshot() as reader:
            for row in reader.execute(
                f"SELECT {start_in_sql(rule.period)}, provider, model, agent, phase, project, labels,"  # noqa: S608
                " sum(calls), total(cost_usd), CAST(total(input_tokens) + total(output_tokens) AS INTEGER)"
                f" FROM ({source.sql}) JOIN groups ON id = group_id GROUP BY 1, 2, 3, 4, 5, 6, 7",
                source.parameters,
            ):
                some = _Sum(*row)
                if not some.tells_accounts_of(rule):
                    return None
                for charge in rule.charges(some.as_call()):
                    accounts[charge].add(some.calls, some.usd, some.tokens)
            later = reader.execute(
                "SELECT position, call FROM calls WHERE position > ? AND started >= ?", (position, rule.since)
            )
            for logged in self._decode(later):
                for charge in rule.charges(logged.call):
                    accounts[charge].add(-1, -logged.call.total_cost, -logged.call.total_tokens)
        return [
            (account, expires, max(of.usd, 0.0), max(min(of.tokens, MAX_INTEGER), 0))
            for (account, expires), of in accounts.items()
            if of.calls > 0
        ]


class _Amounts:
    def __init__(self) -> None:
        self.calls, self.usd, self.tokens = 0, 0.0, 0

    def add(self, calls: int, usd: float, tokens: int) -> None:
        self.calls += calls
        self.usd += usd
        self.tokens += tokens


class _Sum(NamedTuple):
    """The sum of some calls with the same labels, except for those that sums leave out."""

    start: float
    provider: str
    model: str
    agent: str
    phase: str
    project: str
    labels: str
    calls: int
    usd: float
    tokens: int

    def tells_accounts_of(self, rule: Rule) -> bool:
        """Return whether all of the calls are charged to the same accounts of a rule."""
        names = {*rule.match, *rule.per}
        known = {**_SUMMED, **(_decode_labels(self.labels) or {})}
        missing = None if self.labels == ALL_OMITTED else ""
        if any(name in _NOT_SUMMED or known.get(name, missing) is None for name in names):
            return False
        if "project" in names and self.project == DEFAULT:
            return False  # some of the calls may have no project
        # Others may have requested the model of the rule, and a sum does not tell.
        return rule.match.get("model", self.model) == self.model

    def as_call(self) -> Call:
        """Return a call that stands for all of them."""
        labels = {name: value for name, value in (_decode_labels(self.labels) or {}).items() if value}
        return Call(
            provider=self.provider,
            model=self.model,
            requested_model=self.model,
            operation="",
            started=float(self.start),  # as the names of accounts have it
            labels={**labels, "agent": self.agent, "phase": self.phase, "project": self.project},
        )
