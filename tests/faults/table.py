"""The table of faults: what was tried, and what was lost. docs/faults.md shows it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

DOCUMENT = Path(__file__).parents[2] / "docs" / "faults.md"


class Row(NamedTuple):
    """What became of the calls during a fault."""

    fault: str
    tried: str
    calls: int
    lost: int | str
    doubled: int
    harm: str
    seen: str


HEAD = Row("fault", "tried", "calls", "lost", "doubled", "harm to the caller", "how you notice")  # type: ignore[arg-type]


def lost_and_doubled(made: Iterable[str], kept: Iterable[str]) -> tuple[int, int]:
    """Return how many of the calls that were made are not kept, and how many are kept more than once."""
    expected, found = Counter(made), Counter(kept)
    return (expected - found).total(), (found - expected).total()


def rendered(rows: Sequence[Row]) -> str:
    """Return rows as a Markdown table."""
    lines = [HEAD, ("---",) * len(HEAD), *rows]
    return "".join(
        f"| {' | '.join(f'{cell:,}' if isinstance(cell, int) else cell for cell in line)} |\n"
        for line in lines
    )


def differs(rows: Sequence[Row], *, complete: bool) -> bool:
    """Return whether the documentation shows other rows, or, if these are all rows, further ones."""
    _, shown, _ = _parts()
    table = rendered(rows)
    return shown != table if complete else not {*table.splitlines()} <= {*shown.splitlines()}


def write(rows: Sequence[Row]) -> None:
    """Write the table into the documentation."""
    head, _, tail = _parts()
    DOCUMENT.write_text(head + rendered(rows) + tail, "utf-8")


def _parts() -> tuple[str, str, str]:
    """Return the documentation before the table, the table, and the rest."""
    head, begin, rest = DOCUMENT.read_text("utf-8").partition("<!-- generated: faults -->\n")
    shown, end, tail = rest.partition("<!-- end -->")
    assert begin
    assert end
    return head + begin, shown, end + tail
