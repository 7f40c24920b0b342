"""Run the benchmarks and print tables of the results."""

from __future__ import annotations

import logging
import platform
import sys
from collections.abc import Sequence
from importlib import import_module

from .compared import Table

BENCHMARKS = (
    *("startup", "calls", "streams", "instructions", "bytecodes", "floor", "peers", "throughput", "growth"),
    *("shipping", "budgets", "scrapes", "ingest", "stalls", "ledger", "dashboards", "rules"),
)


def main(names: list[str]) -> None:
    """Run the named benchmarks, or all."""
    logging.disable(logging.WARNING)
    print(f"Python {platform.python_version()}, {platform.machine()}\n")
    for name in names or BENCHMARKS:
        for table in import_module(f"bench.{name}").tables():
            print_table(table)


def print_table(table: Table) -> None:
    """Print a table in Markdown, each row as soon as it is known."""
    print(f"### {table.title}\n")
    print(_line(table.head))
    print("|" + "---|" * len(table.head))
    for row in table.rows:
        print(_line(row), flush=True)
    print(flush=True)


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


if __name__ == "__main__":
    main(sys.argv[1:])
