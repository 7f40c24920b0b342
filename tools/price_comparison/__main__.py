"""Check that our prices differ from LiteLLM's only where that is accepted."""

from __future__ import annotations

import argparse
import logging
import sys
from pathlib import Path

from .comparison import compare, problems, read_accepted, read_reasons, write_accepted
from .table import read


def main() -> int:
    """Compare the prices and print what is wrong.

    Returns:
        The exit status: 1 if anything is wrong.
    """
    parser = argparse.ArgumentParser(prog="python -m tools.price_comparison", description=__doc__)
    parser.add_argument("wheel", type=Path, help="a wheel of LiteLLM")
    parser.add_argument(
        "--write", action="store_true", help="accept the current differences; they still need reasons"
    )
    options = parser.parse_args()
    logging.getLogger("llm_exporter").setLevel(logging.ERROR)

    result = compare(read(options.wheel))
    if options.write:
        write_accepted(result.differences)
    found = list(problems(result.differences, read_accepted(), read_reasons()))
    summary = (
        f"{result.prices:,} prices of {result.models:,} models compared with {options.wheel.name}: "
        f"{len(result.differences):,} accepted differences, {len(found):,} problems"
    )
    sys.stdout.writelines(f"{line}\n" for line in (*found, summary))
    return int(bool(found))


if __name__ == "__main__":
    sys.exit(main())
