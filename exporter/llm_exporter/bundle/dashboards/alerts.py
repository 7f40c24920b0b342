"""The table of firing alerts: what each is about, since when, and where to look.

Prometheus keeps no annotations of alerts, so their dashboards and runbooks are read from the rules.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Mapping

import yaml

from ..files import bundle
from . import links
from .board import FIRING
from .panels import Json, override, table

TITLES = {
    "llm-cost": "Cost",
    "llm-agents": "Agents and phases",
    "llm-latency": "Latency and reliability",
    "llm-budgets": "Budgets",
    "llm-exporter": "Exporter health",
}
"""How the dashboards are called in the table."""


def dashboards() -> dict[str, list[str]]:
    """Return the names of the alerts by the uid of the dashboard that they link to."""
    names: dict[str, set[str]] = defaultdict(set)
    for file in sorted((bundle("prometheus") / "rules").glob("*.yml")):
        for group in yaml.safe_load(file.read_text(encoding="utf-8"))["groups"]:
            for rule in group["rules"]:
                if "alert" in rule:
                    (uid,) = re.findall(r"/d/([\w-]+)", rule["annotations"]["dashboard_url"])
                    names[uid].add(rule["alert"])
    return {uid: sorted(alerts) for uid, alerts in sorted(names.items())}


def since(boards: Mapping[str, list[str]], declared: tuple[str, ...]) -> str:
    """Return the query for the time at which each firing alert began, in milliseconds."""
    # What an alert is about.
    subject = ("budget", "threshold", "provider", "model", "agent", "phase", *declared, "instance")
    labels = ", ".join(f'"{label}"' for label in subject)
    # ALERTS_FOR_STATE is the time at which the alert became pending, for each alert, whether it fires or not.
    expr = FIRING.replace('ALERTS{alertstate="firing", ', "ALERTS_FOR_STATE{")
    expr = f'label_join({expr} and ignoring (alertstate) {FIRING}, "subject", " ", {labels})'
    expr = f'label_replace({expr}, "subject", "$1", "subject", " *(.*?) *")'
    expr = f'label_replace({expr}, "runbook", "$1", "alertname", "(.*)")'
    for uid, alerts in boards.items():
        expr = f'label_replace({expr}, "dashboard", "{uid}", "alertname", "{"|".join(alerts)}")'
    none = 'label_replace(vector(0), "alertname", "none", "", "")'
    return f"1000 * max by (alertname, severity, subject, dashboard, runbook) ({expr}) or on () {none}"


def firing(declared: tuple[str, ...]) -> Json:
    """Return the table."""
    boards = dashboards()
    names = sorted({name for alerts in boards.values() for name in alerts})
    return table(
        "Alert list",
        "Alerts about LLM calls that are firing now, since when their condition is true, and where to look. "
        "Alertmanager shows who was notified.",
        {
            "alertname": "Alert",
            "severity": "Severity",
            "subject": "Subject",
            "dashboard": "Dashboard",
            "runbook": "Runbook",
        },
        {"Since": since(boards, declared)},
        overrides=[
            override("Since", unit="dateTimeFromNow", mappings=[text_of({"0": "-"})], custom__minWidth=130),
            override(
                "Dashboard",
                mappings=[text_of(TITLES)],
                links=[links.filtered(links.CELL, "Dashboard", {}, ["job"])],
            ),
            override(
                "Runbook",
                # The sections of the runbooks have anchors in lower case.
                mappings=[text_of({name: name.lower() for name in names})],
                links=[
                    links.link(
                        "Runbook", f"${{{links.RUNBOOKS}:raw}}#${{__value.text:percentencode}}", new_tab=True
                    )
                ],
            ),
        ],
    )


def text_of(texts: Mapping[str, str]) -> Json:
    """Return a mapping that shows values as texts."""
    return {"type": "value", "options": {value: {"text": text} for value, text in texts.items()}}
