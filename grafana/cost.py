"""The dashboard of costs: by provider, model, agent and phase, and what caching saves."""

from __future__ import annotations

from grafana import links
from grafana.board import dashboard
from grafana.panels import (
    BY_VALUE,
    DOLLARS,
    MONEY,
    UNPRICED,
    USD,
    WARNING,
    WORK,
    Json,
    bars,
    color_thresholds,
    exemplars,
    fixed_color,
    hourly_graph,
    override,
    stat,
    table,
    target,
)
from grafana.queries import (
    CALLS,
    COST,
    TOKENS,
    equals,
    in_range,
    matches,
    or_zero,
    selector,
    total,
    unpriced,
)

MODEL = "provider, model"
APPROXIMATED = total(f"increase(llm_price_approximated_tokens_total{selector()}[$__range])", "reason")


def savings() -> str:
    """Return the savings from caching by model.

    That is what cached tokens would have cost at the model's price for plain input, minus what they did cost.
    """
    price = (
        f"({in_range(COST, MODEL, token_type=equals('input'))}"
        f" / ({in_range(TOKENS, MODEL, token_type=equals('input'))} > 0))"
    )
    cached = in_range(TOKENS, MODEL, token_type=matches("cache_.*"))
    paid = in_range(COST, MODEL, token_type=matches("cache_.*"))
    return f"{price} * {cached} - {paid}"


def key_figures() -> list[Json]:
    """Return the row of key figures."""
    week, month = in_range(COST, window="7d"), in_range(COST)
    return [
        stat(
            "Cost",
            "Cost in the time range, exact to the minute. Compare this number with the provider's bill.",
            or_zero(in_range(COST)),
            unit=USD,
            color=fixed_color(DOLLARS),
        ),
        stat(
            "Cost today",
            "Cost since midnight. If it is far above the same time on other days, the graph below shows "
            "which model causes it.",
            or_zero(in_range(COST)),
            unit=USD,
            color=fixed_color(DOLLARS),
            since="now/d",
        ),
        stat(
            "Cost this month",
            "Cost since the start of the month. Compare it with the monthly budget.",
            or_zero(in_range(COST)),
            unit=USD,
            color=fixed_color(DOLLARS),
            since="now/M",
        ),
        stat(
            "Month forecast",
            "Expected cost of the whole month if the rest of it costs as much per day as the last seven "
            "days, like the forecast of monthly budgets. It is too low in the first week of use.",
            or_zero(f"{month} + {week} / 604800 * (86400 * scalar(days_in_month()) - $__range_s)"),
            unit=USD,
            color=fixed_color(DOLLARS),
            since="now/M",
        ),
    ]


def efficiency() -> list[Json]:
    """Return the figures that say why costs are high, and what is missing."""
    return [
        stat(
            "Cost in the last hour",
            "Cost in the last 60 minutes. If it is far above the hourly average, something has just started"
            " to spend.",
            or_zero(in_range(COST, window="1h")),
            unit=USD,
            color=fixed_color(DOLLARS),
        ),
        stat(
            "Cost per call",
            "Average cost of a call in the time range. If it rises, prompts have grown, caches are missed "
            "or a more expensive model is used; see the table at the bottom.",
            or_zero(f"{in_range(COST)} / ({in_range(CALLS)} > 0)"),
            unit=USD,
            color=fixed_color(DOLLARS),
            defaults={"decimals": 4},
        ),
        stat(
            "Cache savings",
            "What cached prompt tokens would have cost as plain input, minus the extra cost of writing the "
            "caches. If it is negative, caches are written but not read: they expire too soon, or prompts "
            "start differently.",
            or_zero(total(savings())),
            unit=USD,
            color=BY_VALUE,
            defaults={"min": None, **color_thresholds((-1e9, WARNING), (0, DOLLARS))},
        ),
        stat(
            "Unpriced tokens",
            "Tokens of models without a known price; their cost is missing on this dashboard. If it is not "
            "0, add a price to the configuration.",
            or_zero(unpriced()),
            unit="short",
            color=BY_VALUE,
            defaults={"decimals": 0, **color_thresholds((1, WARNING))},
        ),
    ]


def over_time() -> list[Json]:
    """Return the graph of cost over time and the most expensive agents."""
    by_agent = or_zero(in_range(COST, "agent"), like=in_range(CALLS, "agent"))
    return [
        hourly_graph(
            "Cost per hour by model",
            "Cost per hour, stacked by model. If one band grows and the others do not, check that model. "
            "Dashed red lines are the hourly thresholds, and diamonds are the costs of calls with a trace.",
            COST,
            "model",
            width=16,
            unit=USD,
            limits=[
                target(
                    "max by (threshold, provider, model, agent, phase)"
                    f" (llm_cost_threshold_usd{selector(window=equals('hour'))})",
                    "threshold {{threshold}} {{model}} {{agent}}",
                ),
                exemplars(f"{COST}{selector()}"),
            ],
        ),
        bars(
            "Top agents by cost",
            "The eight agents with the highest cost in the time range; click one to filter by it. Code "
            "outside `labels(agent=…)` is `unattributed`.",
            f"sort_desc(topk(8, {by_agent}))",
            "{{agent}}",
            width=8,
            unit=USD,
            color=fixed_color(DOLLARS),
            links=links.of_bar("llm-cost", "agent"),
        ),
    ]


