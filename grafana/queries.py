"""The words that the dashboards' queries are written in.

What was spent, called and used comes from the recorded sums (prometheus/increases.py), to the minute and the
cent, over an hour as over a month. Where nothing was counted the answer is 0, never "No data"; but where
Prometheus does not evaluate our rules there is no answer, for 0 would be a wrong one.
"""

from __future__ import annotations

from collections.abc import Iterable

FILTERS = ("job", "provider", "model", "agent", "phase")
"""The labels that a dashboard may be filtered by, each offering what those before it leave."""

COST, CALLS, ERRORS, TOKENS = "llm_cost_usd", "llm_calls", "llm_call_errors", "llm_tokens"
"""What is recorded as sums at some levels; see `recorded`."""
ROLLED_UP = (("provider", "model"), ("agent",), ("phase",))
"""The levels that are a few series, where those of every provider, model, agent and phase are thousands."""
RULES_RUN = "llm:utc_day:number"
"""A recorded series that is there whenever the others could be."""


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
    caller = ", ".join((*FILTERS, "token_type") if metric == COST else FILTERS)  # nobody asks for less
    (minutes,) = recorded(metric, "increase1m", caller, filters)
    quarter = total(either(recorded(metric, "increase15m", by, filters), "sum_over_time({}[30m])"))
    return f"{total(f'sum_over_time({minutes}[15m])', by)} unless on () {quarter}"


def or_zero(expr: str, of: str = "") -> str:
    """Return the query with 0 where it finds nothing: one 0, or one for each series that `of` finds."""
    return f"{expr} or 0 * {of or f'max({RULES_RUN})'}"
