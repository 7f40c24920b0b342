"""PromQL building blocks for the dashboards.

Costs, calls, errors and tokens come from the sums that prometheus/increases.py records: exact to the minute,
and as fast over a month as over an hour. A query returns 0 where nothing was counted. It returns no data
where Prometheus does not evaluate our rules, because 0 would be wrong there.
"""

from __future__ import annotations

from collections.abc import Iterable

from prometheus.increases import CALLER, LEVELS, prefix

FILTERS = CALLER
"""The labels that dashboards are filtered by. Each filter lists the values left by the filters before it."""

COST = "llm_cost_usd_total"
CALLS = "llm_calls_total"
ERRORS = "llm_call_errors_total"
TOKENS = "llm_tokens_total"

RULES_EVALUATED = "llm:utc_day:number"
"""A recorded series that exists whenever Prometheus evaluates our rules."""


def selector(filters: Iterable[str] = FILTERS, **matchers: str) -> str:
    """Return a label selector with the dashboard's variables and with fixed matchers such as `="openai"`."""
    fixed = [f"{label}{matcher}" for label, matcher in matchers.items()]
    return "{" + ", ".join([*fixed, *(f'{label}=~"${label}"' for label in filters)]) + "}"


def equals(value: str) -> str:
    """Return a matcher for one value."""
    return f'="{value}"'


def matches(pattern: str) -> str:
    """Return a matcher for a regular expression."""
    return f'=~"{pattern}"'


def total(expr: str, by: str = "") -> str:
    """Return the sum of an expression, by labels if given."""
    return f"sum by ({by}) ({expr})" if by else f"sum ({expr})"


def recorded(
    metric: str, operation: str, by: str = "", filters: Iterable[str] = FILTERS, **matchers: str
) -> tuple[str, ...]:
    """Return the selectors of a recorded sum at the coarsest level that can answer, then at the finest level.

    Only one of the selectors finds series. If every filter on a label that the coarse level lacks is set to
    All, the coarse series answer: those labels are the empty string, which `.*` matches. Otherwise the
    matcher on the label `all`, which no series has, lets the fine series through.

    Args:
        metric: The name of the counter.
        operation: The last part of the recorded name: `increase`, `increase15m` or `increase1m`.
        by: The labels to group by, separated by commas.
        filters: The labels that the dashboard is filtered by.
        matchers: Fixed matchers by label.
    """
    needed = {*by.split(", "), *matchers} & {*FILTERS, "token_type"}
    levels = list(LEVELS[metric])
    if "token_type" not in needed:
        levels = [level for level in levels if "token_type" not in level] or levels
    coarse = [level for level in levels if not {*CALLER} <= {*level} and needed <= {*level}]
    (finest,) = (level for level in levels if {*CALLER} <= {*level} and needed <= {*level})
    selectors = []
    if coarse:
        selectors.append(f"{prefix(coarse[0], metric)}:{operation}{selector(filters, **matchers)}")
        absent = [f"${label}" for label in filters if label not in coarse[0]]
        matchers["all"] = f'!~"{"".join(absent)}"'
    return (*selectors, f"{prefix(finest, metric)}:{operation}{selector(filters, **matchers)}")


def any_of(series: Iterable[str], query: str) -> str:
    """Return a query over whichever of the selectors finds series; `{}` stands for the selector."""
    return " or ".join(query.replace("{}", each) for each in series)


def in_range(
    metric: str, by: str = "", window: str = "$__range", filters: Iterable[str] = FILTERS, **matchers: str
) -> str:
    """Return the exact increase of a counter in a window that ends now.

    See prometheus/increases.py: the days that ended in it, plus today at its end, minus today at its start.
    """
    day, today, negative = (
        recorded(metric, "increase", by, filters, part=equals(part), **matchers)
        for part in ("day", "today", "before")
    )
    parts = " or ".join(
        (
            any_of(day, f"sum_over_time({{}}[{window}])"),
            any_of(today, "{}"),
            any_of(negative, f"{{}} offset {window}"),
        )
    )
    # Rounded, because the difference of two equal floating-point sums can be 1e-14.
    return f"round({total(f'({parts}) and on () {RULES_EVALUATED}', by)}, 1e-9)"


def unpriced(by: str = "", filters: Iterable[str] = FILTERS) -> str:
    """Return the tokens without a known price in the time range, as Prometheus extrapolates them."""
    return total(f"increase(llm_unpriced_tokens_total{selector(filters)}[$__range])", by)


def previous_range(expr: str) -> str:
    """Return an expression as it was one time range ago."""
    return f"last_over_time(({expr})[1m:1m] offset $__range)"


def per_step(metric: str, by: str = "", filters: Iterable[str] = FILTERS) -> str:
    """Return the increase in each step of a graph; a step is a quarter of an hour or longer."""
    # A quarter of an hour is recorded within the minute after its end.
    series = recorded(metric, "increase15m", by, filters)
    return total(any_of(series, "sum_over_time({}[$__interval] offset -1m)"), by)


def first_quarter(metric: str, by: str = "", filters: Iterable[str] = FILTERS) -> str:
    """Return the increase in the last 15 minutes, as long as `per_step` has no recorded quarter to show."""
    (minutes,) = recorded(metric, "increase1m", ", ".join(next(iter(LEVELS[metric]))), filters)
    quarter = total(any_of(recorded(metric, "increase15m", by, filters), "sum_over_time({}[30m])"))
    return f"{total(f'sum_over_time({minutes}[15m])', by)} unless on () {quarter}"


def or_zero(expr: str, like: str = "") -> str:
    """Return a query that falls back to 0: a single one, or one for each series that `like` finds."""
    return f"{expr} or 0 * {like or f'max({RULES_EVALUATED})'}"
