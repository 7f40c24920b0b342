"""The dashboard of budgets, thresholds and alerts."""

from __future__ import annotations

from grafana import alerts
from grafana.board import FIRING, dashboard
from grafana.panels import (
    BY_VALUE,
    DOLLARS,
    ERROR,
    LIMIT,
    MONEY,
    USD,
    WARNING,
    Json,
    bars,
    color_thresholds,
    fixed_color,
    graph,
    hourly_graph,
    override,
    override_matching,
    stat,
    table,
    target,
)
from grafana.queries import COST, equals, or_zero, selector, total

FILTERS = ("job",)
OWN = selector(FILTERS)
MATCHED = ("provider", "model", "agent", "phase")
BUDGET_LABELS = "budget, period, provider, model, agent, phase"
USAGE_STEPS = color_thresholds((0.8, WARNING), (1, ERROR))
"""A warning at 80 %, where budgets warn by default, and red at the limit."""

# Every process that shares a budget exposes the amount spent by all of them: the largest is the latest.
LIMITS = f"max by ({BUDGET_LABELS}) (llm_budget_limit_usd{OWN})"
SPENT = f"max by ({BUDGET_LABELS}) (llm_budget_spent_usd{OWN})"
FORECAST = f"max by ({BUDGET_LABELS}) (llm:budget_spent:forecast{selector(FILTERS, unit=equals('usd'))})"
# A budget is in USD or in tokens; both have a usage ratio.
USAGE = " or ".join(
    f"max by ({BUDGET_LABELS}) (llm_budget_spent_{unit}{OWN})"
    f" / (max by ({BUDGET_LABELS}) (llm_budget_limit_{unit}{OWN}) > 0)"
    for unit in ("usd", "tokens")
)
THRESHOLD_LABELS = "threshold, window, provider, model, agent, phase"
THRESHOLD_USAGE = (
    f"max by ({THRESHOLD_LABELS}) (llm_cost_threshold_spent_usd{OWN})"
    f" / (max by ({THRESHOLD_LABELS}) (llm_cost_threshold_usd{OWN}) > 0)"
)
NONE = 'label_replace(vector(0), "{0}", "none", "", "")'


def key_figures() -> list[Json]:
    """Return the row of key figures."""
    return [
        stat(
            "Firing alerts",
            "Alerts about LLM calls that are firing now. If it is not 0, see the list below; Alertmanager "
            "shows who was notified.",
            or_zero(f"count({FIRING})"),
            unit="short",
            color=BY_VALUE,
            width=6,
            defaults={"decimals": 0, **color_thresholds((1, ERROR))},
        ),
        stat(
            "Exhausted budgets",
            "Budgets with nothing left. Budgets that block reject calls until their period ends.",
            or_zero(f"count(({USAGE}) >= 1)"),
            unit="short",
            color=BY_VALUE,
            width=6,
            defaults={"decimals": 0, **color_thresholds((1, ERROR))},
        ),
        stat(
            "Highest budget usage",
            "Usage of the budget that is closest to its limit. Above 80 %, raise the limit or slow down.",
            or_zero(f"max({USAGE})"),
            unit="percentunit",
            color=BY_VALUE,
            width=6,
            defaults={"decimals": 0, **USAGE_STEPS},
        ),
        stat(
            "Rejected calls",
            "Calls that budgets rejected in the time range before they were sent. They cost nothing, but "
            "the caller got an error.",
            or_zero(total(f"increase(llm_budget_rejected_calls_total{OWN}[$__range])")),
            unit="short",
            color=BY_VALUE,
            width=6,
            defaults={"decimals": 0, **color_thresholds((1, WARNING))},
        ),
    ]


