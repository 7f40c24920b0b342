"""The dashboard of agents and phases: their costs and calls, compared with the previous range."""

from __future__ import annotations

from . import links
from .board import dashboard
from .panels import (
    BY_VALUE,
    DOLLARS,
    ERROR,
    ERROR_RATE,
    ERROR_RATE_THRESHOLDS,
    MONEY,
    UNPRICED,
    USD,
    WARNING,
    WORK,
    Json,
    bars,
    color_thresholds,
    fixed_color,
    graph,
    heading,
    hourly_graph,
    listed,
    override,
    stat,
    table,
    target,
)
from .queries import (
    CALLS,
    COST,
    ERRORS,
    TOKENS,
    Queries,
    matches,
    or_zero,
    previous_range,
    total,
)

CHANGE = {
    "unit": "percentunit",
    "decimals": 0,
    "min": None,
    "color": BY_VALUE,
    "custom__cellOptions": {"type": "color-text"},
    **color_thresholds((0.25, WARNING), (1, ERROR)),
}
"""How a cost change is shown: a warning from +25 %, red from +100 %."""


def cost_change(queries: Queries, by: str = "") -> str:
    """Return the relative change of the cost: no data if the previous cost was under 1 % of it."""
    now, then = queries.in_range(COST, by), previous_range(queries.in_range(COST, by))
    return f"{now} / ({then} > 0.01 * {now}) - 1"


def key_figures(queries: Queries) -> list[Json]:
    """Return the key figures of a time range."""
    failed = or_zero(queries.in_range(ERRORS))
    return [
        stat(
            "Cost",
            "Cost of the selected agents in the time range. Select one agent to see its cost by phase and "
            "token type.",
            or_zero(queries.in_range(COST)),
            unit=USD,
            color=fixed_color(DOLLARS),
        ),
        stat(
            "Cost change",
            "Cost compared with the previous range of the same length. If the work is the same but the cost"
            " doubled, look for a longer prompt or a different model. There is no number if the previous "
            "range cost nothing, or almost nothing.",
            cost_change(queries),
            unit="percentunit",
            color=BY_VALUE,
            defaults={
                "noValue": "no past",
                **{key: CHANGE[key] for key in ("decimals", "min", "thresholds")},
            },
        ),
        stat(
            "Calls",
            "Finished calls in the time range, including failed ones. If cost grows faster than calls, each"
            " call has become more expensive.",
            or_zero(queries.in_range(CALLS)),
            unit="short",
            color=fixed_color(WORK),
        ),
        stat(
            "Error rate",
            "Share of calls in the time range that failed. Above 1 %, check the errors below; above 5 %, "
            "users notice.",
            or_zero(f"({failed}) / ({queries.in_range(CALLS)} > 0)"),
            unit="percentunit",
            color=BY_VALUE,
            defaults={"max": 1, "decimals": 2, **ERROR_RATE_THRESHOLDS},
        ),
    ]


def efficiency(queries: Queries) -> list[Json]:
    """Return the figures that say why costs are high."""
    prompt = queries.in_range(TOKENS, token_type=matches("input|cache_.*"))
    return [
        stat(
            "Cost per call",
            "Average cost of a call in the time range. If one agent's calls cost ten times as much as "
            "another's, try a smaller model for it.",
            or_zero(f"{queries.in_range(COST)} / ({queries.in_range(CALLS)} > 0)"),
            unit=USD,
            color=fixed_color(DOLLARS),
            defaults={"decimals": 4},
        ),
        stat(
            "Tokens",
            "Tokens of all types in the time range. If cost grows faster than tokens, models are more "
            "expensive or caches are hit less often.",
            or_zero(queries.in_range(TOKENS)),
            unit="short",
            color=fixed_color(WORK),
        ),
        stat(
            "Cache read share",
            "Share of prompt tokens read from a cache, at a fraction of the input price. If it is low for "
            "an agent whose prompts all start the same way, enable prompt caching.",
            or_zero(
                f"({or_zero(queries.in_range(TOKENS, token_type=matches('cache_read.*')))}) / ({prompt} > 0)"
            ),
            unit="percentunit",
            color=fixed_color(WORK),
            defaults={"max": 1, "decimals": 0},
        ),
        stat(
            "Calls in flight",
            "Calls currently in progress. If the number only rises, calls are hanging; check the latency "
            "dashboard.",
            or_zero(total(f"llm_calls_in_flight{queries.selector()}")),
            unit="short",
            color=fixed_color(WORK),
            defaults={"decimals": 0},
        ),
    ]


def costs(queries: Queries) -> list[Json]:
    """Return the graphs of cost over time."""
    return [
        hourly_graph(
            "Cost per hour by agent",
            "Cost per hour, stacked by agent. If one band grows and the others do not, that agent changed: "
            "a new prompt, a new model or a loop.",
            COST,
            "agent",
            width=12,
            unit=USD,
            queries=queries,
        ),
        hourly_graph(
            "Cost per hour by phase",
            "Cost per hour of each workflow phase, stacked. If one phase keeps running while the next does "
            "not start, work is stuck there.",
            COST,
            "phase",
            width=12,
            unit=USD,
            queries=queries,
        ),
    ]


