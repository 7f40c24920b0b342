"""The dashboards, as data: `python grafana/dashboards.py` rewrites dashboards/*.json, `--check` finds drift.

What holds on every panel:

- What a range cost, used and called comes from `increase()` over the raw counters: right at every zoom.
- Quantiles come from the recorded buckets (prometheus/rules/recording.yml), far fewer than the raw ones.
  Their rates are summed over the interval, which weighs every call alike whatever the zoom.
- Where calls were made and nothing was counted the answer is 0, never "No data".
- A colour means one thing: green is dollars, blue is work (calls, tokens, seconds), red is failure. Models,
  phases and token types take theirs in the order of their names.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

Json = dict[str, Any]

DIRECTORY = Path(__file__).parent / "dashboards"

DOLLARS, WORK, FAILURE = "green", "blue", "red"

# What Grafana 9.5 writes; newer Grafanas bring both up to date as they load them.
SCHEMA_VERSION = 38
PLUGIN_VERSION = "9.5.0"
DATASOURCE: Json = {"type": "prometheus", "uid": "${datasource}"}

FILTERS = ("job", "provider", "model", "agent", "phase")
SELECTOR = ", ".join(f'{label}=~"${label}"' for label in FILTERS)

COST = f"llm_cost_usd_total{{{SELECTOR}}}"
TOKENS = f"llm_tokens_total{{{SELECTOR}}}"
CALLS = f"llm_calls_total{{{SELECTOR}}}"
ERRORS = f"llm_call_errors_total{{{SELECTOR}}}"
COST_RATE = f"job_provider_model_agent_phase:llm_cost_usd:rate5m{{{SELECTOR}}}"
LATENCY = f"job_provider_model_agent_phase_le:llm_latency_seconds_bucket:rate5m{{{SELECTOR}}}"
FIRST_TOKEN = f"job_provider_model_agent_phase_le:llm_time_to_first_token_seconds_bucket:rate5m{{{SELECTOR}}}"


# ---- queries


def _sum(expr: str, by: str) -> str:
    return f"sum by ({by}) ({expr})" if by else f"sum({expr})"


def in_range(metric: str, by: str = "") -> str:
    """Return how much a counter grew over the dashboard's time range, in all or by labels."""
    return _sum(f"increase({metric}[$__range])", by)


def pace(seconds: int, metric: str, by: str = "") -> str:
    """Return a counter's growth each so many seconds, in all or by labels."""
    return f"{seconds} * {_sum(f'rate({metric}[$__rate_interval])', by)}"


def quantile(q: float, buckets: str, window: str, by: str = "") -> str:
    """Return a quantile of recorded buckets, in all or by a label."""
    counts = _sum(f"sum_over_time({buckets}[{window}])", f"{by}, le" if by else "le")
    return f"histogram_quantile({q}, {counts}) >= 0"  # where nothing was observed it is NaN: no point then


def or_zero(expr: str, of: str = "") -> str:
    """Return the query with 0 where it finds nothing: one 0, or one for each series that `of` finds."""
    return f"{expr} or 0 * {of}" if of else f"{expr} or vector(0)"


# ---- panels


def target(expr: str, legend: str, *, instant: bool = False, table: bool = False) -> Json:
    """Return a query; `panel` gives it its refId. A legend is a template over labels: `{{model}}`."""
    return {
        "datasource": DATASOURCE,
        "editorMode": "code",
        "expr": expr,
        "format": "table" if table else "time_series",
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
    }


def fixed(color: str) -> Json:
    """Return the colour mode that paints every series alike."""
    return {"fixedColor": color, "mode": "fixed"}


def named(field: str, **properties: object) -> Json:
    """Return an override of one field's properties; a double underscore in a name stands for its dot."""
    return {
        "matcher": {"id": "byName", "options": field},
        "properties": [{"id": name.replace("__", "."), "value": value} for name, value in properties.items()],
    }


