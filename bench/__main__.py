"""Run the benchmarks and print a table of the results."""

from __future__ import annotations

import logging
import platform
import sys
from importlib import import_module

BENCHMARKS = ("startup", "calls", "shipping", "budgets", "scrapes", "ingest", "ledger", "dashboards", "rules")


def main(names: list[str]) -> None:
    """Run the named benchmarks, or all."""
    logging.disable(logging.WARNING)
    print(f"Python {platform.python_version()}, {platform.machine()}\n")
    print("| Benchmark | Without llm-exporter or with an alternative | With llm-exporter | Target |")
    print("|---|---|---|---|")
    for name in names or BENCHMARKS:
        for row in import_module(f"bench.{name}").rows():
            print(f"| {row.name} | {row.baseline} | {row.result} | {row.target} |", flush=True)


main(sys.argv[1:])
