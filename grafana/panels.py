"""The words that the dashboards are written in: queries, panels, and a dashboard around them, as plain data.

What holds on every dashboard:

- What was spent, called and used comes from the recorded sums (prometheus/increases.py), to the minute and
  the cent, over an hour as over a month. Rates and percentiles come from recorded rates (prometheus/rules).
- Where nothing was counted the answer is 0, never "No data"; but where Prometheus does not evaluate our rules
  there is no answer, for 0 would be a wrong one.
- A colour means one thing: green is dollars, blue is work (calls, tokens, seconds), orange is a warning, red
  is failure and limits. Models, phases and token types take theirs in the order of their names.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

Json = dict[str, Any]

DOLLARS, WORK, WARNING, FAILURE = "green", "blue", "orange", "red"

# What Grafana 9.5 writes; newer Grafanas bring both up to date as they load them.
SCHEMA_VERSION = 38
PLUGIN_VERSION = "9.5.0"
DATASOURCE: Json = {"type": "prometheus", "uid": "${datasource}"}

FILTERS = ("job", "provider", "model", "agent", "phase")
"""The labels that a dashboard may be filtered by, each offering what those before it leave."""

COST, CALLS, ERRORS, TOKENS = "llm_cost_usd", "llm_calls", "llm_call_errors", "llm_tokens"
"""What is recorded as sums at some levels; see `recorded`."""
ROLLED_UP = (("provider", "model"), ("agent",), ("phase",))
"""The levels that are a few series, where those of every provider, model, agent and phase are thousands."""
RULES_RUN = "llm:utc_day:number"
"""A recorded series that is there whenever the others could be."""


# ---- queries


def selector(filters: Iterable[str] = FILTERS, **others: str) -> str:
    """Return the matchers of the dashboard's variables, and of labels with a fixed pattern."""
    constant = [f"{label}{pattern}" for label, pattern in others.items()]
    return "{" + ", ".join([*constant, *(f'{label}=~"${label}"' for label in filters)]) + "}"


def is_(value: str) -> str:
    """Return the matcher of exactly one value."""
    return f'="{value}"'


def like(pattern: str) -> str:
    """Return the matcher of a regular expression."""
    return f'=~"{pattern}"'


def total(expr: str, by: str = "") -> str:
    """Return the sum, in all or by labels."""
    return f"sum by ({by}) ({expr})" if by else f"sum ({expr})"


def recorded(
    metric: str, of: str, by: str = "", filters: Iterable[str] = FILTERS, **others: str
) -> tuple[str, ...]:
    """Return the series of a recorded sum that answer a question, of which some are there.

    A question that only some agents, say, were chosen for is answered by the sums of every caller; one that
    everybody was chosen for by those that are rolled up. A label that a series does not have is the empty
    string: the pattern of all matches it, that of a choice does not. No series has the label `all`.

    Args:
        of: what the names end in: `increase`, `increase15m` or `increase1m`.
        by: the labels to ask for.
        others: labels with a fixed pattern.
    """
    asked = {*by.split(", ")} - {"", "job", "token_type"}
    typed = ("token_type",) if metric == TOKENS or "token_type" in {*by.split(", "), *others} else ()
    caller = "_".join((*FILTERS, *typed))
    for level in ROLLED_UP[:1] if typed else ROLLED_UP:
        if asked <= {*level}:
            rolled_up = "_".join(("job", *level, *typed))
            left_out = [f"${label}" for label in filters if label not in ("job", *level)]
            chosen = selector(filters, **others, all=f'!~"{"".join(left_out)}"')
            return (
                f"{rolled_up}:{metric}:{of}{selector(filters, **others)}",
                f"{caller}:{metric}:{of}{chosen}",
            )
    return (f"{caller}:{metric}:{of}{selector(filters, **others)}",)


def either(series: Iterable[str], query: str) -> str:
    """Return a query for those of some series that are there; `{}` stands for them in it."""
    return " or ".join(query.replace("{}", each) for each in series)


def in_range(
    metric: str, by: str = "", window: str = "$__range", filters: Iterable[str] = FILTERS, **others: str
) -> str:
    """Return what a window up to now added to a recorded sum: the days in it, and today at both its ends."""
    day, today, before_it = (
        recorded(metric, "increase", by, filters, part=is_(part), **others)
        for part in ("day", "today", "before")
    )
    parts = " or ".join(
        (
            either(day, f"sum_over_time({{}}[{window}])"),
            either(today, "{}"),
            either(before_it, f"{{}} offset {window}"),
        )
    )
    # Rounded, because the difference of two equal sums may be the hundredth part of a trillionth.
    return f"round({total(f'({parts}) and on () {RULES_RUN}', by)}, 1e-9)"


def before(expr: str) -> str:
    """Return what a query said one time range ago."""
    return f"last_over_time(({expr})[1m:1m] offset $__range)"


def quarters(metric: str, by: str = "", filters: Iterable[str] = FILTERS) -> str:
    """Return what was added in each of a graph's steps, of a quarter of an hour or more."""
    # A quarter's sum is recorded within the minute after it.
    series = recorded(metric, "increase15m", by, filters)
    return total(either(series, "sum_over_time({}[$__interval] offset -1m)"), by)


def first_quarter(metric: str, by: str = "", filters: Iterable[str] = FILTERS) -> str:
    """Return what the last quarter of an hour added, as long as there is none yet in `quarters`."""
    caller = ", ".join(FILTERS)
    (minutes,) = recorded(metric, "increase1m", caller, filters)
    quarter = total(either(recorded(metric, "increase15m", by, filters), "sum_over_time({}[30m])"))
    return f"{total(f'sum_over_time({minutes}[15m])', by)} unless on () {quarter}"


def or_zero(expr: str, of: str = "") -> str:
    """Return the query with 0 where it finds nothing: one 0, or one for each series that `of` finds."""
    return f"{expr} or 0 * {of or f'max({RULES_RUN})'}"


# ---- panels


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
    pace = f"{quarters(metric, by, filters)} * 3600000 / $__interval_ms"
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


# ---- dashboards


def variable(label: str, chain: Iterable[str]) -> Json:
    """Return a multi-value filter over a label, offering what the filters before it leave."""
    query = f"label_values({'_'.join(FILTERS)}:{CALLS}:increase{selector(chain, part=is_('today'))}, {label})"
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


FIRING = 'ALERTS{alertstate="firing", alertname=~"(?i)llm.*", job=~"$job|"}'
"""The alerts of ours that are firing; some are of no job."""