def stat(
    title: str, description: str, expr: str, *, unit: str, color: Json, defaults: Json | None = None
) -> Json:
    """Return one big number; six of them make a row."""
    return panel(
        "stat",
        title,
        description,
        [target(expr, title, instant=True)],
        width=4,
        unit=unit,
        color=color,
        defaults=defaults,
        options={
            "colorMode": "value",
            "graphMode": "none",
            "justifyMode": "center",
            "orientation": "auto",
            "reduceOptions": {"calcs": ["lastNotNull"], "fields": "", "values": False},
            "textMode": "value",
        },
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
    defaults: Json | None = None,
    overrides: Iterable[Json] = (),
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
            "fillOpacity": 30 if stacked else 5,
            "lineWidth": 1,
            "showPoints": "auto",
            "spanNulls": False,
            "stacking": {"group": "A", "mode": "normal" if stacked else "none"},
        },
        defaults=defaults,
        overrides=overrides,
        options={
            "legend": {
                "calcs": ["mean", "max"],
                "displayMode": "table",
                "placement": "bottom",
                "showLegend": True,
                "sortBy": "Mean",
                "sortDesc": True,
            },
            "tooltip": {"mode": "multi", "sort": "desc"},
        },
    )


def bars(title: str, description: str, expr: str, legend: str, *, width: int, unit: str, color: Json) -> Json:
    """Return bars of one instant query's series, in the order the query sorts them."""
    return panel(
        "bargauge",
        title,
        description,
        [target(expr, legend, instant=True)],
        width=width,
        unit=unit,
        color=color,
        options={
            "displayMode": "basic",
            "minVizHeight": 16,
            "minVizWidth": 0,
            "orientation": "horizontal",
            "reduceOptions": {"calcs": ["lastNotNull"], "fields": "", "values": False},
            "showUnfilled": False,
            "valueMode": "color",
        },
    )


# ---- dashboards


def variable(label: str, chain: tuple[str, ...]) -> Json:
    """Return a multi-value filter over a label, offering what the filters before it leave."""
    selector = ", ".join(f'{each}=~"${each}"' for each in chain)
    query = f"label_values(llm_calls_total{{{selector}}}, {label})"
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


def dashboard(uid: str, title: str, description: str, rows: Iterable[tuple[int, list[Json]]]) -> Json:
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
                }
            ]
        },
        "description": description,
        "editable": False,
        "fiscalYearStartMonth": 0,
        "graphTooltip": 1,  # one crosshair over all panels
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
        "panels": panels,
        "refresh": "30s",
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
                *(variable(label, FILTERS[:n]) for n, label in enumerate(FILTERS)),
            ]
        },
        "time": {"from": "now-1h", "to": "now"},
        "timepicker": {},
        "timezone": "browser",
        "title": title,
        "uid": uid,
        "version": 1,
        "weekStart": "",
    }


# ---- LLM overview


def headlines() -> list[Json]:
    """Return the numbers on top: what it cost, what it did, whether it is well."""
    return [
        stat(
            "Cost",
            "US dollars spent in the time range above. This is the number to hold against the bill.",
            or_zero(in_range(COST)),
            unit="currencyUSD",
            color=fixed(DOLLARS),
        ),
        stat(
            "Cost per hour",
            "What an hour costs at the pace of the last five minutes. Far above what the range averages: "
            "something has started to spend, and the table at the bottom says who.",
            or_zero(f"3600 * sum({COST_RATE})"),
            unit="currencyUSD",
            color=fixed(DOLLARS),
        ),
        stat(
            "Tokens",
            "Tokens of every type in the time range. Cost that grows faster than tokens means dearer "
            "models or fewer cache hits, not more work.",
            or_zero(in_range(TOKENS)),
            unit="short",
            color=fixed(WORK),
        ),
        stat(
            "Calls",
            "Calls finished in the time range, failed ones included.",
            or_zero(in_range(CALLS)),
            unit="short",
            color=fixed(WORK),
            defaults={"decimals": 0},  # increase() estimates between scrapes, and half a call puzzles people
        ),
        stat(
            "Failed calls",
            "The share of calls in the time range that failed. Over 1 % look at which provider limits or "
            "fails; over 5 % users notice.",
            # No error series means none failed; no calls means nothing to fail.
            or_zero(f"({or_zero(in_range(ERRORS))}) / ({in_range(CALLS)} > 0)"),
            unit="percentunit",
            color={"mode": "thresholds"},
            defaults={
                "max": 1,
                "thresholds": {
                    "mode": "absolute",
                    "steps": [
                        {"color": "text", "value": None},
                        {"color": "orange", "value": 0.01},
                        {"color": FAILURE, "value": 0.05},
                    ],
                },
            },
        ),
        stat(
            "Latency, 95th percentile",
            "Nineteen of twenty calls in the time range took no longer than this, from request to last byte.",
            quantile(0.95, LATENCY, "$__range"),
            unit="s",
            color=fixed(WORK),
            # Without a call there is no percentile: neither a number nor an error.
            defaults={
                "noValue": "no calls",
                "mappings": [
                    {"type": "special", "options": {"match": "nan", "result": {"text": "no calls"}}}
                ],
            },
        ),
    ]


