"""Agents and phases: what one agent, or each, does and costs, and how that has changed."""

from __future__ import annotations

from grafana.board import dashboard
from grafana.panels import (
    BY_VALUE,
    DOLLARS,
    FAILING,
    FAILURE,
    MONEY,
    SHARE_FAILED,
    WARNING,
    WORK,
    Json,
    bars,
    by_quarter,
    fixed,
    lines,
    named,
    stat,
    steps,
    table,
    target,
    to_agents,
)
from grafana.queries import (
    CALLS,
    COST,
    ERRORS,
    TOKENS,
    first_quarter,
    in_range,
    matches,
    or_zero,
    per_step,
    previous_range,
    selector,
    total,
)

CHANGE = {
    "unit": "percentunit",
    "decimals": 0,
    "min": None,
    "color": BY_VALUE,
    "custom__cellOptions": {"type": "color-text"},
    **steps((0.25, WARNING), (1, FAILURE)),
}
"""A cost that grew by a quarter is worth a look; one that doubled, an explanation."""


def changed(by: str = "") -> str:
    """Return by which share more was spent than in the range before: nothing where that had hardly begun."""
    now, then = in_range(COST, by), previous_range(in_range(COST, by))
    return f"{now} / ({then} > 0.01 * {now}) - 1"


def headlines() -> list[Json]:
    """Return the numbers on top."""
    failed = or_zero(in_range(ERRORS))
    prompt = in_range(TOKENS, token_type=matches("input|cache_.*"))
    return [
        stat(
            "Spent",
            "US dollars that the chosen agents spent in the time range. Choose one above to see what it is "
            "made of.",
            or_zero(in_range(COST)),
            unit="currencyUSD",
            color=fixed(DOLLARS),
        ),
        stat(
            "Change",
            "What was spent, against the range of the same length before. Twice as much for the same work "
            "is a prompt that has grown or a model that was changed: compare cost per call below. 0 % where "
            "next to nothing was spent before.",
            or_zero(changed()),
            unit="percentunit",
            color=BY_VALUE,
            defaults={key: CHANGE[key] for key in ("decimals", "min", "thresholds")},
        ),
        stat(
            "Calls",
            "Calls finished in the time range, failed ones included. Cost that grows faster than calls "
            "means that each has become dearer.",
            or_zero(in_range(CALLS)),
            unit="short",
            color=fixed(WORK),
        ),
        stat(
            "Per call",
            "What a call cost on average in the time range. Agents whose calls cost ten times another's are "
            "those to give a smaller model to try.",
            or_zero(f"{in_range(COST)} / ({in_range(CALLS)} > 0)"),
            unit="currencyUSD",
            color=fixed(DOLLARS),
            defaults={"decimals": 4},
        ),
        stat(
            "Failed calls",
            "The share of calls in the time range that failed. Over 1 % look at what they fail of below; "
            "over 5 % users notice.",
            or_zero(f"({failed}) / ({in_range(CALLS)} > 0)"),
            unit="percentunit",
            color=BY_VALUE,
            defaults={"max": 1, "decimals": 2, **FAILING},
        ),
        stat(
            "Tokens",
            "Tokens of every type in the time range. Cost that grows faster than tokens means dearer models "
            "or fewer cache hits, not more work.",
            or_zero(in_range(TOKENS)),
            unit="short",
            color=fixed(WORK),
        ),
        stat(
            "Read from caches",
            "The share of prompt tokens that were read from a cache, at a fraction of their price. Low for "
            "an agent that says the same at the start of every prompt: let it be cached.",
            or_zero(f"({or_zero(in_range(TOKENS, token_type=matches('cache_read.*')))}) / ({prompt} > 0)"),
            unit="percentunit",
            color=fixed(WORK),
            defaults={"max": 1, "decimals": 0},
        ),
        stat(
            "In flight",
            "Calls under way at this moment. A number that only rises is calls that hang: look at the "
            "latency.",
            or_zero(total(f"llm_calls_in_flight{selector()}")),
            unit="short",
            color=fixed(WORK),
            defaults={"decimals": 0},
        ),
    ]


