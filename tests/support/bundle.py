"""Shared by the tests of the dashboards, rules and compose files."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from typing import Any

import yaml

from llm_exporter.bundle.increases import render
from llm_exporter.metrics.specs import METRICS
from tools import binaries

REPOSITORY = Path(__file__).parents[2]
GRAFANA = REPOSITORY / "grafana"
PROMETHEUS = REPOSITORY / "prometheus"

Json = dict[str, Any]

COMPOSE: Json = yaml.safe_load((REPOSITORY / "docker-compose.yml").read_text())


def run(program: str, *arguments: str | Path) -> str:
    """Return the output of promtool or amtool; fail, never skip, if it is missing or exits with an error."""
    found = binaries.find(program)
    command = [str(found), *map(str, arguments)]
    done = subprocess.run(
        command, cwd=found.parents[1], check=False, capture_output=True, text=True, timeout=600
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def exported_series(declared: tuple[str, ...] = ()) -> dict[str, set[str]]:
    """Return the labels of each exported series, by name, with the declared ones."""
    series: dict[str, set[str]] = {}
    for spec in METRICS:
        labels = {*spec.labels, "job", "instance", *(declared if spec.has_call_labels else ())}
        if spec.type == "histogram":
            series |= {f"{spec.name}_sum": labels, f"{spec.name}_count": labels}
            series[f"{spec.name}_bucket"] = {*labels, "le"}
            series[spec.name] = labels  # the native histogram
        else:
            series[spec.name] = labels
    # Budgets and thresholds also have the labels that they match.
    matched = {"provider", "model", "agent", "phase", *declared}
    for name in series:
        if name.startswith(("llm_budget_limit", "llm_budget_spent", "llm_cost_threshold")):
            series[name] |= matched
    return series | FROM_PROMETHEUS


ALERT_LABELS = {
    *(
        "alertname",
        "severity",
        "job",
        "instance",
        "provider",
        "model",
        "agent",
        "phase",
        "budget",
        "threshold",
    ),
    *("page", "runbooks"),
}
FROM_PROMETHEUS = {
    **{key: {"job", "instance"} for key in ("up", "scrape_duration_seconds", "scrape_samples_scraped")},
    "ALERTS": {"alertstate", *ALERT_LABELS},
    "ALERTS_FOR_STATE": ALERT_LABELS,
}
"""The labels of the series that Prometheus itself adds, by name."""


def rules(declared: tuple[str, ...] = ()) -> list[Json]:
    """Return the recording and alerting rules of all files, whose sums have the declared labels."""
    texts = {file.name: file.read_text() for file in sorted((PROMETHEUS / "rules").glob("*.yml"))}
    texts["increases.yml"] = render(2, declared)
    groups = [group for text in texts.values() for group in yaml.safe_load(text)["groups"]]
    return [rule for group in groups for rule in group["rules"]]


def recorded_series(declared: tuple[str, ...] = ()) -> dict[str, set[str]]:
    """Return the labels of each recorded series, by name: those in its level, and those its rule adds."""
    exported = exported_series(declared).values()
    labels = sorted({label for names in exported for label in names}, key=len, reverse=True)
    return {
        rule["record"]: set(re.findall("|".join(labels), rule["record"].split(":")[0]))
        | RULE_LABELS.get(rule["record"].rpartition(":")[2], set())
        | ({*BUDGET_LABELS, *declared} if rule["record"].startswith("llm:budget_") else set())
        | ({*declared} if "model_agent_phase" in rule["record"] else set())
        for rule in rules(declared)
        if "record" in rule
    }


SERIES = r"(?:\w+:)?llm_\w+(?::\w+)?|llm:\w+:\w+|up|scrape_\w+|ALERTS_FOR_STATE|ALERTS"
RULE_LABELS = {"increase": {"part"}, "increase1m": {"day", "waiting"}}
"""The labels that rules add to a recorded series, by the last part of its name."""
BUDGET_LABELS = {"job", "budget", "period", "unit", "provider", "model", "agent", "phase"}
"""The labels of what is recorded about budgets: those of the gauges, without `instance`, and the unit."""


def unknown_names(expr: str, known: dict[str, set[str]]) -> set[str]:
    """Return the metrics and labels in a query that are not in `known`."""
    made = set(re.findall(r'(?:count_values \(|, )"(\w+)"', expr))
    expr = re.sub(r'"[^"]*"', '""', expr)
    selectors = re.findall(rf"\b({SERIES})\s*(?:\{{([^}}]*)\}})?", expr)
    unknown = {name for name, _ in selectors if name not in known}
    made.add("pod")  # Kubernetes adds it to every series of a target
    available = made.union(*(known.get(name, set()) for name, _ in selectors))
    for name, matchers in selectors:
        unknown |= set(re.findall(r"(\w+)\s*(?:=~|!~|!=|=)", matchers)) - known.get(name, set())
    for grouping in re.findall(r"\b(?:by|without|on|ignoring|group_left|group_right)\s*\(([^)]*)\)", expr):
        unknown |= set(re.findall(r"\w+", grouping)) - available
    return unknown


def rewrite(file: Path, *changes: tuple[str, str]) -> None:
    """Edit a copy of one of our files. Each text to replace must occur."""
    text = file.read_text()
    for old, new in changes:
        assert old in text
        text = text.replace(old, new)
    file.write_text(text)
