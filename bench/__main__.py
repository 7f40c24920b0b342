"""Runs all comparisons and prints them as a table."""

from __future__ import annotations

import logging
import platform
import sys
from importlib import import_module

COMPARISONS = ("calls", "budgets", "scrapes", "ingest", "dashboards", "rules")


def main(names: list[str]) -> None:
    """Run the comparisons of these names, or all."""
    logging.disable(logging.WARNING)
    print(f"Python {platform.python_version()}, {platform.machine()}\n")
    print("| what | without, or with others | with llm-exporter | target |\n|---|---|---|---|")
    for name in names or COMPARISONS:
        for row in import_module(f"bench.{name}").rows():
            print(f"| {row.what} | {row.without} | {row.with_us} | {row.target} |", flush=True)


main(sys.argv[1:])
