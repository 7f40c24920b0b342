"""What the tests of the dashboards and rules share: the files, the names in them, and real programs."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from typing import Any

import yaml

from llm_exporter.metrics.specs import METRICS
from tools import binaries

REPOSITORY = Path(__file__).parents[2]
GRAFANA = REPOSITORY / "grafana"
PROMETHEUS = REPOSITORY / "prometheus"

Json = dict[str, Any]


def run(program: str, *arguments: str | Path) -> str:
    """Return what a real program says; where it cannot be had the test fails, it is never skipped."""
    found = binaries.find(program)
    command = [str(found), *map(str, arguments)]
    done = subprocess.run(
        command, cwd=found.parents[1], check=False, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def exported_names() -> dict[str, set[str]]:
    """Return each series that the code exports, with the labels it has in Prometheus."""
    series: dict[str, set[str]] = {}
    for spec in METRICS:
        labels = {*spec.labels, "job", "instance"}
        if spec.type == "histogram":
            series |= {f"{spec.name}_sum": labels, f"{spec.name}_count": labels}
            series[f"{spec.name}_bucket"] = {*labels, "le"}
        else:
            series[spec.name] = labels
    matched = {"provider", "model", "agent", "phase"}  # a budget's and a threshold's further labels
    for name in series:
        if name.startswith(("llm_budget_limit", "llm_budget_spent", "llm_cost_threshold")):
            series[name] |= matched
    return series | FROM_PROMETHEUS


FROM_PROMETHEUS = {
    **{key: {"job", "instance"} for key in ("up", "scrape_duration_seconds", "scrape_samples_scraped")},
    "ALERTS": {"alertname", "alertstate", "severity", "job", "provider", "model", "agent", "phase", "budget"},
}
"""Series of its own, and those of alerts, which have the labels of what they are about."""


def rules() -> list[Json]:
    """Return the recording and alerting rules of all files."""
    files = sorted((PROMETHEUS / "rules").glob("*.yml"))
    groups = [group for file in files for group in yaml.safe_load(file.read_text())["groups"]]
    return [rule for group in groups for rule in group["rules"]]


def recorded_names() -> dict[str, set[str]]:
    """Return each recorded series, with the labels that its level promises."""
    labels = sorted({label for names in exported_names().values() for label in names}, key=len, reverse=True)
    return {
        rule["record"]: set(re.findall("|".join(labels), rule["record"].split(":")[0]))
        | FIXED.get(rule["record"].rpartition(":")[2], set())
        for rule in rules()
        if "record" in rule
    }


SERIES = r"(?:\w+:)?llm_\w+(?::\w+)?|llm:\w+:\w+|up|scrape_\w+|ALERTS"
FIXED = {"increase": {"part"}, "increase1m": {"day"}}
"""The labels that rules give to what they record, by its operation."""


def unknown_names(expr: str, known: dict[str, set[str]]) -> set[str]:
    """Return the metrics and labels of a query that are not in `known`."""
    made = set(re.findall(r'count_values \("(\w+)"', expr))
    expr = re.sub(r'"[^"]*"', '""', expr)
    selectors = re.findall(rf"\b({SERIES})\s*(?:\{{([^}}]*)\}})?", expr)
    unknown = {name for name, _ in selectors if name not in known}
    available = made.union(*(known.get(name, set()) for name, _ in selectors))
    for name, matchers in selectors:
        unknown |= set(re.findall(r"(\w+)\s*(?:=~|!~|!=|=)", matchers)) - known.get(name, set())
    for grouping in re.findall(r"\b(?:by|without|on|ignoring|group_left|group_right)\s*\(([^)]*)\)", expr):
        unknown |= set(re.findall(r"\w+", grouping)) - available
    return unknown