def budgets() -> list[Json]:
    """Return the panels of each budget: usage, remaining amount and forecast."""
    labels = {
        "budget": "Budget",
        "period": "Period",
        "provider": "Provider",
        "model": "Model",
        "agent": "Agent",
        "phase": "Phase",
    }
    none = NONE.format("budget")
    return [
        bars(
            "Budget usage",
            "Share of each budget that is spent in its current period, highest first. Red budgets are "
            "exhausted.",
            f"sort_desc(topk(15, {USAGE})) or on () {none}",
            "{{budget}} {{agent}}",
            width=8,
            unit="percentunit",
            color=BY_VALUE,
            defaults={"max": 1, "decimals": 0, **USAGE_STEPS},
        ),
        table(
            "Budget forecast",
            "What each budget has left, and what it will have spent at the end of its period, or in three "
            "days if it is never reset, if spending goes on as on earlier days. Above 100 %, the budget will "
            "run out. There is no forecast without an earlier day.",
            labels,
            {
                "Used": f"({USAGE}) or on () {none}",
                "Spent": SPENT,
                "Remaining": f"clamp_min({LIMITS} - {SPENT}, 0)",
                "Limit": LIMITS,
                "Forecast": FORECAST,
                "Forecast used": f"{FORECAST} / ({LIMITS} > 0)",
            },
            width=16,
            overrides=[
                *(
                    override(
                        name,
                        unit="percentunit",
                        decimals=0,
                        color=BY_VALUE,
                        custom__cellOptions={"type": "color-text"},
                        **USAGE_STEPS,
                    )
                    for name in ("Used", "Forecast used")
                ),
                *(override(name, **MONEY) for name in ("Spent", "Remaining", "Limit", "Forecast")),
            ],
        ),
    ]


def over_time() -> list[Json]:
    """Return the graphs of budgets and alerts over time."""
    return [
        graph(
            "Budget usage over time",
            "Share of each budget spent in the course of its period. A line that reaches 100 % before it "
            "drops to 0 ran out.",
            [
                target(USAGE, "{{budget}} {{agent}}"),
                target("vector(1)", "limit"),
            ],
            width=12,
            unit="percentunit",
            interval="1m",
            maxDataPoints=200,
            overrides=[override("limit", **LIMIT)],
            calcs=("lastNotNull", "max"),
        ),
        graph(
            "Firing alerts over time",
            "Number of firing alerts by name. If an alert flaps, raise its `for`; if it stays, act on it.",
            [
                target(f"count by (alertname) ({FIRING})", "{{alertname}}"),
                target("vector(0)", "none"),
            ],
            width=12,
            unit="short",
            stepped=True,
            stacked=True,
            interval="1m",
            maxDataPoints=200,
            defaults={"decimals": 0},
            overrides=[override("none", color=fixed_color("text"))],
            calcs=("lastNotNull", "max"),
        ),
    ]


def thresholds() -> list[Json]:
    """Return the graphs of cost against thresholds."""

    def limit(window: str) -> Json:
        # Only thresholds without labels: those of one agent or model do not apply to the total.
        everything = selector(FILTERS, window=equals(window), **dict.fromkeys(MATCHED, equals("")))
        expr = f"max by (threshold) (llm_cost_threshold_usd{everything})"
        return target(expr, "threshold {{threshold}}")

    today = total('job:llm_cost_usd:increase{part="today", job=~"$job"}')
    return [
        hourly_graph(
            "Cost per hour and thresholds",
            "Cost per hour by provider, stacked. Dashed red lines are the hourly thresholds; an alert fires"
            " when the cost exceeds one.",
            COST,
            "provider",
            filters=FILTERS,
            width=8,
            unit=USD,
            limits=[limit("hour")],
        ),
        graph(
            "Cost today and thresholds",
            "Cost since the start of each UTC day. Dashed red lines are the daily thresholds. A curve "
            "steeper than yesterday's will end higher.",
            [target(today, "cost"), limit("day")],
            width=8,
            unit=USD,
            interval="1m",
            maxDataPoints=120,
            overrides=[
                override("cost", color=fixed_color(DOLLARS)),
                override_matching("^threshold", **LIMIT),
            ],
            calcs=("lastNotNull", "max"),
        ),
    ]


def threshold_usage() -> Json:
    """Return the usage of each threshold."""
    return bars(
        "Threshold usage",
        "Share of each threshold that is spent in the current UTC hour, day or month, highest first. "
        "Red thresholds are exceeded.",
        f"sort_desc(topk(12, {THRESHOLD_USAGE})) or on () {NONE.format('threshold')}",
        "{{threshold}} {{agent}} {{model}}",
        width=8,
        unit="percentunit",
        color=BY_VALUE,
        defaults={"max": 1, "decimals": 0, **USAGE_STEPS},
    )


def board() -> Json:
    """Return the dashboard."""
    return dashboard(
        "llm-budgets",
        "LLM budgets and alerts",
        "Usage and forecast of each budget, cost against thresholds, and firing alerts.",
        {
            "": [(3, key_figures()), (9, [alerts.firing()])],
            "Budgets": [(11, budgets()), (8, over_time())],
            "Thresholds": [(11, [*thresholds(), threshold_usage()])],
        },
        filters=FILTERS,
    )
