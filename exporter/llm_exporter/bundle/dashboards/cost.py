"""The dashboard of costs: by provider, model, agent and phase, and what caching saves."""

from __future__ import annotations

from . import links
from .board import dashboard
from .panels import (
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
    heading,
    hourly_graph,
    legend,
    listed,
    override,
    stat,
    table,
    target,
)
from .queries import (
    CALLS,
    COST,
    TOKENS,
    Queries,
    equals,
    matches,
    or_zero,
    total,
)

MODEL = "provider, model"


def savings(queries: Queries) -> str:
    """Return the savings from caching by model.

    That is what cached tokens would have cost at the model's price for plain input, minus what they did cost.
    """
    price = (
        f"({queries.in_range(COST, MODEL, token_type=equals('input'))}"
        f" / ({queries.in_range(TOKENS, MODEL, token_type=equals('input'))} > 0))"
    )
    cached = queries.in_range(TOKENS, MODEL, token_type=matches("cache_.*"))
    paid = queries.in_range(COST, MODEL, token_type=matches("cache_.*"))
    return f"{price} * {cached} - {paid}"


def key_figures(queries: Queries) -> list[Json]:
    """Return the row of key figures."""
    week, month = queries.in_range(COST, window="7d"), queries.in_range(COST)
    return [
        stat(
            "Cost",
            "Cost in the time range, exact to the minute. Compare this number with the provider's bill.",
            or_zero(queries.in_range(COST)),
            unit=USD,
            color=fixed_color(DOLLARS),
        ),
        stat(
            "Cost today",
            "Cost since midnight. If it is far above the same time on other days, the graph below shows "
            "which model causes it.",
            or_zero(queries.in_range(COST)),
            unit=USD,
            color=fixed_color(DOLLARS),
            since="now/d",
        ),
        stat(
            "Cost this month",
            "Cost since the start of the month. Compare it with the monthly budget.",
            or_zero(queries.in_range(COST)),
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


def efficiency(queries: Queries) -> list[Json]:
    """Return the figures that say why costs are high, and what is missing."""
    return [
        stat(
            "Cost in the last hour",
            "Cost in the last 60 minutes. If it is far above the hourly average, something has just started"
            " to spend.",
            or_zero(queries.in_range(COST, window="1h")),
            unit=USD,
            color=fixed_color(DOLLARS),
        ),
        stat(
            "Cost per call",
            "Average cost of a call in the time range. If it rises, prompts have grown, caches are missed "
            "or a more expensive model is used; see the table at the bottom.",
            or_zero(f"{queries.in_range(COST)} / ({queries.in_range(CALLS)} > 0)"),
            unit=USD,
            color=fixed_color(DOLLARS),
            defaults={"decimals": 4},
        ),
        stat(
            "Cache savings",
            "What cached prompt tokens would have cost as plain input, minus the extra cost of writing the "
            "caches. If it is negative, caches are written but not read: they expire too soon, or prompts "
            "start differently.",
            or_zero(total(savings(queries))),
            unit=USD,
            color=BY_VALUE,
            defaults={"min": None, **color_thresholds((-1e9, WARNING), (0, DOLLARS))},
        ),
        stat(
            "Unpriced tokens",
            "Tokens of models without a known price; their cost is missing on this dashboard. If it is not "
            "0, add a price to the configuration.",
            or_zero(queries.unpriced()),
            unit="short",
            color=BY_VALUE,
            defaults={"decimals": 0, **color_thresholds((1, WARNING))},
        ),
    ]


def over_time(queries: Queries) -> list[Json]:
    """Return the graph of cost over time and the most expensive agents."""
    by_agent = or_zero(queries.in_range(COST, "agent"), like=queries.in_range(CALLS, "agent"))
    return [
        hourly_graph(
            "Cost per hour by model",
            "Cost per hour, stacked by model. If one band grows and the others do not, check that model. "
            "Dashed red lines are the hourly thresholds, and diamonds are the costs of calls with a trace.",
            COST,
            "model",
            width=16,
            unit=USD,
            queries=queries,
            limits=[
                target(
                    f"max by (threshold, {', '.join(queries.caller)})"
                    f" (llm_cost_threshold_usd{queries.selector(window=equals('hour'))})",
                    " ".join(["threshold {{threshold}} {{model}} {{agent}}", *map(legend, queries.labels)]),
                ),
                exemplars(f"{COST}{queries.selector()}"),
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
            links=links.of_bar("llm-cost", "agent", queries.filters),
        ),
    ]


def bars_of_costs(queries: Queries, label: str, description: str, *, width: int) -> Json:
    """Return the eight highest costs by a label."""
    costs = or_zero(queries.in_range(COST, label), like=queries.in_range(CALLS, label))
    return bars(
        f"Cost by {listed([label])}",
        description,
        f"sort_desc(topk(8, {costs}))",
        legend(label),
        width=width,
        unit=USD,
        color=fixed_color(DOLLARS),
        links=links.of_bar("llm-cost", label, queries.filters),
    )


def by_declared(queries: Queries, label: str) -> list[Json]:
    """Return the cost by a declared label: over time, and of the highest values."""
    name = listed([label])
    return [
        hourly_graph(
            f"Cost per hour by {name}",
            f"Cost per hour, stacked by {name}. If one band grows and the others do not, filter by it to see "
            "which of its agents and models cost more.",
            COST,
            label,
            width=16,
            unit=USD,
            queries=queries,
        ),
        bars_of_costs(
            queries,
            label,
            f"The eight highest costs by {name} in the time range; click one to filter by it. Calls without "
            f"the label are `unattributed`. Costs from before the rules had it have no {name}.",
            width=8,
        ),
    ]


def by_label(queries: Queries) -> list[Json]:
    """Return the cost by provider, by model and by phase, and how much of it is approximate."""
    tokens = f"increase(llm_price_approximated_tokens_total{queries.selector()}[$__range])"
    by_reason = total(tokens, "reason")
    costs = [
        bars_of_costs(queries, label, description, width=6)
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
        "Tokens with approximate cost",
        "Tokens in the time range whose cost is approximate, because the price of their tier, region, fee or "
        "the like is unknown. Add `prices.factors` or `prices.overrides` to the configuration.",
        f'sort_desc({by_reason} > 0) or on () label_replace(vector(0), "reason", "none", "", "")',
        "{{reason}}",
        width=6,
        unit="short",
        color=BY_VALUE,
        defaults=color_thresholds((1, WARNING)),
    )
    return [*costs, approximated]


def caching(queries: Queries) -> list[Json]:
    """Return the panels about token types and caching."""
    prompt = queries.in_range(TOKENS, MODEL, token_type=matches("input|cache_.*"))
    read = queries.in_range(TOKENS, MODEL, token_type=matches("cache_read.*"))
    writes = queries.in_range(COST, MODEL, token_type=matches("cache_write.*"))
    return [
        bars(
            "Cost by token type",
            "Cost in the time range by token type. If `input` dominates, cache the common part of prompts; "
            "if `output` or `reasoning` does, ask for shorter answers.",
            f"sort_desc({queries.in_range(COST, 'token_type')})",
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
                "Savings": savings(queries),
                "Cache write cost": or_zero(writes, like=prompt),
                "Cache read share": f"({or_zero(read, like=prompt)}) / ({prompt} > 0)",
            },
            width=16,
            overrides=[
                override(
                    "Model",
                    links=[
                        links.filtered(
                            "llm-cost", "Show this model only", {"model": links.CELL}, queries.filters
                        )
                    ],
                ),
                override("Savings", **{**MONEY, "min": None}),
                override("Cache write cost", **MONEY),
                override("Cache read share", unit="percentunit", decimals=0, color=fixed_color(WORK)),
            ],
            totals=["Savings", "Cache write cost"],
        ),
    ]


def combinations(queries: Queries) -> list[Json]:
    """Return the table of the most expensive combinations of labels."""
    labels = {label: heading(label) for label in queries.caller}
    by = ", ".join(labels)
    calls, missing = queries.in_range(CALLS, by), f"topk(100, {queries.unpriced(by)} > 0)"
    rows = f"(topk(100, {queries.in_range(COST, by)}) or 0 * {missing})"
    return [
        table(
            "Cost by combination",
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
                        links=[
                            links.filtered(
                                "llm-cost",
                                f"Show this {listed([label])} only",
                                {label: links.CELL},
                                queries.filters,
                            )
                        ],
                    )
                    for label, name in labels.items()
                    if label != "agent"
                ),
                override("Agent", links=[links.agent_details(links.CELL, queries.filters)]),
                override(
                    "Calls",
                    links=[links.calls({label: links.cell_of(name) for label, name in labels.items()})],
                ),
            ],
            totals=["Cost", "Calls"],
        )
    ]


def board(queries: Queries) -> Json:
    """Return the dashboard."""
    by_declared_labels = [(11, by_declared(queries, label)) for label in queries.labels]
    return dashboard(
        "llm-cost",
        "LLM cost",
        f"Cost of LLM calls by {listed(queries.caller)}, with a forecast for the month.",
        {
            "": [(3, key_figures(queries)), (11, over_time(queries))],
            **({f"By {listed(queries.labels)}": by_declared_labels} if by_declared_labels else {}),
            "By provider, model and phase": [(11, by_label(queries))],
            "Efficiency and caching": [(3, efficiency(queries)), (10, caching(queries))],
            "Combinations": [(13, combinations(queries))],
        },
        filters=queries.filters,
    )
