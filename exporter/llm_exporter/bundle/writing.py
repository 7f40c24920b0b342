"""Write dashboards, rules and the files beside them to a directory."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Final, Literal, NamedTuple

from .dashboards import boards
from .dashboards.panels import Json
from .files import bundle
from .increases import render


class Target(NamedTuple):
    """Where the files will be used. An empty text stands for the default."""

    prometheus: str = ""
    """The URL at which Grafana reaches Prometheus; if empty, no data source is provisioned."""
    dashboards: str = ""
    """The directory of the dashboards as Grafana sees it; by default the one that they are written to."""
    grafana: str = ""
    """The URL that the links of alerts begin with; by default the external label `grafana_url`."""
    runbooks: str = ""
    """The URL of the published runbooks; by default the external label `runbooks_url`."""
    page: str = ""
    """The URL of the live page, for the links on dashboards; by default the external label `page_url`."""
    version: Literal["2", "3"] = "2"
    """The major version of Prometheus: 3 can compute the increase in a minute from fewer samples."""
    labels: tuple[str, ...] = ()
    """The declared labels that sums, dashboards and the texts of alerts have."""


def write(into: Path, target: Target) -> list[Path]:
    """Write dashboards, rules, provisioning, runbooks and examples for an existing Grafana and Prometheus.

    Args:
        into: The directory to write to. Existing files of the same names are replaced; others are kept.
        target: Where the files will be used.

    Returns:
        The files.

    Raises:
        OSError: The directory is not writable.
    """
    written = []
    for name, text in _texts(target).items():
        path = into / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(_adapted(text, into, target), encoding="utf-8")
        written.append(path)
    return written


def _texts(target: Target) -> dict[Path, str]:
    """Return the files by their path: those that we ship, and those that are generated."""
    files = {}
    for name, pattern in _FILES:
        if pattern == _DATA_SOURCE and not target.prometheus:
            continue
        source = bundle(name)
        for file in sorted(source.glob(pattern)):
            files[Path(name) / file.relative_to(source)] = file.read_text(encoding="utf-8")
    files[Path("prometheus/rules/increases.yml")] = render(int(target.version), target.labels)
    for board in boards(target.labels):
        files[Path(f"grafana/dashboards/{board['uid']}.json")] = as_json(board)
    return files


def as_json(board: Json) -> str:
    """Return the content of a dashboard's file."""
    return json.dumps(board, indent=2, sort_keys=True, ensure_ascii=False) + "\n"


_DATA_SOURCE: Final = "provisioning/datasources/*.yml"
_FILES: Final[tuple[tuple[Literal["docs", "grafana", "prometheus"], str], ...]] = (
    ("docs", "runbooks.md"),
    ("docs", "llm-exporter.example.yml"),
    ("docs", "llm-exporter.schema.json"),
    ("grafana", "provisioning/dashboards/*.yml"),
    ("grafana", _DATA_SOURCE),
    ("prometheus", "examples/*.yml"),
    ("prometheus", "rules/*.yml"),
    ("prometheus", "templates/*.tmpl"),
)
"""What is written and not generated. Of the rules, `increases.yml` is replaced."""


def _adapted(text: str, into: Path, target: Target) -> str:
    """Return one of our files as it is to be on the target."""
    dashboards = target.dashboards or str((into / "grafana" / "dashboards").absolute())
    # Quoted as JSON, which is valid YAML, because a path can contain any character.
    text = text.replace(" $LLM_EXPORTER_DASHBOARDS", f" {json.dumps(dashboards)}")
    text = text.replace(" $LLM_EXPORTER_PROMETHEUS_URL", f" {json.dumps(target.prometheus)}")
    # Grafana refuses to start with two default data sources, and the existing one is none of our business.
    text = text.replace("isDefault: true", "isDefault: false")
    text = _MODEL.sub(lambda named: named[0] + "".join(_of(label, named[0]) for label in target.labels), text)
    text = _EQUAL.sub(lambda rule: ", ".join([rule[0], *target.labels]), text)
    urls = {"grafana_url": target.grafana, "runbooks_url": target.runbooks, "page_url": target.page}
    for label, url in urls.items():
        if url:
            text = text.replace(f"{{{{ $externalLabels.{label} }}}}", url)
    if target.grafana and target.runbooks:
        text = _ABOUT_LINKS.sub("", text)
    return _OTHER_DOCUMENTS.sub(r"\1", text)


def _of(label: str, named: str) -> str:
    """Return what names a model, for another label."""
    return (
        named.replace("labels.model", f"labels.{label}")
        .replace("model:", f"{label}:")
        .replace("-model=", f"-{label}=")
    )


_MODEL: Final = re.compile(
    r"\{\{ with\s+\$labels\.model\s*\}\}(?:, model: |&var-model=)\{\{ \.[^}]*\}\}\{\{ end \}\}"
)
"""What names the model in the text or the link of an alert, if the alert has a model."""
_EQUAL: Final = re.compile(r"\bequal: \[alertname\b[^\]]*")
"""The labels that a critical alert and the warning that it inhibits share, without the closing bracket."""
_ABOUT_LINKS: Final = re.compile(r"(?:^#\n)?^# Links start with the external labels .*\n", re.MULTILINE)
"""What our rules say about the external labels that their links begin with."""
_OTHER_DOCUMENTS: Final = re.compile(r"\[([^\]\n]+)\]\(\w+\.md[^)\n]*\)")
"""A link to a document beside the runbooks, which is not part of what is written."""
