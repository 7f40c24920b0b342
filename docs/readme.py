"""Write the generated parts of README.md, or with --check say whether they are up to date."""

from __future__ import annotations

import re
import sys
from pathlib import Path

from llm_exporter.metrics import BASE_LABELS, METRICS, Spec

README = Path(__file__).parents[1] / "README.md"


def metrics_table() -> str:
    """Return the table of every metric, from the specifications that the registry is made from."""
    rows = [
        "| metric | type | further labels | meaning |",
        "|---|---|---|---|",
        *(f"| `{spec.name}` | {spec.type} | {_further_labels(spec)} | {spec.help} |" for spec in METRICS),
    ]
    return "\n".join(rows)


def _further_labels(spec: Spec) -> str:
    base = len(BASE_LABELS) if spec.labels[: len(BASE_LABELS)] == BASE_LABELS else 0
    return ", ".join(f"`{label}`" for label in spec.labels[base:])


def generated(text: str) -> str:
    """Return a README with its generated parts as they should be."""
    pattern = r"(<!-- generated: metrics -->\n).*?(<!-- end -->)"
    table = metrics_table()
    text, found = re.subn(pattern, lambda match: f"{match[1]}{table}\n{match[2]}", text, flags=re.DOTALL)
    if found != 1:
        raise ValueError(f"{README}: {found} places for the table of metrics, not 1")
    return text


def main() -> int:
    """Return the exit status: 1 when checking finds a difference."""
    text = README.read_text(encoding="utf-8")
    wanted = generated(text)
    if "--check" in sys.argv[1:]:
        return int(text != wanted)
    README.write_text(wanted, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
