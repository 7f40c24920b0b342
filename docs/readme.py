"""Write the generated parts of the documentation, or check with --check that they are up to date."""

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
    """Return a Markdown table of all metrics, from the specifications that the exporter uses."""
    rows = [
        "| metric | type | further labels | meaning |",
        "|---|---|---|---|",
        *(f"| `{spec.name}` | {spec.type} | {_further_labels(spec)} | {spec.help} |" for spec in METRICS),
    ]
    return "\n".join(rows)


def _further_labels(spec: Spec) -> str:
    base = len(BASE_LABELS) if spec.labels[: len(BASE_LABELS)] == BASE_LABELS else 0
    return ", ".join(f"`{label}`" for label in spec.labels[base:])


def with_metrics_table(text: str) -> str:
    """Return the README with a current table of metrics.

    Args:
        text: the README as it is.

    Raises:
        ValueError: if the README does not have exactly one place for the table.
    """
    pattern = r"(<!-- generated: metrics -->\n).*?(<!-- end -->)"
    table = metrics_table()
    text, count = re.subn(pattern, lambda match: f"{match[1]}{table}\n{match[2]}", text, flags=re.DOTALL)
    if count != 1:
        raise ValueError(f"{README}: expected one place for the table of metrics, found {count}")
    return text


def schema() -> str:
    """Return the JSON Schema of `llm-exporter.yml`, for editors: https://json-schema.org/draft/2020-12."""
    document = Config.model_json_schema()
    document["$schema"] = "https://json-schema.org/draft/2020-12/schema"
    document["title"] = "llm-exporter.yml"
    # Durations may also be strings, such as `15s`.
    for name in ("scrape_interval", "retention"):
        duration = document["properties"][name]
        duration |= {"type": ["number", "string"], "exclusiveMinimum": duration.pop("gt")}
    return json.dumps(document, indent=2) + "\n"


def main() -> int:
    """Write the files, or compare them with --check.

    Returns:
        The exit status: 1 if a file is out of date.
    """
    files = {README: with_metrics_table(README.read_text(encoding="utf-8")), SCHEMA: schema()}
    if "--check" in sys.argv[1:]:
        return int(any(not file.exists() or file.read_text("utf-8") != text for file, text in files.items()))
    for file, text in files.items():
        file.write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
