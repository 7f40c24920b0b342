"""The panels that the dashboards are made of, as plain data.

A colour means one thing on every dashboard: green is dollars, blue is work (calls, tokens, seconds), orange
is a warning, red is failure and limits. Models, phases and token types have theirs in the order of names.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from grafana.queries import FILTERS, first_quarter, per_step

Json = dict[str, Any]

DOLLARS, WORK, WARNING, FAILURE = "green", "blue", "orange", "red"

PLUGIN_VERSION = "9.5.0"
DATASOURCE: Json = {"type": "prometheus", "uid": "${datasource}"}


def target(
    expr: str, legend: str, *, instant: bool = False, table: bool = False, heatmap: bool = False
) -> Json:
    """Return a query; `panel` gives it its refId. A legend is a template over labels: `{{model}}`."""
    return {
        "datasource": DATASOURCE,
        "editorMode": "code",
        "expr": expr,
        "format": "table" if table else "heatmap" if heatmap else "time_series",
        "instant": instant,
        "legendFormat": legend,
        "range": not instant,
    }


def panel(
    kind: str,
    title: str,
    description: str,
    targets: Iterable[Json],
    *,
    width: int,
    unit: str,
    color: Json,
    options: Json,
    custom: Json | None = None,
    defaults: Json | None = None,
    overrides: Iterable[Json] = (),
    transformations: Iterable[Json] = (),
    **others: Any,
) -> Json:
    """Return a panel without its place; `dashboard` lays panels out by their width (of 24 columns)."""
    return {
        "datasource": DATASOURCE,
        "description": description,
        "fieldConfig": {
            "defaults": {"color": color, "custom": custom or {}, "min": 0, "unit": unit, **(defaults or {})},
            "overrides": list(overrides),
        },
        "gridPos": {"w": width},
        "options": options,
        "pluginVersion": PLUGIN_VERSION,
        "targets": [{**each, "refId": chr(ord("A") + n)} for n, each in enumerate(targets)],
        "title": title,
        "transformations": list(transformations),
        "type": kind,
        **others,
    }


def fixed(color: str) -> Json:
    """Return the colour mode that paints every series alike."""
    return {"fixedColor": color, "mode": "fixed"}


def steps(*colors: tuple[float | None, str]) -> Json:
    """Return field options that colour values from a number on: grey text up to the first."""
    marks = [{"color": color, "value": value} for value, color in colors]
    return {"thresholds": {"mode": "absolute", "steps": [{"color": "text", "value": None}, *marks]}}


BY_VALUE: Json = {"mode": "thresholds"}
FAILING = steps((0.01, WARNING), (0.05, FAILURE))
"""Of calls that failed: over 1 % look, over 5 % users notice."""


def named(field: str, **properties: object) -> Json:
    """Return an override of one field's properties; a double underscore in a name stands for its dot."""
    return _override("byName", field, properties)


def matching(pattern: str, **properties: object) -> Json:
    """Return an override of the properties of fields whose names match; see `named`."""
    return _override("byRegexp", f"/{pattern}/", properties)


def _override(by: str, options: str, properties: Mapping[str, object]) -> Json:
    return {
        "matcher": {"id": by, "options": options},
        "properties": [{"id": name.replace("__", "."), "value": value} for name, value in properties.items()],
    }


LIMIT = {
    "color": fixed(FAILURE),
    "custom__lineStyle": {"dash": [10, 10], "fill": "dash"},
    "custom__fillOpacity": 0,
    "custom__lineWidth": 2,
    "custom__stacking": {"group": False, "mode": "none"},
}
"""How a limit is drawn on a graph: a dashed red line, in no stack."""


def stat(
    title: str,
    description: str,
    expr: str,
    *,
    unit: str,
    color: Json,
    width: int = 3,
    since: str = "",
    defaults: Json | None = None,
) -> Json:
    """Return one big number; eight of them make a row.

    Args:
        since: what the number is of where it is not the dashboard's time range: `now/d` is today so far.
    """
    others: Json = {"timeFrom": since, "hideTimeOverride": True} if since else {}
    return panel(
        "stat",
        title,
        description,
        [target(expr, title, instant=True)],
        width=width,
        unit=unit,
        color=color,
        defaults=defaults,
        options={
            "colorMode": "value",
            "graphMode": "none",
            "justifyMode": "center",
            "orientation": "auto",
            "reduceOptions": {"calcs": ["lastNotNull"], "fields": "", "values": False},
            "text": {"valueSize": 32},
            "textMode": "value",
        },
        **others,
    )


def lines(
    title: str,
    description: str,
    targets: Iterable[Json],
    *,
    width: int,
    unit: str,
    axis: str = "",
    stacked: bool = False,
    steps: bool = False,
    defaults: Json | None = None,
    overrides: Iterable[Json] = (),
    legend: str = "bottom",
    calcs: tuple[str, ...] = ("mean", "max"),
    **others: Any,
) -> Json:
    """Return a graph over time, the largest on top of its legend; stacked where the sum means something."""
    return panel(
        "timeseries",
        title,
        description,
        targets,
        width=width,
        unit=unit,
        color={"mode": "palette-classic"},
        custom={
            "axisLabel": axis,
            "drawStyle": "line",
            "fillOpacity": 60 if steps else 30 if stacked else 5,
            # What is drawn in steps is a sum over the time before each point.
            "lineInterpolation": "stepBefore" if steps else "linear",
            "lineWidth": 1,
            "showPoints": "auto",
            "spanNulls": False,
            "stacking": {"group": "A", "mode": "normal" if stacked else "none"},
        },
        defaults=defaults,
        overrides=overrides,
        options={
            "legend": {
                "calcs": list(calcs),
                "displayMode": "table",
                "placement": legend,
                "showLegend": True,
                "sortBy": {"mean": "Mean", "sum": "Total", "lastNotNull": "Last *"}[calcs[0]],
                "sortDesc": True,
            },
            "tooltip": {"mode": "multi", "sort": "desc"},
        },
        **others,
    )


