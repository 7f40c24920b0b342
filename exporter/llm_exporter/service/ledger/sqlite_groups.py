"""Groups of calls with the same labels, by which the SQLite ledger sums up calls."""

from __future__ import annotations

import sqlite3
import time
from collections import defaultdict
from collections.abc import Iterable
from typing import Final

import msgspec

from ...call import Call
from ...periods import DAY
from .base import DEFAULT, SUMMED_BY, dimension

_MAX_GROUPS: Final = 1000
"""Groups in a day. Beyond it, the label with the most values is left out."""
_MAX_OMITTED: Final = 50
"""Labels that are left out in a day. Beyond it, all are."""
NAMED_SESSION: Final = -1
"""In place of a reset: the calls belong to sessions with names."""
ALL_OMITTED: Final = "null"
"""In place of labels: none of them is known."""

_encode: Final = msgspec.json.Encoder(order="deterministic").encode
_decode: Final = msgspec.json.Decoder(dict[str, str | None]).decode


class Groups:
    """Finds or creates the groups of calls.

    A group is stored as a JSON object of labels. A label with too many values is null in it, so that sums are
    bounded: reports by this label read the calls.
    """

    def __init__(self) -> None:
        self.forget()

    def forget(self) -> None:
        """Start again, at a new day or because the groups were not stored."""
        self._day = time.time() // DAY
        self._ids: dict[tuple[str, int], int] = {}
        self._omitted: set[str] = set()
        self._all_omitted = False

    def ids_of(self, writer: sqlite3.Connection, calls: Iterable[Call]) -> list[int]:
        """Return the ids of the groups of calls, in a transaction. Few of them have different labels."""
        known: dict[tuple[tuple[str, str], ...], int] = {}
        ids = []
        for call in calls:
            labels = tuple(call.labels.items())
            if (group := known.get(labels)) is None:
                group = known[labels] = self.id_of(writer, call)
            ids.append(group)
        return ids

    def id_of(self, writer: sqlite3.Connection, call: Call) -> int:
        """Return the id of a call's group, in a transaction."""
        if self._day != time.time() // DAY:
            self.forget()
        key = self._labels(call), _reset(writer) if dimension(call, "session") == DEFAULT else NAMED_SESSION
        if key not in self._ids:
            if len(self._ids) >= _MAX_GROUPS and key[0] not in ("{}", ALL_OMITTED):
                self._omit_one()
                return self.id_of(writer, call)
            writer.execute("INSERT OR IGNORE INTO groups (labels, reset) VALUES (?, ?)", key)
            select = "SELECT id FROM groups WHERE labels = ? AND reset = ?"
            (self._ids[key],) = writer.execute(select, key).fetchone()
        return self._ids[key]

    def _labels(self, call: Call) -> str:
        labels = {
            name: None if name in self._omitted else value
            for name, value in call.labels.items()
            if value and name not in SUMMED_BY and name != "session"
        }
        return ALL_OMITTED if labels and self._all_omitted else _encode(labels).decode()

    def _omit_one(self) -> None:
        values: defaultdict[str, set[str]] = defaultdict(set)
        for labels, _ in self._ids:
            for name, value in (_decode(labels) if labels != ALL_OMITTED else {}).items():
                if value is not None:
                    values[name].add(value)
        if values:
            self._omitted.add(max(values, key=lambda name: len(values[name])))
        self._all_omitted = not values or len(self._omitted) > _MAX_OMITTED
        self._ids.clear()


def _reset(writer: sqlite3.Connection) -> int:
    """Return the position of the last reset of the session without a name."""
    select = "SELECT coalesce((SELECT position FROM resets WHERE session = ?), 0)"
    (position,) = writer.execute(select, (DEFAULT,)).fetchone()
    return int(position)
