"""PromQL building blocks for the dashboards.

Costs, calls, errors and tokens come from the sums that ../increases.py records: exact to the minute,
and as fast over a month as over an hour. A query returns 0 where nothing was counted. It returns no data
where Prometheus does not evaluate our rules, because 0 would be wrong there.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from ..increases import CALLER, labels_of, levels, prefix

BUILT_IN = CALLER[1:]
"""The labels of every call."""

COST = "llm_cost_usd_total"
CALLS = "llm_calls_total"
ERRORS = "llm_call_errors_total"
TOKENS = "llm_tokens_total"

RULES_EVALUATED = "llm:utc_day:number"
"""A recorded series that exists whenever Prometheus evaluates our rules."""


def selector(filters: Iterable[str], **matchers: str) -> str:
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


def any_of(series: Iterable[str], query: str) -> str:
    """Return a query over whichever of the selectors finds series; `{}` stands for the selector."""
    return " or ".join(query.replace("{}", each) for each in series)


def previous_range(expr: str) -> str:
    """Return an expression as it was one time range ago."""
    return f"last_over_time(({expr})[1m:1m] offset $__range)"


def or_zero(expr: str, like: str = "") -> str:
    """Return a query that falls back to 0: a single one, or one for each series that `like` finds."""
    return f"{expr} or 0 * {like or f'max({RULES_EVALUATED})'}"


@dataclass(frozen=True)
class Queries:
    """Queries of recorded sums with the declared labels, filtered by the variables of a dashboard."""

    labels: tuple[str, ...] = ()
    """The declared labels."""
    only: tuple[str, ...] = ()
    """The labels to filter by; by default all."""

    @property
    def caller(self) -> tuple[str, ...]:
        """All labels of a call, without its job."""
        return (*BUILT_IN, *self.labels)

    @property
    def filters(self) -> tuple[str, ...]:
        """The labels that the dashboard is filtered by. Each lists the values left by those before it."""
        return self.only or ("job", *self.labels, *BUILT_IN)

    def selector(self, **matchers: str) -> str:
        """Return a label selector with the variables of the dashboard; see the function of this name."""
        return selector(self.filters, **matchers)

    def recorded(self, metric: str, operation: str, by: str = "", **matchers: str) -> tuple[str, ...]:
        """Return the selectors of a recorded sum: at the coarsest level that can answer, then at the finest.

        Only one of the selectors finds series. If every filter on a label that the coarse level lacks is set
        to All, the coarse series answer: those labels are the empty string, which `.*` matches. Otherwise the
        matcher on the label `all`, which no series has, lets the fine series through.

        Args:
            metric: The name of the counter.
            operation: The last part of the recorded name: `increase`, `increase15m` or `increase1m`.
            by: The labels to group by, separated by commas.
            matchers: Fixed matchers by label.
        """
        needed = {*by.split(", "), *matchers} & {"job", *self.caller, "token_type"}
        of_metric = list(levels(self.labels)[metric])
        if "token_type" not in needed:
            of_metric = [level for level in of_metric if "token_type" not in level] or of_metric
        able = [level for level in of_metric if needed <= {*labels_of(level, self.labels)}]
        coarse = [level for level in able if not {*CALLER} <= {*level}]
        (finest,) = (level for level in able if {*CALLER} <= {*level})
        selectors = []
        if coarse:
            selectors.append(f"{prefix(coarse[0], metric)}:{operation}{self.selector(**matchers)}")
            absent = [f"${label}" for label in self.filters if label not in coarse[0]]
            matchers["all"] = f'!~"{"".join(absent)}"'
        return (*selectors, f"{prefix(finest, metric)}:{operation}{self.selector(**matchers)}")

    def in_range(self, metric: str, by: str = "", window: str = "$__range", **matchers: str) -> str:
        """Return the exact increase of a counter in a window that ends now.

        See ../increases.py: the days that ended in it, plus today at its end, minus today at its start.
        """
        day, today, negative = (
            self.recorded(metric, "increase", by, part=equals(part), **matchers)
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

    def unpriced(self, by: str = "") -> str:
        """Return the tokens without a known price in the time range, as Prometheus extrapolates them."""
        return total(f"increase(llm_unpriced_tokens_total{self.selector()}[$__range])", by)

    def per_step(self, metric: str, by: str = "") -> str:
        """Return the increase in each step of a graph; a step is a quarter of an hour or longer."""
        # A quarter of an hour is recorded within the minute after its end.
        series = self.recorded(metric, "increase15m", by)
        return total(any_of(series, "sum_over_time({}[$__interval] offset -1m)"), by)

    def first_quarter(self, metric: str, by: str = "") -> str:
        """Return the increase in the last 15 minutes, until `per_step` has a recorded quarter to show."""
        (minutes,) = self.recorded(metric, "increase1m", ", ".join(next(iter(levels()[metric]))))
        quarter = total(any_of(self.recorded(metric, "increase15m", by), "sum_over_time({}[30m])"))
        return f"{total(f'sum_over_time({minutes}[15m])', by)} unless on () {quarter}"
