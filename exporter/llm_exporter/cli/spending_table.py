"""A table of spending, as `llm-exporter report` and `llm-exporter run` print it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Final

from .tables import aligned

Row = Mapping[str, Any]
"""The values of some dimensions, and the fields of `Totals`."""

_COUNTS: Final = ("calls", "errors", "input_tokens", "output_tokens")
_DECIMALS: Final = (4, 6, 8)
"""How many decimals the amounts of a table may have."""


def spending_table(names: Sequence[str], rows: Sequence[Row]) -> Iterator[str]:
    """Yield the lines of a table.

    Args:
        names: the dimensions of the rows.
        rows: the rows. A service of an older release does not report approximated tokens.
    """
    decimals = _decimals(row["cost_usd"] for row in rows)
    total = {name: sum(row[name] for row in rows) for name in (*_COUNTS, "cost_usd", "unpriced_tokens")}
    return aligned(
        [
            [*names, *_COUNTS, "USD"],
            *(_cells([str(row[name]) for name in names], row, decimals) for row in rows),
            _cells(["total", *("" for _ in names[1:])], total, decimals),
        ],
        left=len(names),
    )


def remarks(rows: Iterable[Row]) -> Iterator[str]:
    """Yield how many tokens have no price, or an approximate cost."""
    rows = list(rows)
    for name, problem in (("unpriced", "no known price"), ("approximated", "an approximate cost")):
        if number := sum(row.get(f"{name}_tokens", 0) for row in rows):
            yield f"{number:,} tokens have {problem}."


def _cells(values: list[str], row: Row, decimals: int) -> list[str]:
    return [*values, *(f"{row[name]:,}" for name in _COUNTS), _cost(row, decimals)]


def _cost(row: Row, decimals: int) -> str:
    """Return a cost, which never looks like 0 because there is no price."""
    cost = f"{row['cost_usd']:.{decimals}f}"
    if not row["unpriced_tokens"]:
        return cost
    return f"{cost} + unpriced" if row["cost_usd"] else "unpriced"


def _decimals(costs: Iterable[float]) -> int:
    """Return how many decimals show at least two digits of the smallest cost."""
    smallest = min(filter(None, costs), default=1.0)
    return next((number for number in _DECIMALS if smallest >= 10 ** (1 - number)), _DECIMALS[-1])