def spending() -> list[Json]:
    """Return what is spent over time, and the agents and phases that spend most."""
    by_model = or_zero(pace(3600, COST, "model"), of=pace(3600, CALLS, "model"))
    by_agent = or_zero(in_range(COST, "agent"), of=in_range(CALLS, "agent"))
    by_phase = or_zero(in_range(COST, "phase"), of=in_range(CALLS, "phase"))
    return [
        lines(
            "Cost by model",
            "US dollars an hour, stacked: the height is what everything together costs. A band that widens "
            "while the others do not is the model to look at.",
            [target(by_model, "{{model}}")],
            width=12,
            unit="currencyUSD",
            axis="an hour",
            stacked=True,
        ),
        bars(
            "Cost by agent",
            "The ten agents that spent most in the time range. One bar far longer than the rest is where "
            "saving starts. Code that runs outside labels(agent=…) is unattributed.",
            f"sort_desc(topk(10, {by_agent}))",
            "{{agent}}",
            width=6,
            unit="currencyUSD",
            color=fixed(DOLLARS),
        ),
        bars(
            "Cost by phase",
            "The ten steps of the workflow that cost most in the time range. A phase that costs more than "
            "it is worth can run on a smaller model.",
            f"sort_desc(topk(10, {by_phase}))",
            "{{phase}}",
            width=6,
            unit="currencyUSD",
            color=fixed(DOLLARS),
        ),
    ]


def work() -> list[Json]:
    """Return what the money bought: tokens and calls, and the calls that failed."""
    return [
        lines(
            "Tokens by type",
            "Tokens a minute, stacked. Types do not overlap, so the height is what the providers counted. "
            "A wide input band beside a thin cache_read one is prompt text that caching would make cheap; "
            "reasoning is paid like output.",
            [target(pace(60, TOKENS, "token_type"), "{{token_type}}")],
            width=12,
            unit="short",
            axis="a minute",
            stacked=True,
        ),
        lines(
            "Calls and errors",
            "Calls a minute, and those of them that failed. Errors that rise with calls point to a limit; "
            "errors that rise alone, to the provider or to a change of yours.",
            [
                target(or_zero(pace(60, CALLS)), "calls"),
                target(or_zero(pace(60, ERRORS)), "failed"),
            ],
            width=12,
            unit="short",
            axis="a minute",
            overrides=[named("calls", color=fixed(WORK)), named("failed", color=fixed(FAILURE))],
        ),
    ]


def speed() -> list[Json]:
    """Return how long calls take, and how long a reader waits for a stream to begin."""
    return [
        lines(
            "Latency by model, 95th percentile",
            "Nineteen of twenty calls of a model took no longer than this, from request to last byte. "
            "Longer answers take longer: hold it against tokens before blaming the provider. A gap is a "
            "time without calls.",
            [target(quantile(0.95, LATENCY, "$__rate_interval", "model"), "{{model}}")],
            width=12,
            unit="s",
            defaults={"noValue": "no calls"},
        ),
        lines(
            "Time to first token by model, 95th percentile",
            "How long a reader waits before a streamed answer begins. When it rises and tokens do not, the "
            "provider queues; when it rises with input tokens, the prompt has grown. Streams only.",
            [target(quantile(0.95, FIRST_TOKEN, "$__rate_interval", "model"), "{{model}}")],
            width=12,
            unit="s",
            defaults={"noValue": "no streams"},
        ),
    ]


