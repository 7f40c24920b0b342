"""The panels of the dashboards, as plain data.

A color has the same meaning on every dashboard: green for costs, blue for calls, tokens and durations, orange
for warnings, red for errors and limits. Grafana's palette colors models, agents, phases and token types.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from .queries import Queries

Json = dict[str, Any]

DOLLARS, WORK, WARNING, ERROR = "green", "blue", "orange", "red"

USD = "currency:financial:$"
"""The unit of amounts: all digits, because `currencyUSD` shows $3,528.74 as $3.53K. Cents need `decimals`."""

PLUGIN_VERSION = "9.5.0"
DATASOURCE: Json = {"type": "prometheus", "uid": "${datasource}"}


def target(
    expr: str, text: str, *, instant: bool = False, table: bool = False, heatmap: bool = False
) -> Json:
    """Return a query without its refId, which `panel` adds. `text` is a template such as `{{model}}`."""
    return {
        "datasource": DATASOURCE,
        "editorMode": "code",
        "expr": expr,
        "format": "table" if table else "heatmap" if heatmap else "time_series",
        "instant": instant,
        "legendFormat": text,
        "range": not instant,
    }


def exemplars(series: str) -> Json:
    """Return a query for the exemplars of raw series, which has no values itself.

    Recorded series have no exemplars. At time 0 there are no samples, so that nothing is read but exemplars.
    """
    return {**target(f"{series} @ 0", "exemplars"), "exemplar": True}


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
    """Return a panel without its position; `dashboard` arranges panels by their width (of 24 columns)."""
    base = {"color": color, "custom": custom or {}, "min": 0, "unit": unit}
    cents = {"decimals": 2} if unit == USD else {}
    return {
        "datasource": DATASOURCE,
        "description": description,
        "fieldConfig": {
            "defaults": {**base, **cents, **(defaults or {})},
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


def fixed_color(color: str) -> Json:
    """Return the color mode that uses one color for all series."""
    return {"fixedColor": color, "mode": "fixed"}


def color_thresholds(*colors: tuple[float | None, str]) -> Json:
    """Return field options with color thresholds; values below the first one have the text color."""
    marks = [{"color": color, "value": value} for value, color in colors]
    return {"thresholds": {"mode": "absolute", "steps": [{"color": "text", "value": None}, *marks]}}


BY_VALUE: Json = {"mode": "thresholds"}
ERROR_RATE_THRESHOLDS = color_thresholds((0.01, WARNING), (0.05, ERROR))
"""The color thresholds of error rates: 1 % needs a look, and users notice 5 %."""


def override(field: str, **properties: object) -> Json:
    """Return an override of a field's properties; `__` in a property name stands for a dot."""
    return _override("byName", field, properties)


def override_matching(pattern: str, **properties: object) -> Json:
    """Return an override of the properties of fields whose names match a pattern; see `override`."""
    return _override("byRegexp", f"/{pattern}/", properties)


def _override(by: str, options: str, properties: Mapping[str, object]) -> Json:
    return {
        "matcher": {"id": by, "options": options},
        "properties": [{"id": name.replace("__", "."), "value": value} for name, value in properties.items()],
    }


LIMIT = {
    "color": fixed_color(ERROR),
    "custom__lineStyle": {"dash": [10, 10], "fill": "dash"},
    "custom__fillOpacity": 0,
    "custom__lineWidth": 2,
    "custom__stacking": {"group": False, "mode": "none"},
}
"""The properties of a limit on a graph: a dashed red line that is not stacked."""