def money() -> list[Json]:
    """Return what agents and phases cost over time."""
    return [
        by_quarter(
            "Cost an hour, by agent",
            "US dollars an hour, stacked. The agent whose band widens while the others do not has changed: "
            "a new prompt, a new model, or a loop. A single high block at night is a job that ran away.",
            COST,
            "agent",
            width=12,
            unit="currencyUSD",
        ),
        by_quarter(
            "Cost an hour, by phase",
            "US dollars an hour of each step of the workflow, stacked. Phases that take turns are a "
            "pipeline; one that goes on alone is work that does not get through to the next.",
            COST,
            "phase",
            width=12,
            unit="currencyUSD",
        ),
    ]


def work() -> list[Json]:
    """Return calls over time, their failures, and the types of their tokens."""
    pace = "* 3600000 / $__interval_ms"
    return [
        bars(
            "Tokens by type",
            "Types do not overlap: their sum is what the providers counted. Much input beside little "
            "cache_read is prompt text that caching would make cheap; reasoning is paid like output.",
            f"sort_desc({in_range(TOKENS, 'token_type')})",
            "{{token_type}}",
            width=6,
            unit="short",
            color=fixed(WORK),
        ),
        lines(
            "Calls and failures an hour",
            "Calls an hour, and those of them that failed. Failures that rise with calls point to a limit; "
            "failures that rise alone, to the provider or to a change of yours.",
            [
                target(f"{per_step(CALLS)} {pace}", "calls"),
                target(or_zero(f"{per_step(ERRORS)} {pace}"), "failed"),
                target(f"4 * ({first_quarter(CALLS)})", "calls", instant=True),
            ],
            width=12,
            unit="short",
            axis="an hour",
            interval="15m",
            maxDataPoints=120,
            overrides=[named("calls", color=fixed(WORK)), named("failed", color=fixed(FAILURE))],
        ),
        bars(
            "Failed calls by agent",
            "The eight agents of whose calls most failed in the time range, failed ones among all. One "
            "agent alone: its prompts or its limits; all alike: the provider.",
            f"sort_desc(topk(8, ({or_zero(in_range(ERRORS, 'agent'), like=in_range(CALLS, 'agent'))})"
            f" / ({in_range(CALLS, 'agent')} > 0)))",
            "{{agent}}",
            width=6,
            unit="percentunit",
            color=BY_VALUE,
            links=[to_agents("${__field.labels.agent}")],
            defaults={"decimals": 1, **FAILING},
        ),
    ]


def compared() -> list[Json]:
    """Return the tables of agents, and of phases."""

    def columns(by: str) -> dict[str, str]:
        calls = in_range(CALLS, by)
        failed = or_zero(in_range(ERRORS, by), like=calls)
        return {
            "Cost": in_range(COST, by),
            "Before": or_zero(previous_range(in_range(COST, by)), like=calls),
            "Change": changed(by),
            "Calls": calls,
            "Per call": f"{in_range(COST, by)} / ({calls} > 0)",
            "Failed": f"({failed}) / ({calls} > 0)",
        }

    overrides = [
        named("Cost", **MONEY),
        named("Before", **MONEY),
        named("Change", **CHANGE),
        named("Calls", decimals=0, unit="locale"),
        named("Per call", **{**MONEY, "decimals": 5}),
        named("Failed", **SHARE_FAILED),
        named("Agent", links=[to_agents("${__value.raw}")]),
    ]
    return [
        table(
            "Agents, and the range before",
            "What each agent cost and did, and what it cost in the range of the same length before. An "
            "agent without a change is new. Dearer with as many calls: look at its cost per call.",
            {"agent": "Agent"},
            columns("agent"),
            width=13,
            overrides=overrides,
            totals=["Cost", "Before", "Calls"],
        ),
        table(
            "Phases, and the range before",
            "What each step of the workflow cost and did, and what it cost in the range of the same length "
            "before. The step that grew is where the change is.",
            {"phase": "Phase"},
            columns("phase"),
            width=11,
            overrides=overrides,
            totals=["Cost", "Before", "Calls"],
        ),
    ]


def board() -> Json:
    """Return the dashboard."""
    return dashboard(
        "llm-agents",
        "LLM agents and phases",
        "What each agent and each step of the workflow costs and does, and how that has changed.",
        [(4, headlines()), (9, money()), (8, work()), (11, compared())],
    )
