"""The dashboard of budgets, thresholds and alerts."""

from __future__ import annotations

from . import alerts
from .board import FIRING, dashboard
from .panels import (
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
    heading,
    hourly_graph,
    legend,
    override,
    override_matching,
    stat,
    table,
    target,
)
from .queries import BUILT_IN, COST, Queries, equals, or_zero, selector, total

FILTERS = ("job",)
OWN = selector(FILTERS)
USAGE_STEPS = color_thresholds((0.8, WARNING), (1, ERROR))
"""A warning at 80 %, where budgets warn by default, and red at the limit."""

NONE = 'label_replace(vector(0), "{0}", "none", "", "")'


class Limits:
    """The queries of budgets and thresholds, which the labels that they match keep apart.

    Every process that shares a budget exposes the amount spent by all of them: the largest is the latest.

    Args:
        declared: the declared labels.
    """

    def __init__(self, declared: tuple[str, ...]) -> None:
        self.declared = declared
        self.matched = (*BUILT_IN, *declared)
        self.of_budgets = ("budget", "period", *self.matched)
        by, of = ", ".join(self.of_budgets), f"threshold, window, {', '.join(self.matched)}"
        self.limit = f"max by ({by}) (llm_budget_limit_usd{OWN})"
        self.spent = f"max by ({by}) (llm_budget_spent_usd{OWN})"
        self.forecast = f"max by ({by}) (llm:budget_spent:forecast{selector(FILTERS, unit=equals('usd'))})"
        # A budget is in USD or in tokens; both have a usage ratio.
        self.usage = " or ".join(
            f"max by ({by}) (llm_budget_spent_{unit}{OWN})"
            f" / (max by ({by}) (llm_budget_limit_{unit}{OWN}) > 0)"
            for unit in ("usd", "tokens")
        )
        self.threshold_usage = (
            f"max by ({of}) (llm_cost_threshold_spent_usd{OWN})"
            f" / (max by ({of}) (llm_cost_threshold_usd{OWN}) > 0)"
        )

    def legend(self, *labels: str) -> str:
        """Return a legend with some labels and the declared ones."""
        return " ".join(map(legend, (*labels, *self.declared)))


def key_figures(limits: Limits) -> list[Json]:
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
            or_zero(f"count(({limits.usage}) >= 1)"),
            unit="short",
            color=BY_VALUE,
            width=6,
            defaults={"decimals": 0, **color_thresholds((1, ERROR))},
        ),
        stat(
            "Highest budget usage",
            "Usage of the budget that is closest to its limit. Above 80 %, raise the limit or slow down.",
            or_zero(f"max({limits.usage})"),
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


def budgets(limits: Limits) -> list[Json]:
    """Return the panels of each budget: usage, remaining amount and forecast."""
    labels = {label: heading(label) for label in limits.of_budgets}
    none = NONE.format("budget")
    return [
        bars(
            "Budget usage",
            "Share of each budget that is spent in its current period, highest first. Red budgets are "
            "exhausted.",
            f"sort_desc(topk(15, {limits.usage})) or on () {none}",
            limits.legend("budget", "agent"),
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
                "Used": f"({limits.usage}) or on () {none}",
                "Spent": limits.spent,
                "Remaining": f"clamp_min({limits.limit} - {limits.spent}, 0)",
                "Limit": limits.limit,
                "Forecast": limits.forecast,
                "Forecast used": f"{limits.forecast} / ({limits.limit} > 0)",
            },
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


def over_time(limits: Limits) -> list[Json]:
    """Return the graphs of budgets and alerts over time."""
    return [
        graph(
            "Budget usage over time",
            "Share of each budget spent in the course of its period. A line that reaches 100 % before it "
            "drops to 0 ran out.",
            [
                target(limits.usage, limits.legend("budget", "agent")),
                target("vector(1)", "limit"),
            ],
            width=8,
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
            width=8,
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


def thresholds(limits: Limits) -> list[Json]:
    """Return the graphs of cost against thresholds."""

    def limit(window: str) -> Json:
        # Only thresholds without labels: those of one agent or model do not apply to the total.
        everything = selector(FILTERS, window=equals(window), **dict.fromkeys(limits.matched, equals("")))
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
            queries=Queries(limits.declared, only=FILTERS),
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


def threshold_usage(limits: Limits) -> Json:
    """Return the usage of each threshold."""
    return bars(
        "Threshold usage",
        "Share of each threshold that is spent in the current UTC hour, day or month, highest first. "
        "Red thresholds are exceeded.",
        f"sort_desc(topk(12, {limits.threshold_usage})) or on () {NONE.format('threshold')}",
        limits.legend("threshold", "agent", "model"),
        width=8,
        unit="percentunit",
        color=BY_VALUE,
        defaults={"max": 1, "decimals": 0, **USAGE_STEPS},
    )


def board(declared: tuple[str, ...]) -> Json:
    """Return the dashboard."""
    limits = Limits(declared)
    usage, forecast = budgets(limits)
    return dashboard(
        "llm-budgets",
        "LLM budgets and alerts",
        "Usage and forecast of each budget, cost against thresholds, and firing alerts.",
        {
            "": [(3, key_figures(limits)), (7, [alerts.firing(declared)])],
            "Budgets": [(9, [forecast]), (11, [usage, *over_time(limits)])],
            "Thresholds": [(11, [*thresholds(limits), threshold_usage(limits)])],
        },
        filters=FILTERS,
    )
