"""Write what is generated of the documentation, or with --check say whether it is up to date."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

from llm_exporter.config.model import Config
from llm_exporter.metrics.specs import BASE_LABELS, METRICS, Spec

README = Path(__file__).parents[1] / "README.md"
SCHEMA = Path(__file__).with_name("llm-exporter.schema.json")


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


def schema() -> str:
    """Return the JSON Schema of `llm-exporter.yml`, for editors: https://json-schema.org/draft/2020-12."""
    described = Config.model_json_schema()
    described["$schema"] = "https://json-schema.org/draft/2020-12/schema"
    described["title"] = "llm-exporter.yml"
    # A duration is written as text too.
    for name in ("scrape_interval", "retention"):
        duration = described["properties"][name]
        duration |= {"type": ["number", "string"], "exclusiveMinimum": duration.pop("gt")}
    return json.dumps(described, indent=2) + "\n"


def main() -> int:
    """Return the exit status: 1 when checking finds a difference."""
    wanted = {README: generated(README.read_text(encoding="utf-8")), SCHEMA: schema()}
    if "--check" in sys.argv[1:]:
        return int(any(not file.exists() or file.read_text("utf-8") != text for file, text in wanted.items()))
    for file, text in wanted.items():
        file.write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
