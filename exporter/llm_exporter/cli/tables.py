"""Tables as lines of text."""

from __future__ import annotations

from collections.abc import Iterator

from ..harmless import one_line


def aligned(rows: list[list[str]], left: int) -> Iterator[str]:
    """Yield the rows as lines: the first `left` columns left-aligned, the others right-aligned."""
    rows = [[one_line(cell) for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        padded = zip(row, widths, strict=True)
        yield "  ".join(
            cell.ljust(width) if number < left else cell.rjust(width)
            for number, (cell, width) in enumerate(padded)
        )
