"""LLM cost: what is spent, by whom, and what caching saves."""

from __future__ import annotations

from grafana.board import dashboard
from grafana.panels import (
    BY_VALUE,
    DOLLARS,
    MONEY,
    WARNING,
    WORK,
    Json,
    bars,
    by_quarter,
    fixed,
    named,
    stat,
    steps,
    table,
    target,
    to_agents,
)
from grafana.queries import CALLS, COST, TOKENS, equals, in_range, matches, or_zero, selector, total

MODEL = "provider, model"
SINCE_UNPRICED = total(f"increase(llm_unpriced_tokens_total{selector()}[$__range])")


def saved(by: str = MODEL) -> str:
    """Return what reading from caches saved by model, less what writing to them cost more than plain input.

    Without caches, what was read from and written to them would have cost what the model's plain input did.
    """
    price = (
        f"({in_range(COST, by, token_type=equals('input'))}"
        f" / ({in_range(TOKENS, by, token_type=equals('input'))} > 0))"
    )
    cached = in_range(TOKENS, by, token_type=matches("cache_.*"))
    paid = in_range(COST, by, token_type=matches("cache_.*"))
    return f"{price} * {cached} - {paid}"


def headlines() -> list[Json]:
    """Return the numbers on top."""
    week, month = in_range(COST, window="7d"), in_range(COST)
    return [
        stat(
            "Spent",
            "US dollars spent in the time range above, to the minute. This is the number to hold against "
            "the bill.",
            or_zero(in_range(COST)),
            unit="currencyUSD",
            color=fixed(DOLLARS),
        ),
        stat(
            "Today",
            "US dollars spent since midnight. Far above the same hour of other days: the graph below says "
            "who.",
            or_zero(in_range(COST)),
            unit="currencyUSD",
            color=fixed(DOLLARS),
            since="now/d",
        ),
        stat(
            "This month",
            "US dollars spent since the month began. Hold it against the budget of the month.",
            or_zero(in_range(COST)),
            unit="currencyUSD",
            color=fixed(DOLLARS),
            since="now/M",
        ),
        stat(
            "By month's end",
            "What the month will have cost if the rest of it goes on like the last seven days. Above the "
            "budget: there is still time to change something. In the first week of use it is too low.",
            or_zero(f"{month} + {week} / 604800 * (86400 * scalar(days_in_month()) - $__range_s)"),
            unit="currencyUSD",
            color=fixed(DOLLARS),
            since="now/M",
        ),
        stat(
            "Last hour",
            "US dollars spent in the last sixty minutes. Far above what an hour of the range costs on "
            "average: something has just started to spend.",
            or_zero(in_range(COST, window="1h")),
            unit="currencyUSD",
            color=fixed(DOLLARS),
        ),
        stat(
            "Per call",
            "What a call cost on average in the time range. When it rises, prompts have grown, caches miss, "
            "or a dearer model is used: the table at the bottom says by whom.",
            or_zero(f"{in_range(COST)} / ({in_range(CALLS)} > 0)"),
            unit="currencyUSD",
            color=fixed(DOLLARS),
            defaults={"decimals": 4},
        ),
        stat(
            "Saved by caching",
            "What prompts read from caches would have cost more as plain input, less what writing the "
            "caches cost more. Below zero, caches are written and not read: they expire too soon, or "
            "prompts begin differently.",
            or_zero(total(saved())),
            unit="currencyUSD",
            color=BY_VALUE,
            defaults={"min": None, **steps((-1e9, WARNING), (0, DOLLARS))},
        ),
        stat(
            "Unpriced tokens",
            "Tokens of models that no price list has: they are in no sum of dollars here. Anything but 0 "
            "means that the bill will be higher; give the model a price in the configuration.",
            or_zero(SINCE_UNPRICED),
            unit="short",
            color=BY_VALUE,
            defaults={"decimals": 0, **steps((1, WARNING))},
        ),
    ]