def usage(queries: Queries) -> list[Json]:
    """Return the panels of tokens, calls and errors."""
    calls = queries.in_range(CALLS, "agent")
    per_hour = "* 3600000 / $__interval_ms"
    return [
        bars(
            "Tokens by type",
            "Tokens in the time range by type; types do not overlap. Much `input` and little `cache_read` "
            "means that caching could save money. `reasoning` is priced like `output`.",
            f"sort_desc({queries.in_range(TOKENS, 'token_type')})",
            "{{token_type}}",
            width=6,
            unit="short",
            color=fixed_color(WORK),
        ),
        graph(
            "Calls and errors per hour",
            "Calls and failed calls per hour. If errors rise together with calls, you are hitting a limit; "
            "if errors rise alone, check the provider and your latest changes.",
            [
                target(f"{queries.per_step(CALLS)} {per_hour}", "calls"),
                target(or_zero(f"{queries.per_step(ERRORS)} {per_hour}"), "errors"),
                target(f"4 * ({queries.first_quarter(CALLS)})", "calls", instant=True),
            ],
            width=12,
            unit="short",
            axis="per hour",
            interval="15m",
            maxDataPoints=120,
            overrides=[
                override("calls", color=fixed_color(WORK)),
                override("errors", color=fixed_color(ERROR)),
            ],
        ),
        bars(
            "Error rate by agent",
            "The eight agents with the highest error rates in the time range. If it is one agent, check its"
            " prompts and limits; if it is all of them, check the provider.",
            f"sort_desc(topk(8, ({or_zero(queries.in_range(ERRORS, 'agent'), like=calls)}) / ({calls} > 0)))",
            "{{agent}}",
            width=6,
            unit="percentunit",
            color=BY_VALUE,
            links=links.of_bar("llm-agents", "agent", queries.filters, failed=True),
            defaults={"decimals": 1, **ERROR_RATE_THRESHOLDS},
        ),
    ]


def comparison(queries: Queries) -> list[Json]:
    """Return the tables of agents and phases."""

    def columns(by: str) -> dict[str, str]:
        calls = queries.in_range(CALLS, by)
        failed = or_zero(queries.in_range(ERRORS, by), like=calls)
        return {
            "Cost": or_zero(queries.in_range(COST, by), like=calls),
            "Previous cost": or_zero(previous_range(queries.in_range(COST, by)), like=calls),
            "Change": cost_change(queries, by),
            "Calls": calls,
            "Cost per call": f"{queries.in_range(COST, by)} / ({calls} > 0)",
            "Error rate": f"({failed}) / ({calls} > 0)",
            "Unpriced tokens": f"{queries.unpriced(by)} > 0",
        }

    overrides = [
        override("Cost", **MONEY),
        override("Previous cost", **MONEY),
        override("Change", **CHANGE),
        override("Calls", decimals=0, unit="locale"),
        override("Cost per call", **{**MONEY, "decimals": 5}),
        override("Error rate", **ERROR_RATE),
        override("Unpriced tokens", **UNPRICED),
        *(
            override(
                heading(label),
                links=[
                    links.filtered(
                        "llm-agents",
                        f"Show this {listed([label])} only",
                        {label: links.CELL},
                        queries.filters,
                    ),
                    links.calls({label: links.CELL}),
                ],
            )
            for label in ("agent", "phase", *queries.labels)
        ),
    ]
    return [
        table(
            "Agents",
            "Each agent's cost and calls, compared with the previous range of the same length. An agent "
            "without a change is new. If the cost rose and the calls did not, check the cost per call. "
            "The cost of unpriced tokens is missing.",
            {"agent": "Agent"},
            columns("agent"),
            overrides=overrides,
            totals=["Cost", "Previous cost", "Calls"],
        ),
        table(
            "Phases",
            "Each phase's cost and calls, compared with the previous range of the same length. The phase "
            "that grew is where to look for the change.",
            {"phase": "Phase"},
            columns("phase"),
            overrides=overrides,
            totals=["Cost", "Previous cost", "Calls"],
        ),
        *(
            table(
                f"By {listed([label])}",
                f"Cost and calls by {listed([label])}, compared with the previous range of the same length. "
                "Filter by the one that grew to see which of its agents and phases changed.",
                {label: heading(label)},
                columns(label),
                overrides=overrides,
                totals=["Cost", "Previous cost", "Calls"],
            )
            for label in queries.labels
        ),
    ]


def board(queries: Queries) -> Json:
    """Return the dashboard."""
    return dashboard(
        "llm-agents",
        "LLM agents and phases",
        "Cost, calls and errors of each agent and workflow phase, compared with the previous range.",
        {
            "": [(3, key_figures(queries))],
            "Costs over time": [(9, costs(queries))],
            "Calls, tokens and errors": [(3, efficiency(queries)), (11, usage(queries))],
            "Comparison with the previous range": [(10, [each]) for each in comparison(queries)],
        },
        filters=queries.filters,
    )