def spenders() -> list[Json]:
    """Return the table of who spends: a row for each model, agent and phase that made calls."""
    labels = {"model": "Model", "agent": "Agent", "phase": "Phase"}
    by = ", ".join(labels)
    calls = in_range(CALLS, by)

    def of_callers(metric: str) -> str:
        # 0 for a caller with nothing counted (failed, unpriced); no row for who made no call in the range.
        return f"({or_zero(in_range(metric, by), of=calls)}) and ({calls} > 0)"

    columns = {
        "Cost": of_callers(COST),
        "Tokens": of_callers(TOKENS),
        "Calls": f"{calls} > 0",
        "Cost per call": f"({or_zero(in_range(COST, by), of=calls)}) / ({calls} > 0)",
    }
    values = {f"Value #{chr(ord('A') + n)}": name for n, name in enumerate(columns)}
    return [
        panel(
            "table",
            "Who spends",
            "Model, agent and phase of every dollar in the time range, the dearest first. A high cost per "
            "call wants a smaller model or a shorter prompt; many cheap calls want caching or batching.",
            [target(expr, name, instant=True, table=True) for name, expr in columns.items()],
            width=24,
            unit="short",
            color={"mode": "thresholds"},
            custom={"align": "auto", "cellOptions": {"type": "auto"}, "filterable": True},
            defaults={"thresholds": {"mode": "absolute", "steps": [{"color": "text", "value": None}]}},
            overrides=[
                named(
                    "Cost",
                    unit="currencyUSD",
                    decimals=4,
                    color=fixed(DOLLARS),
                    custom__cellOptions={"type": "color-text"},
                ),
                named("Tokens", decimals=0),
                named("Calls", decimals=0),
                named("Cost per call", unit="currencyUSD", decimals=5),
            ],
            transformations=[
                {"id": "merge", "options": {}},
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
                "footer": {
                    "countRows": False,
                    # Grafana 9.5 goes by the names before the renaming, later ones by those after it.
                    "fields": ["Value #A", "Value #B", "Value #C", "Cost", "Tokens", "Calls"],
                    "reducer": ["sum"],
                    "show": True,
                },
                "showHeader": True,
                "sortBy": [{"desc": True, "displayName": "Cost"}],
            },
        )
    ]


def overview() -> Json:
    """Return the first dashboard: what is spent, by whom, and whether calls are fast and succeed."""
    return dashboard(
        "llm-overview",
        "LLM overview",
        "What LLM calls cost, who makes them, and whether they are fast and succeed.",
        [(4, headlines()), (9, spending()), (8, work()), (8, speed()), (10, spenders())],
    )


def render(board: Json) -> str:
    """Return a dashboard's JSON as it is committed."""
    return json.dumps(board, indent=2, sort_keys=True, ensure_ascii=False) + "\n"


def main() -> int:
    """Write the dashboards, or with `--check` say which differ from the committed files and return 1."""
    parser = argparse.ArgumentParser(description="Generate grafana/dashboards/*.json.")
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 when a file differs")
    check = parser.parse_args().check
    wanted = {DIRECTORY / f"{board['uid']}.json": render(board) for board in (overview(),)}
    found = {path: path.read_text(encoding="utf-8") for path in DIRECTORY.glob("*.json")}
    drifted = sorted(path for path in wanted.keys() | found.keys() if wanted.get(path) != found.get(path))
    for path in drifted:
        if check:
            sys.stderr.write(f"out of date: {path.name} (python grafana/dashboards.py)\n")
        elif path in wanted:
            path.write_text(wanted[path], encoding="utf-8")
        else:
            path.unlink()
    return int(check and bool(drifted))


if __name__ == "__main__":
    sys.exit(main())