def over_time() -> list[Json]:
    """Return what is spent hour by hour, and who spends most."""
    by_agent = or_zero(in_range(COST, "agent"), like=in_range(CALLS, "agent"))
    return [
        by_quarter(
            "Cost an hour, by model",
            "US dollars an hour, stacked: the height is what everything together costs. A band that widens "
            "while the others do not is the model to look at. Dashed red: the thresholds for an hour that "
            "are configured; the name of one that is for a model or agent says so.",
            COST,
            "model",
            width=16,
            unit="currencyUSD",
            limits=[
                target(
                    "max by (threshold, provider, model, agent, phase)"
                    f" (llm_cost_threshold_usd{selector(window=equals('hour'))})",
                    "threshold {{threshold}} {{model}} {{agent}}",
                )
            ],
        ),
        bars(
            "Top spenders",
            "The ten agents that spent most in the time range. One bar far longer than the rest is where "
            "saving starts: click it. Code that runs outside labels(agent=…) is unattributed.",
            f"sort_desc(topk(10, {by_agent}))",
            "{{agent}}",
            width=8,
            unit="currencyUSD",
            color=fixed(DOLLARS),
            links=[to_agents("${__field.labels.agent}")],
        ),
    ]


def split() -> list[Json]:
    """Return what providers, models and phases cost."""
    return [
        bars(
            f"Cost by {label}",
            description,
            f"sort_desc(topk(10, {or_zero(in_range(COST, label), like=in_range(CALLS, label))}))",
            f"{{{{{label}}}}}",
            width=8,
            unit="currencyUSD",
            color=fixed(DOLLARS),
        )
        for label, description in (
            (
                "provider",
                "What each provider will bill for the time range, of list prices and what the configuration "
                "says. Hold it against their invoices.",
            ),
            (
                "model",
                "The ten models that cost most in the time range. For the dearest one, try "
                "which of its phases a smaller model does as well.",
            ),
            (
                "phase",
                "The ten steps of the workflow that cost most in the time range. A phase that costs more "
                "than it is worth can run on a smaller model, or less often.",
            ),
        )
    ]


def caching() -> list[Json]:
    """Return what caches cost and save."""
    prompt = in_range(TOKENS, MODEL, token_type=matches("input|cache_.*"))
    read = in_range(TOKENS, MODEL, token_type=matches("cache_read.*"))
    writes = in_range(COST, MODEL, token_type=matches("cache_write.*"))
    return [
        bars(
            "Cost by token type",
            "What was paid for. Much of it for input: cache what prompts have in common. Much of it for "
            "output or reasoning: ask for less of it.",
            f"sort_desc({in_range(COST, 'token_type')})",
            "{{token_type}}",
            width=8,
            unit="currencyUSD",
            color=fixed(DOLLARS),
        ),
        table(
            "Caching by model",
            "What caches did for each model: the share of prompt tokens that were read from them, what "
            "writing them cost, and what they saved after that. A low share of reads beside dear writes is "
            "a cache that expires before it is used.",
            {"provider": "Provider", "model": "Model"},
            {
                "Saved": saved(),
                "Paid for writes": or_zero(writes, like=prompt),
                "Read from caches": f"{or_zero(read, like=prompt)} / ({prompt} > 0)".replace(
                    or_zero(read, like=prompt), f"({or_zero(read, like=prompt)})"
                ),
            },
            width=16,
            overrides=[
                named("Saved", **{**MONEY, "min": None}),
                named("Paid for writes", **MONEY),
                named("Read from caches", unit="percentunit", decimals=0, color=fixed(WORK)),
            ],
            totals=["Saved", "Paid for writes"],
        ),
    ]


def spenders() -> list[Json]:
    """Return the table of who spends: a row for each provider, model, agent and phase that made calls."""
    labels = {"provider": "Provider", "model": "Model", "agent": "Agent", "phase": "Phase"}
    by = ", ".join(labels)
    calls, cost = in_range(CALLS, by), in_range(COST, by)
    return [
        table(
            "Who spends",
            "Provider, model, agent and phase of every dollar in the time range, the dearest hundred first. "
            "A high cost per call wants a smaller model or a shorter prompt; many cheap calls want caching "
            "or batching.",
            labels,
            {
                "Cost": f"topk(100, {cost})",
                "Calls": f"({calls} > 0) and topk(100, {cost})",
            },
            ratio=("Cost per call", "Cost", "Calls"),
            overrides=[
                named("Cost", **MONEY),
                named("Calls", decimals=0, unit="locale"),
                named("Cost per call", **{**MONEY, "decimals": 5}),
                named("Agent", links=[to_agents("${__value.raw}")]),
            ],
            totals=["Cost", "Calls"],
        )
    ]


def board() -> Json:
    """Return the dashboard."""
    return dashboard(
        "llm-cost",
        "LLM cost",
        "What LLM calls cost: today, this month and at its end, by provider, model, agent and phase, to the "
        "cent.",
        [(4, headlines()), (10, over_time()), (8, split()), (9, caching()), (12, spenders())],
    )
