"""A dashboard around its panels: their places, its filters, its alerts and its links to the others."""

from __future__ import annotations

from collections.abc import Iterable

from grafana.panels import DATASOURCE, FAILURE, Json
from grafana.queries import CALLS, FILTERS, equals, selector
from prometheus.increases import CALLER, prefix

# What Grafana 9.5 writes; newer Grafanas bring it up to date as they load it.
SCHEMA_VERSION = 38

FIRING = 'ALERTS{alertstate="firing", alertname=~"(?i)llm.*", job=~"$job|"}'
"""The alerts of ours that are firing; some are of no job."""


def variable(label: str, chain: Iterable[str]) -> Json:
    """Return a multi-value filter over a label, offering what the filters before it leave."""
    query = f"label_values({prefix(CALLER, CALLS)}:increase{selector(chain, part=equals('today'))}, {label})"
    return {
        # Not the list of all values, which Grafana would write out: the query stays short however many agents
        # there are, and a series without the label is still in.
        "allValue": ".*",
        "current": {"selected": True, "text": ["All"], "value": ["$__all"]},
        "datasource": DATASOURCE,
        "definition": query,
        "hide": 0,
        "includeAll": True,
        "label": label.capitalize(),
        "multi": True,
        "name": label,
        "options": [],
        "query": {"query": query, "refId": "StandardVariableQuery"},
        "refresh": 2,  # when the time range changes: an agent of last week is offered last week
        "regex": "",
        "skipUrlSync": False,
        "sort": 1,
        "type": "query",
    }


def dashboard(
    uid: str,
    title: str,
    description: str,
    rows: Iterable[tuple[int, list[Json]]],
    *,
    filters: tuple[str, ...] = FILTERS,
    since: str = "now-24h",
) -> Json:
    """Return a dashboard of rows, each a height and panels that fill its 24 columns."""
    panels: list[Json] = []
    y = 0
    for height, row in rows:
        x = 0
        for each in row:
            place = {"h": height, "w": each["gridPos"]["w"], "x": x, "y": y}
            panels.append({**each, "gridPos": place, "id": len(panels) + 1})
            x += place["w"]
        y += height
    return {
        "annotations": {
            "list": [
                {
                    "builtIn": 1,
                    "datasource": {"type": "grafana", "uid": "-- Grafana --"},
                    "enable": True,
                    "hide": True,
                    "iconColor": "rgba(0, 211, 255, 1)",
                    "name": "Annotations & Alerts",
                    "type": "dashboard",
                },
                {
                    "datasource": DATASOURCE,
                    "enable": True,
                    "expr": f"{FIRING} unless {FIRING} offset $__interval",  # when it began
                    "hide": False,
                    "iconColor": FAILURE,
                    "name": "Alerts",
                    "step": "60s",
                    "tagKeys": "severity",
                    "textFormat": "{{severity}} {{agent}} {{model}}",
                    "titleFormat": "{{alertname}}",
                },
            ]
        },
        "description": description,
        "editable": False,
        "fiscalYearStartMonth": 0,
        "graphTooltip": 1,  # one crosshair over all panels
        "links": [
            {
                "asDropdown": False,
                "icon": "external link",
                "includeVars": True,
                "keepTime": True,
                "tags": ["llm-exporter"],
                "targetBlank": False,
                "title": "LLM dashboards",
                "tooltip": "",
                "type": "dashboards",
                "url": "",
            }
        ],
        "liveNow": False,
        "panels": panels,
        "refresh": "1m",  # as often as the sums are recorded
        "schemaVersion": SCHEMA_VERSION,
        "tags": ["llm", "llm-exporter"],
        "templating": {
            "list": [
                {
                    "current": {},  # Grafana's default Prometheus
                    "hide": 0,
                    "includeAll": False,
                    "label": "Data source",
                    "multi": False,
                    "name": "datasource",
                    "options": [],
                    "query": "prometheus",
                    "refresh": 1,
                    "regex": "",
                    "skipUrlSync": False,
                    "type": "datasource",
                },
                *(variable(label, filters[:n]) for n, label in enumerate(filters)),
            ]
        },
        "time": {"from": since, "to": "now"},
        "timepicker": {},
        "timezone": "browser",
        "title": title,
        "uid": uid,
        "version": 1,
        "weekStart": "",
    }