def stat(
    title: str,
    description: str,
    expr: str,
    *,
    unit: str,
    color: Json,
    width: int = 6,
    since: str = "",
    defaults: Json | None = None,
) -> Json:
    """Return a single number.

    Args:
        since: the start of the number's time range, such as `now/d`; by default that of the dashboard.
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


def graph(
    title: str,
    description: str,
    targets: Iterable[Json],
    *,
    width: int,
    unit: str,
    axis: str = "",
    stacked: bool = False,
    stepped: bool = False,
    defaults: Json | None = None,
    overrides: Iterable[Json] = (),
    calcs: tuple[str, ...] = ("mean", "max"),
    **others: Any,
) -> Json:
    """Return a time series graph with a sorted legend; stack series whose sum is meaningful."""
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
            "fillOpacity": 60 if stepped else 30 if stacked else 5,
            # A step shows the sum over the time before each point.
            "lineInterpolation": "stepBefore" if stepped else "linear",
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
                "placement": "bottom",
                "showLegend": True,
                "sortBy": {"mean": "Mean", "sum": "Total", "lastNotNull": "Last *"}[calcs[0]],
                "sortDesc": True,
            },
            "tooltip": {"mode": "multi", "sort": "desc"},
        },
        **others,
    )


def heading(label: str) -> str:
    """Return the heading of a label: `Cost center` for `cost_center`."""
    return label.replace("_", " ").strip().capitalize()


def listed(labels: Iterable[str]) -> str:
    """Return labels as a list in a sentence: `provider, model and phase`."""
    *first, last = (label.replace("_", " ").strip() for label in labels)
    return f"{', '.join(first)} and {last}" if first else last


def legend(label: str) -> str:
    """Return the legend of a query by a label."""
    return f"{{{{{label}}}}}"


def hourly_graph(
    title: str,
    description: str,
    metric: str,
    by: str,
    *,
    width: int,
    unit: str,
    queries: Queries,
    limits: Iterable[Json] = (),
) -> Json:
    """Return a graph of a recorded sum per hour, stacked by a label."""
    hourly = f"{queries.per_step(metric, by)} * 3600000 / $__interval_ms"
    return graph(
        title,
        description,
        [
            target(hourly, legend(by)),
            target(f"4 * ({queries.first_quarter(metric, by)})", legend(by), instant=True),
            *limits,
        ],
        width=width,
        unit=unit,
        axis="per hour",
        stacked=True,
        stepped=True,
        interval="15m",
        maxDataPoints=180,
        overrides=[override_matching("^threshold", **LIMIT)],
    )


def bars(
    title: str,
    description: str,
    expr: str,
    text: str,
    *,
    width: int,
    unit: str,
    color: Json,
    links: Iterable[Json] = (),
    defaults: Json | None = None,
) -> Json:
    """Return a bar gauge of an instant query, in the order of its result."""
    return panel(
        "bargauge",
        title,
        description,
        [target(expr, text, instant=True)],
        width=width,
        unit=unit,
        color=color,
        # Explicit, because Grafana omits the name of a single bar.
        defaults={"displayName": "${__series.name}", "links": list(links), **(defaults or {})},
        options={
            "displayMode": "basic",
            "maxVizHeight": 36,
            "minVizHeight": 36,  # the name, and the bar below it
            "minVizWidth": 0,
            "namePlacement": "top",  # Grafana 9.5 leaves less room for the bar, and cuts long names
            "orientation": "horizontal",
            "reduceOptions": {"calcs": ["lastNotNull"], "fields": "", "values": False},
            "showUnfilled": False,
            "sizing": "manual",
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
    totals: Iterable[str] = (),
) -> Json:
    """Return a table with one row for each combination of labels.

    Args:
        labels: the heading of each label.
        columns: the query of each heading.
        ratio: the headings of an additional column, its numerator and its denominator; Grafana divides them.
        totals: the headings of columns with a total.
    """
    values = {f"Value #{chr(ord('A') + n)}": name for n, name in enumerate(columns)}
    if len(columns) == 1:
        values |= dict.fromkeys(["Value"], *columns)  # with one query, Grafana adds no letter
    ratios = []
    if ratio:
        name, *operands = ratio
        left, right = (key for heading in operands for key, value in values.items() if value == heading)
        binary = {"left": left, "operator": "/", "right": right, "reducer": "sum"}
        ratios = [{"id": "calculateField", "options": {"alias": name, "binary": binary, "mode": "binary"}}]
        values[name] = name
    # Grafana 9.5 expects the names before the renaming, newer versions those after it.
    summed = [name for pair in values.items() if pair[1] in set(totals) for name in pair]
    return panel(
        "table",
        title,
        description,
        [target(expr, name, instant=True, table=True) for name, expr in columns.items()],
        width=width,
        unit="short",
        color=BY_VALUE,
        custom={"align": "auto", "cellOptions": {"type": "auto"}, "minWidth": 100},
        defaults=color_thresholds(),
        # As wide as a name or the heading; a table that is wider than its panel scrolls. Grafana 12 gives all
        # columns the same width, and more to those with a larger minimum: ten columns of 131 fit at 1366 px.
        overrides=[
            *(override(heading, custom__minWidth=120) for heading in labels.values()),
            *(override(heading, custom__minWidth=26 + 8 * len(heading)) for heading in values.values()),
            *overrides,
        ],
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
            "footer": {"countRows": False, "fields": summed, "reducer": ["sum"], "show": bool(summed)},
            "showHeader": True,
            "sortBy": [{"desc": True, "displayName": next(iter(columns))}],
        },
    )


MONEY = {
    "unit": USD,
    "decimals": 2,
    "color": fixed_color(DOLLARS),
    "custom__cellOptions": {"type": "color-text"},
}
"""The properties of a cost column."""
UNPRICED = {
    "decimals": 0,
    "color": fixed_color(WARNING),
    "custom__cellOptions": {"type": "color-text"},
}
"""The properties of a column of tokens without a price, which is empty where there are none."""
ERROR_RATE = {
    "unit": "percentunit",
    "decimals": 1,
    "color": BY_VALUE,
    "custom__cellOptions": {"type": "color-text"},
    **ERROR_RATE_THRESHOLDS,
}
"""The properties of an error rate column."""
