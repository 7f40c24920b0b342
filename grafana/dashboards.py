"""Generate the dashboards' JSON.

    python -m grafana.dashboards            # or `make dashboards`
    python -m grafana.dashboards --check    # exit 1 if a committed file is out of date

Each dashboard is a module built from board.py, panels.py and queries.py.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from grafana import agents, budgets, cost, health, latency
from grafana.panels import Json

DIRECTORY = Path(__file__).parent / "dashboards"


def render(board: Json) -> str:
    """Return the content of a dashboard's JSON file."""
    return json.dumps(board, indent=2, sort_keys=True, ensure_ascii=False) + "\n"


def main() -> int:
    """Write the dashboards, or with `--check` return 1 if a committed file is out of date."""
    parser = argparse.ArgumentParser(description="Generate grafana/dashboards/*.json.")
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 if a file is out of date")
    check = parser.parse_args().check
    boards = [module.board() for module in (cost, agents, latency, budgets, health)]
    wanted = {DIRECTORY / f"{board['uid']}.json": render(board) for board in boards}
    found = {path: path.read_text(encoding="utf-8") for path in DIRECTORY.glob("*.json")}
    drifted = sorted(path for path in wanted.keys() | found.keys() if wanted.get(path) != found.get(path))
    for path in drifted:
        if check:
            sys.stderr.write(f"out of date: {path.name} (make dashboards)\n")
        elif path in wanted:
            path.write_text(wanted[path], encoding="utf-8")
        else:
            path.unlink()
    return int(check and bool(drifted))


if __name__ == "__main__":
    sys.exit(main())