def by_label() -> list[Json]:
    """Return the cost by provider, by model and by phase, and how much of it is approximate."""
    costs = [
        bars(
            f"Cost by {label}",
            description,
            f"sort_desc(topk(8, {or_zero(in_range(COST, label), like=in_range(CALLS, label))}))",
            f"{{{{{label}}}}}",
            width=6,
            unit=USD,
            color=fixed_color(DOLLARS),
            links=links.of_bar("llm-cost", label),
        )
        for label, description in (
            (
                "provider",
                "Cost by provider in the time range, at list prices and configured prices. Compare it with "
                "the providers' invoices.",
            ),
            (
                "model",
                "The eight models with the highest cost in the time range. For the most expensive one, check "
                "which phases a smaller model can handle.",
            ),
            (
                "phase",
                "The eight workflow phases with the highest cost in the time range. If a phase costs more "
                "than it is worth, use a smaller model or run it less often.",
            ),
        )
    ]
    approximated = bars(
        "Approximate cost by reason",
        "Tokens in the time range whose cost is approximate, because the price of their tier, region, fee or "
        "the like is unknown. Add `prices.factors` or `prices.overrides` to the configuration.",
        f'sort_desc({APPROXIMATED} > 0) or on () label_replace(vector(0), "reason", "none", "", "")',
        "{{reason}}",
        width=6,
        unit="short",
        color=BY_VALUE,
        defaults=color_thresholds((1, WARNING)),
    )
    return [*costs, approximated]


def caching() -> list[Json]:
    """Return the panels about token types and caching."""
    prompt = in_range(TOKENS, MODEL, token_type=matches("input|cache_.*"))
    read = in_range(TOKENS, MODEL, token_type=matches("cache_read.*"))
    writes = in_range(COST, MODEL, token_type=matches("cache_write.*"))
    return [
        bars(
            "Cost by token type",
            "Cost in the time range by token type. If `input` dominates, cache the common part of prompts; "
            "if `output` or `reasoning` does, ask for shorter answers.",
            f"sort_desc({in_range(COST, 'token_type')})",
            "{{token_type}}",
            width=8,
            unit=USD,
            color=fixed_color(DOLLARS),
        ),
        table(
            "Caching by model",
            "Savings from caching, the cost of cache writes and the share of prompt tokens read from a "
            "cache. If writes cost much and few tokens are read, caches expire before they are used.",
            {"provider": "Provider", "model": "Model"},
            {
                "Savings": savings(),
                "Cache write cost": or_zero(writes, like=prompt),
                "Cache read share": f"({or_zero(read, like=prompt)}) / ({prompt} > 0)",
            },
            width=16,
            overrides=[
                override(
                    "Model", links=[links.filtered("llm-cost", "Show this model only", {"model": links.CELL})]
                ),
                override("Savings", **{**MONEY, "min": None}),
                override("Cache write cost", **MONEY),
                override("Cache read share", unit="percentunit", decimals=0, color=fixed_color(WORK)),
            ],
            totals=["Savings", "Cache write cost"],
        ),
    ]


def combinations() -> list[Json]:
    """Return the table of the most expensive combinations of labels."""
    labels = {"provider": "Provider", "model": "Model", "agent": "Agent", "phase": "Phase"}
    by = ", ".join(labels)
    calls, missing = in_range(CALLS, by), f"topk(100, {unpriced(by)} > 0)"
    rows = f"(topk(100, {in_range(COST, by)}) or 0 * {missing})"
    return [
        table(
            "Cost by provider, model, agent and phase",
            "The hundred most expensive combinations in the time range, and those with unpriced tokens, "
            "whose cost is missing. If the cost per call is high, try a smaller model or a shorter prompt; "
            "if there are many cheap calls, try caching or batching.",
            labels,
            {
                "Cost": rows,
                "Calls": f"({calls} > 0) and {rows}",
                "Unpriced tokens": missing,
            },
            ratio=("Cost per call", "Cost", "Calls"),
            overrides=[
                override("Cost", **MONEY),
                override("Calls", decimals=0, unit="locale"),
                override("Cost per call", **{**MONEY, "decimals": 5}),
                override("Unpriced tokens", **UNPRICED),
                *(
                    override(
                        name,
                        links=[links.filtered("llm-cost", f"Show this {label} only", {label: links.CELL})],
                    )
                    for label, name in labels.items()
                    if label != "agent"
                ),
                override("Agent", links=[links.agent_details(links.CELL)]),
                override(
                    "Calls",
                    links=[links.calls({label: links.cell_of(name) for label, name in labels.items()})],
                ),
            ],
            totals=["Cost", "Calls"],
        )
    ]


def board() -> Json:
    """Return the dashboard."""
    return dashboard(
        "llm-cost",
        "LLM cost",
        "Cost of LLM calls by provider, model, agent and phase, with a forecast for the month.",
        {
            "": [(3, key_figures()), (11, over_time())],
            "By provider, model and phase": [(11, by_label())],
            "Efficiency and caching": [(3, efficiency()), (10, caching())],
            "Combinations": [(13, combinations())],
        },
    )
