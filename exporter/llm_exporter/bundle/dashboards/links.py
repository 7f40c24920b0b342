"""Links of bars and table cells: to a dashboard that is filtered by a value, and to the calls behind it.

A value is the Grafana variable that holds it: `label_of_bar`, `CELL` or `cell_of`. They are percent-encoded,
so that an agent called `R&D` is one value.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from .panels import DATASOURCE, Json, listed
from .queries import BUILT_IN

CELL = "${__value.raw:percentencode}"
"""The value of the cell that is clicked."""

PAGE, RUNBOOKS = "page", "runbooks"
"""Hidden variables: the URLs of the live page and of the runbooks, from the labels of LLMWatchdog."""


def label_of_bar(label: str) -> str:
    """Return the variable that holds a label of the bar that is clicked."""
    return f"${{__field.labels.{label}:percentencode}}"


def cell_of(heading: str) -> str:
    """Return the variable that holds the cell of a column in the row that is clicked."""
    return f"${{__data.fields.{heading}:percentencode}}"


def link(title: str, url: str, *, new_tab: bool = False) -> Json:
    """Return a data link."""
    return {"targetBlank": new_tab, "title": title, "url": url}


def filtered(uid: str, title: str, values: Mapping[str, str], filters: Iterable[str]) -> Json:
    """Return a link to a dashboard with these values of labels; its other filters and the time range stay.

    Args:
        uid: the dashboard.
        title: the title of the link.
        values: the value of each label.
        filters: the labels that both dashboards are filtered by.
    """
    kept = ["datasource", *(label for label in filters if label not in values)]
    query = [
        *(f"var-{label}={value}" for label, value in values.items()),
        "${__url_time_range}",
        *(f"${{{name}:queryparam}}" for name in kept),
    ]
    return link(title, f"/d/{uid}?{'&'.join(query)}")


def calls(values: Mapping[str, str], *, failed: bool = False) -> Json:
    """Return a link to the calls with these values of labels, in the same time range, on the live page."""
    query = [
        *(f"{label if label in BUILT_IN else f'label.{label}'}={value}" for label, value in values.items()),
        "since=${__from}",
        "until=${__to}",
        *(["failed=true"] if failed else []),
    ]
    title = "Failed calls on the live page" if failed else "Calls on the live page"
    return link(title, f"${{{PAGE}:raw}}/?{'&'.join(query)}", new_tab=True)


def of_bar(uid: str, label: str, filters: Iterable[str], *, failed: bool = False) -> list[Json]:
    """Return the links of a bar: filter its dashboard by the label, agents' details, and the calls."""
    value = {label: label_of_bar(label)}
    details = (
        [agent_details(label_of_bar(label), filters)] if label == "agent" and uid != "llm-agents" else []
    )
    return [
        filtered(uid, f"Show this {listed([label])} only", value, filters),
        *details,
        calls(value, failed=failed),
    ]


def agent_details(value: str, filters: Iterable[str]) -> Json:
    """Return a link to the dashboard of agents, filtered by an agent."""
    return filtered("llm-agents", "Agent details", {"agent": value}, filters)


def variable(name: str) -> Json:
    """Return a hidden variable with the value of a label of LLMWatchdog, which always fires."""
    query = f'label_values(ALERTS{{alertname="LLMWatchdog"}}, {name})'
    return {
        "current": {},
        "datasource": DATASOURCE,
        "definition": query,
        "hide": 2,  # the variable
        "includeAll": False,
        "multi": False,
        "name": name,
        "options": [],
        "query": {"query": query, "refId": "StandardVariableQuery"},
        "refresh": 1,  # when the dashboard is loaded
        "regex": "",
        "skipUrlSync": True,
        "sort": 0,
        "type": "query",
    }
