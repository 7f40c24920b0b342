"""Generate the dashboards, and the rules that record what they show, in this repository.

python -m tools.dashboards            # or `make dashboards`
python -m tools.dashboards --check    # exit 1 if a committed file is out of date
python -m tools.dashboards --labels team,project
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from llm_exporter.bundle.dashboards import boards
from llm_exporter.bundle.declared import declared_labels
from llm_exporter.bundle.increases import render
from llm_exporter.bundle.writing import as_json

REPOSITORY = Path(__file__).parents[1]
DASHBOARDS = REPOSITORY / "grafana" / "dashboards"
RULES = {
    2: REPOSITORY / "prometheus" / "rules" / "increases.yml",
    3: REPOSITORY / "prometheus" / "prometheus3" / "increases.yml",
}
"""The file by the oldest major version of Prometheus that loads it."""


def main() -> int:
    """Write the files, or with `--check` return 1 if a committed file is out of date."""
    parser = argparse.ArgumentParser(description="Generate grafana/dashboards/ and both increases.yml.")
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 if a file is out of date")
    parser.add_argument("--labels", default=(), type=_labels, help="declared labels, comma-separated")
    arguments = parser.parse_args()
    wanted = {DASHBOARDS / f"{board['uid']}.json": as_json(board) for board in boards(arguments.labels)}
    wanted |= {file: render(version, arguments.labels) for version, file in RULES.items()}
    present = [*DASHBOARDS.glob("*.json"), *RULES.values()]
    found = {path: path.read_text(encoding="utf-8") for path in present if path.exists()}
    drifted = sorted(path for path in wanted.keys() | found.keys() if wanted.get(path) != found.get(path))
    for path in drifted:
        if arguments.check:
            sys.stderr.write(f"out of date: {path.relative_to(REPOSITORY)} (make dashboards)\n")
        elif path in wanted:
            path.write_text(wanted[path], encoding="utf-8")
        else:
            path.unlink()
    return int(arguments.check and bool(drifted))


def _labels(text: str) -> tuple[str, ...]:
    try:
        return declared_labels(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


if __name__ == "__main__":
    sys.exit(main())
