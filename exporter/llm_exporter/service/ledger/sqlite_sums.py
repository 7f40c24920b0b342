"""What new calls add to the sums in the SQLite ledger."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Final

from .base import MAX_INTEGER
from .sqlite_queries import SPANS

_STARTED: Final = 2
_DIMENSIONS: Final = slice(3, 9)
_AMOUNTS: Final = slice(10, 15)
_APPROXIMATED: Final = 16
_GROUP: Final = 17
"""Columns of `calls`, after those of `SUMMED_BY` and `Totals`."""

_Key = tuple[int, int, tuple[str, ...], int]
"""The length and the start of a span, the dimensions and the group of its calls."""


def added_by(rows: Iterable[tuple[Any, ...]]) -> Iterator[tuple[Any, ...]]:
    """Yield the rows that rows of `calls` add to `sums`."""
    shortest = SPANS[-1]
    alike: defaultdict[_Key, list[tuple[Any, ...]]] = defaultdict(list)
    for row in rows:
        start = int(row[_STARTED]) // shortest * shortest
        alike[shortest, start, row[_DIMENSIONS], row[_GROUP]].append(row)
    sums = {key: _summed(some) for key, some in alike.items()}
    for (_, start, dimensions, group), amounts in list(sums.items()):
        for span in SPANS[:-1]:
            _add(sums, (span, start // span * span, dimensions, group), amounts)
    for (span, start, dimensions, group), amounts in sums.items():
        yield (span, start, *dimensions, group, *(min(amount, MAX_INTEGER) for amount in amounts))


def _summed(rows: Sequence[tuple[Any, ...]]) -> list[Any]:
    columns = list(zip(*rows, strict=True))
    return [len(rows), *map(sum, columns[_AMOUNTS]), sum(columns[_APPROXIMATED])]


def _add(sums: dict[_Key, list[Any]], key: _Key, amounts: list[Any]) -> None:
    known = sums.get(key)
    sums[key] = amounts if known is None else [a + b for a, b in zip(known, amounts, strict=True)]
