"""Budgets and alerts: what is left, how long it lasts, and what is firing."""

from __future__ import annotations

from grafana.board import FIRING, dashboard
from grafana.panels import (
    BY_VALUE,
    DOLLARS,
    FAILURE,
    LIMIT,
    MONEY,
    WARNING,
    Json,
    bars,
    by_quarter,
    fixed,
    lines,
    matching,
    named,
    stat,
    steps,
    table,
    target,
)
from grafana.queries import COST, equals, or_zero, selector, total

FILTERS = ("job",)
OWN = selector(FILTERS)
PARTS = ("provider", "model", "agent", "phase")
NAMES = "budget, period, provider, model, agent, phase"
USED = steps((0.8, WARNING), (1, FAILURE))
"""Where budgets tell of themselves, unless they are configured otherwise, and where they end."""

# Each process shows what all that share a budget have spent: the largest is the newest.
LIMITS = f"max by ({NAMES}) (llm_budget_limit_usd{OWN})"
SPENT = f"max by ({NAMES}) (llm_budget_spent_usd{OWN})"
# A new period begins at 0, which is no burning backwards.
BURN = f"clamp_min(max by ({NAMES}) (delta(llm_budget_spent_usd{OWN}[1h])), 0)"
# A budget is in dollars or in tokens; how much of it is used is the same question.
SHARE = " or ".join(
    f"max by ({NAMES}) (llm_budget_spent_{unit}{OWN}) / (max by ({NAMES}) (llm_budget_limit_{unit}{OWN}) > 0)"
    for unit in ("usd", "tokens")
)
THRESHOLD = "threshold, window, provider, model, agent, phase"
OF_THRESHOLD = (
    f"max by ({THRESHOLD}) (llm_cost_threshold_spent_usd{OWN})"
    f" / (max by ({THRESHOLD}) (llm_cost_threshold_usd{OWN}) > 0)"
)
NONE = 'label_replace(vector(0), "{0}", "none", "", "")'


def headlines() -> list[Json]:
    """Return the numbers on top."""
    return [
        stat(
            "Alerts firing",
            "Alerts about LLM calls that are firing now. Anything but 0: the list below says which, and "
            "Alertmanager who was told.",
            or_zero(f"count({FIRING})"),
            unit="short",
            color=BY_VALUE,
            width=6,
            defaults={"decimals": 0, **steps((1, FAILURE))},
        ),
        stat(
            "Budgets used up",
            "Budgets of whose limit nothing is left. Where a budget blocks, calls are refused until its "
            "period ends.",
            or_zero(f"count(({SHARE}) >= 1)"),
            unit="short",
            color=BY_VALUE,
            width=6,
            defaults={"decimals": 0, **steps((1, FAILURE))},
        ),
        stat(
            "Most used budget",
            "How much of the tightest budget is spent. Over four fifths it is time to decide: raise it, or "
            "slow down.",
            or_zero(f"max({SHARE})"),
            unit="percentunit",
            color=BY_VALUE,
            width=6,
            defaults={"decimals": 0, **USED},
        ),
        stat(
            "Calls refused",
            "Calls that budgets refused in the time range, before they were sent. They cost nothing, and "
            "somebody was told no.",
            or_zero(total(f"increase(llm_budget_rejected_calls_total{OWN}[$__range])")),
            unit="short",
            color=BY_VALUE,
            width=6,
            defaults={"decimals": 0, **steps((1, WARNING))},
        ),
    ]


def budgets() -> list[Json]:
    """Return each budget: what is spent, what is left and how long it lasts."""
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
            "Budgets",
            "How much of each budget's period limit is spent, the fullest first. Red is used up.",
            f"sort_desc(topk(15, {SHARE})) or on () {none}",
            "{{budget}} {{agent}}",
            width=8,
            unit="percentunit",
            color=BY_VALUE,
            defaults={"max": 1, "decimals": 0, **USED},
        ),
        table(
            "When they run out",
            "What each budget has left, what it spends an hour at the pace of the last one, and how long "
            "the rest lasts at that pace: shorter than what is left of the period means that it will run "
            "out.",
            labels,
            {
                "Used": f"({SHARE}) or on () {none}",
                "Spent": SPENT,
                "Left": f"clamp_min({LIMITS} - {SPENT}, 0)",
                "Limit": LIMITS,
                "An hour": BURN,
                "Lasts for": f"3600 * clamp_min({LIMITS} - {SPENT}, 0) / ({BURN} > 0)",
            },
            width=16,
            overrides=[
                named(
                    "Used",
                    unit="percentunit",
                    decimals=0,
                    color=BY_VALUE,
                    custom__cellOptions={"type": "color-text"},
                    **USED,
                ),
                *(named(name, **MONEY) for name in ("Spent", "Left", "Limit", "An hour")),
                named("Lasts for", unit="s", decimals=0),
            ],
        ),
    ]


