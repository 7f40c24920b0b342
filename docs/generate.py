"""Write the generated parts of the documentation, or check with --check that they are up to date."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable
from pathlib import Path
from urllib.parse import urlsplit

from llm_exporter.config.model import Config
from llm_exporter.environment import VARIABLES
from llm_exporter.metrics.specs import BASE_LABELS, METRICS, Spec
from llm_exporter.pricing.aliases import ALIASES
from llm_exporter.pricing.corrections import CORRECTIONS
from llm_exporter.pricing.factors import FACTORS
from llm_exporter.pricing.fees import FEES

METRICS_PAGE = Path(__file__).with_name("metrics.md")
PRICES = Path(__file__).with_name("prices.md")
ENVIRONMENT = Path(__file__).with_name("environment.md")
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


def _table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    lines = [head, ("---",) * len(head), *rows]
    return "\n".join(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in line)} |" for line in lines)


def _source(url: str, as_of: str) -> str:
    """Return a link to the page of a price, with the date of the price."""
    return f"[{urlsplit(url).hostname}]({url}), {as_of}"


def _models(pattern: str) -> str:
    return "all" if pattern == ".*" else f"`{pattern}`"


def _region(pattern: str) -> str:
    return "" if pattern == ".*" else f"region `{pattern}`"


def fees_table() -> str:
    """Return a Markdown table of the fees per use."""
    rows = (
        (
            fee.provider,
            f"`{fee.unit}`",
            _models(fee.model),
            ("about " if fee.approximate else "")
            + f"${fee.usd}"
            + (f" for {fee.per:,}" if fee.per > 1 else ""),
            _source(fee.source, fee.as_of) + (f", until {fee.until}" if fee.until else ""),
        )
        for fee in FEES
    )
    return _table(("provider", "unit", "models", "price", "source"), rows)


def factors_table() -> str:
    """Return a Markdown table of the factors."""
    rows = (
        (
            factor.provider,
            factor.modifier,
            _models(factor.value) if factor.modifier != "batch" else _region(factor.region),
            _models(factor.model),
            f"`{factor.units}`" if factor.units else "all",
            factor.factor,
            _source(factor.source, factor.as_of),
        )
        for factor in FACTORS
    )
    return _table(("provider", "of", "value", "models", "rates", "factor", "source"), rows)


def corrections_table() -> str:
    """Return a Markdown table of the corrections."""
    rows = (
        (
            correction.provider,
            _models(correction.model),
            ", ".join(
                f"`{unit}` {usd if isinstance(usd, str) else f'{usd[0]} ({usd[2]} above {usd[1]:,} tokens)'}"
                for unit, usd in correction.usd_per_million.items()
            ),
            _source(correction.source, correction.as_of),
        )
        for correction in CORRECTIONS
    )
    return _table(("provider", "models", "USD per million", "source"), rows)


def aliases_table() -> str:
    """Return a Markdown table of the model names with the prices of other models."""
    rows = (
        (
            alias.provider,
            _models(alias.model),
            f"`{alias.listed_as}`" + (f" since {alias.since[:10]}" if alias.since else ""),
            _source(alias.source, alias.as_of),
        )
        for alias in ALIASES
    )
    return _table(("provider", "models", "priced as", "source"), rows)


def variables_table() -> str:
    """Return a Markdown table of the environment variables."""
    rows = ((f"`{variable.name}`", variable.readers, variable.meaning) for variable in VARIABLES)
    return _table(("variable", "read by", "meaning"), rows)


GENERATED = {
    METRICS_PAGE: {"metrics": metrics_table},
    ENVIRONMENT: {"variables": variables_table},
    PRICES: {
        "fees": fees_table,
        "factors": factors_table,
        "corrections": corrections_table,
        "aliases": aliases_table,
    },
}
"""The generated parts of each document, by name."""


def with_generated_parts(file: Path) -> str:
    """Return a document with current generated parts.

    Args:
        file: the document.

    Raises:
        ValueError: if the document has no place for a part.
    """
    text = file.read_text(encoding="utf-8")
    for name, generate in GENERATED[file].items():
        head, mark, rest = text.partition(f"<!-- generated: {name} -->\n")
        _, end, tail = rest.partition("<!-- end -->")
        if not mark or not end:
            raise ValueError(f"{file}: there is no place for {name}")
        text = f"{head}{mark}{generate()}\n{end}{tail}"
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
    files = {**{file: with_generated_parts(file) for file in GENERATED}, SCHEMA: schema()}
    if "--check" in sys.argv[1:]:
        return int(any(not file.exists() or file.read_text("utf-8") != text for file, text in files.items()))
    for file, text in files.items():
        file.write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