def by_quarter(
    title: str,
    description: str,
    metric: str,
    by: str,
    *,
    width: int,
    unit: str,
    limits: Iterable[Json] = (),
    filters: Iterable[str] = FILTERS,
) -> Json:
    """Return a graph of what was added to a recorded sum, as so much an hour, stacked by a label."""
    pace = f"{per_step(metric, by, filters)} * 3600000 / $__interval_ms"
    return lines(
        title,
        description,
        [
            target(pace, f"{{{{{by}}}}}"),
            target(f"4 * ({first_quarter(metric, by, filters)})", f"{{{{{by}}}}}", instant=True),
            *limits,
        ],
        width=width,
        unit=unit,
        axis="an hour",
        stacked=True,
        steps=True,
        interval="15m",
        maxDataPoints=180,
        overrides=[matching("^threshold", **LIMIT)],
    )


def bars(
    title: str,
    description: str,
    expr: str,
    legend: str,
    *,
    width: int,
    unit: str,
    color: Json,
    links: Iterable[Json] = (),
    defaults: Json | None = None,
) -> Json:
    """Return bars of one instant query's series, in the order the query sorts them."""
    return panel(
        "bargauge",
        title,
        description,
        [target(expr, legend, instant=True)],
        width=width,
        unit=unit,
        color=color,
        # Named by itself, or Grafana leaves the name of an only bar out.
        defaults={"displayName": "${__series.name}", "links": list(links), **(defaults or {})},
        options={
            "displayMode": "basic",
            "minVizHeight": 16,
            "minVizWidth": 0,
            "orientation": "horizontal",
            "reduceOptions": {"calcs": ["lastNotNull"], "fields": "", "values": False},
            "showUnfilled": False,
            "text": {"titleSize": 13, "valueSize": 14},
            "valueMode": "color",
        },
    )


def table(
    title: str,
    description: str,
    labels: Mapping[str, str],
    columns: Mapping[str, str],
    *,
    width: int = 24,
    overrides: Iterable[Json] = (),
    ratio: tuple[str, str, str] | None = None,
    sort: str = "",
    totals: Iterable[str] = (),
) -> Json:
    """Return a table of one row for each combination of labels.

    Args:
        labels: the labels and their headings.
        columns: the headings of the numbers and their queries.
        ratio: the heading of one more column, and those of the two whose ratio it is, worked out by Grafana.
        sort: the heading that the rows are sorted by, the largest first.
        totals: the headings of the numbers that add up.
    """
    values = {f"Value #{chr(ord('A') + n)}": name for n, name in enumerate(columns)}
    if len(columns) == 1:
        values |= dict.fromkeys(["Value"], *columns)  # Grafana numbers the columns of several queries only
    ratios = []
    if ratio:
        name, *of = ratio
        left, right = (key for heading in of for key, value in values.items() if value == heading)
        binary = {"left": left, "operator": "/", "right": right, "reducer": "sum"}
        ratios = [{"id": "calculateField", "options": {"alias": name, "binary": binary, "mode": "binary"}}]
        values[name] = name
    # Grafana 9.5 goes by the names before the renaming, later ones by those after it.
    added = [name for pair in values.items() if pair[1] in set(totals) for name in pair]
    return panel(
        "table",
        title,
        description,
        [target(expr, name, instant=True, table=True) for name, expr in columns.items()],
        width=width,
        unit="short",
        color=BY_VALUE,
        custom={"align": "auto", "cellOptions": {"type": "auto"}, "minWidth": 70},
        defaults=steps(),
        overrides=overrides,
        transformations=[
            {"id": "merge", "options": {}},
            *ratios,
            {
                "id": "organize",
                "options": {
                    "excludeByName": {"Time": True},
                    "indexByName": {name: n for n, name in enumerate([*labels, *values])},
                    "renameByName": {**labels, **values},
                },
            },
        ],
        options={
            "cellHeight": "sm",
            "footer": {"countRows": False, "fields": added, "reducer": ["sum"], "show": bool(added)},
            "showHeader": True,
            "sortBy": [{"desc": True, "displayName": sort or next(iter(columns))}],
        },
    )


MONEY = {
    "unit": "currencyUSD",
    "decimals": 2,
    "color": fixed(DOLLARS),
    "custom__cellOptions": {"type": "color-text"},
}
"""How dollars look in a table."""
SHARE_FAILED = {
    "unit": "percentunit",
    "decimals": 1,
    "color": BY_VALUE,
    "custom__cellOptions": {"type": "color-text"},
    **FAILING,
}
"""How the share of failed calls looks in a table."""


def to_agents(value: str) -> Json:
    """Return a link to the dashboard of agents, for the one of a value: a template of Grafana's."""
    return {
        "targetBlank": False,
        "title": "What this agent does",
        "url": f"/d/llm-agents?var-agent={value}"
        "&${__url_time_range}&${datasource:queryparam}&${job:queryparam}",
    }
