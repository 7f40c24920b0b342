"""The frame of a dashboard: layout, filters, alert annotations and links to the other dashboards."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence

from ..increases import CALLER, prefix
from . import links
from .panels import DATASOURCE, ERROR, Json, heading
from .queries import CALLS, equals, selector

# The version of Grafana 9.5. Newer versions migrate it when they load the dashboard.
SCHEMA_VERSION = 38

FIRING = 'ALERTS{alertstate="firing", alertname=~"(?i)llm.*", alertname!="LLMWatchdog", job=~"$job|"}'
"""Our firing alerts. LLMExporterAbsent has no job, and LLMWatchdog always fires."""


def filter_variable(label: str, previous: Iterable[str]) -> Json:
    """Return a multi-value filter for a label, with the values that the previous filters leave."""
    query = (
        f"label_values({prefix(CALLER, CALLS)}:increase{selector(previous, part=equals('today'))}, {label})"
    )
    return {
        # A pattern instead of Grafana's list of all values, which would make queries long with many agents
        # and would exclude series without the label.
        "allValue": ".*",
        "current": {"selected": True, "text": ["All"], "value": ["$__all"]},
        "datasource": DATASOURCE,
        "definition": query,
        "hide": 0,
        "includeAll": True,
        "label": heading(label),
        "multi": True,
        "name": label,
        "options": [],
        "query": {"query": query, "refId": "StandardVariableQuery"},
        "refresh": 2,  # on time range change, to list the agents of that range
        "regex": "",
        "skipUrlSync": False,
        "sort": 1,
        "type": "query",
    }


def arranged(sections: Mapping[str, Sequence[tuple[int, list[Json]]]]) -> Iterator[Json]:
    """Yield the panels of sections, and their headings, with ids and positions; see `dashboard`."""
    ids = itertools.count(1)
    y = 0
    for section, rows in sections.items():
        if section:
            place = {"h": 1, "w": 24, "x": 0, "y": y}
            row = {"collapsed": False, "gridPos": place, "panels": [], "title": section, "type": "row"}
            yield {**row, "id": next(ids)}
            y += 1
        for height, panels in rows:
            x = 0
            for each in panels:
                place = {"h": height, "w": each["gridPos"]["w"], "x": x, "y": y}
                yield {**each, "gridPos": place, "id": next(ids)}
                x += place["w"]
            y += height


def dashboard(
    uid: str,
    title: str,
    description: str,
    sections: Mapping[str, Sequence[tuple[int, list[Json]]]],
    *,
    filters: tuple[str, ...],
    since: str = "now-24h",
) -> Json:
    """Return a dashboard.

    Args:
        uid: what its URL ends with.
        title: its title.
        description: what it shows.
        sections: the rows of each section by its heading, under which it can be folded. Without a heading, it
            is always open. A row is a height and the panels that fill its 24 columns.
        filters: the labels to filter by.
        since: the start of the time range.
    """
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
                    "expr": f"{FIRING} unless {FIRING} offset $__interval",  # only the start of an alert
                    "hide": False,
                    "iconColor": ERROR,
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
        "graphTooltip": 1,  # shared crosshair
        "links": [
            {
                "asDropdown": True,
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
        "panels": list(arranged(sections)),
        "refresh": "1m",  # the interval at which sums are recorded
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
                *(filter_variable(label, filters[:n]) for n, label in enumerate(filters)),
                *(links.variable(name) for name in (links.PAGE, links.RUNBOOKS)),
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