def over_time() -> list[Json]:
    """Return how budgets are used over time, and what is firing."""
    return [
        lines(
            "Budgets over time",
            "How much of each budget was spent as its period went on. A line that reaches 100 % before it "
            "falls back to 0 is a budget that ran out; a straight one tells when it will.",
            [
                target(SHARE, "{{budget}} {{agent}}"),
                target("vector(1)", "limit"),
            ],
            width=12,
            unit="percentunit",
            interval="1m",
            maxDataPoints=200,
            overrides=[named("limit", **LIMIT)],
            calcs=("lastNotNull", "max"),
        ),
        lines(
            "Alerts firing",
            "Which alerts were firing when, and how many of each. Bars that come and go want a longer "
            "`for`; one that stays wants a decision.",
            [
                target(f"count by (alertname) ({FIRING})", "{{alertname}}"),
                target("vector(0)", "none"),
            ],
            width=12,
            unit="short",
            steps=True,
            stacked=True,
            interval="1m",
            maxDataPoints=200,
            defaults={"decimals": 0},
            overrides=[named("none", color=fixed("text"))],
            calcs=("lastNotNull", "max"),
        ),
    ]


def thresholds() -> list[Json]:
    """Return what is spent, and the thresholds for it."""

    def limit(window: str) -> Json:
        # Those of everything: what one agent or model may cost says nothing about the sum.
        everything = selector(FILTERS, window=equals(window), **dict.fromkeys(PARTS, equals("")))
        expr = f"max by (threshold) (llm_cost_threshold_usd{everything})"
        return target(expr, "threshold {{threshold}}")

    today = total('job:llm_cost_usd:increase{part="today", job=~"$job"}')
    return [
        by_quarter(
            "Cost an hour, and its thresholds",
            "US dollars an hour by provider, stacked; dashed red, the thresholds for an hour. Bars above it "
            "are what the alert tells of.",
            COST,
            "provider",
            filters=FILTERS,
            width=12,
            unit="currencyUSD",
            limits=[limit("hour")],
        ),
        lines(
            "Cost of the day, and its thresholds",
            "What each day (of UTC) has come to as it went on; dashed red, the thresholds for a day. A "
            "curve that is steeper than yesterday's will end higher.",
            [target(today, "spent"), limit("day")],
            width=12,
            unit="currencyUSD",
            interval="1m",
            maxDataPoints=120,
            overrides=[named("spent", color=fixed(DOLLARS)), matching("^threshold", **LIMIT)],
            calcs=("lastNotNull", "max"),
        ),
    ]


def firing() -> list[Json]:
    """Return the list of alerts, and what is spent of each threshold."""
    none = NONE.format("alertname")
    return [
        table(
            "Alerts firing now",
            "The alerts about LLM calls that are firing, and what they are about. Each has a runbook in its "
            "annotations, which Alertmanager shows.",
            {
                "alertname": "Alert",
                "severity": "Severity",
                "provider": "Provider",
                "model": "Model",
                "agent": "Agent",
                "budget": "Budget",
            },
            {
                "Firing": f"count by (alertname, severity, provider, model, agent, budget) ({FIRING})"
                f" or on () {none}",
            },
            width=16,
            overrides=[named("Firing", decimals=0)],
        ),
        bars(
            "Thresholds",
            "How much of each threshold is spent in its hour, day or month (of UTC) so far, the fullest "
            "first. Red is passed: whoever wanted to know has been told.",
            f"sort_desc(topk(12, {OF_THRESHOLD})) or on () {NONE.format('threshold')}",
            "{{threshold}} {{agent}} {{model}}",
            width=8,
            unit="percentunit",
            color=BY_VALUE,
            defaults={"max": 1, "decimals": 0, **USED},
        ),
    ]


def board() -> Json:
    """Return the dashboard."""
    return dashboard(
        "llm-budgets",
        "LLM budgets and alerts",
        "What budgets have left and how long it lasts, what is firing, and cost against its thresholds.",
        [(4, headlines()), (9, budgets()), (8, over_time()), (9, thresholds()), (7, firing())],
        filters=FILTERS,
    )
