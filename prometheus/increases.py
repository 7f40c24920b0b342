"""The rules that keep what each minute, quarter of an hour and day added: see `HEAD` for how they add up.

`python prometheus/increases.py` rewrites rules/increases.yml, `--check` finds drift.
"""

from __future__ import annotations

import sys
from pathlib import Path

FILE = Path(__file__).parent / "rules" / "increases.yml"

CALLER = ("job", "provider", "model", "agent", "phase")
BY_TYPE = (*CALLER, "token_type")

FAMILIES = (
    (CALLER, "llm_calls_total"),
    (CALLER, "llm_call_errors_total"),
    (BY_TYPE, "llm_cost_usd_total"),
    (BY_TYPE, "llm_tokens_total"),
)
"""What is kept, and by which labels."""

BY_MODEL = ("job", "provider", "model")
FEW = (BY_MODEL, ("job", "agent"), ("job", "phase"))
ROLLED_UP: dict[str, dict[tuple[str, ...], tuple[tuple[str, ...], ...]]] = {
    "llm_calls_total": {CALLER: FEW},
    "llm_call_errors_total": {CALLER: FEW},
    "llm_cost_usd_total": {BY_TYPE: ((*BY_MODEL, "token_type"), CALLER), CALLER: FEW},
    "llm_tokens_total": {BY_TYPE: ((*BY_MODEL, "token_type"),)},
}
"""By which fewer labels it is kept too, for the dashboards that show everybody."""

HEAD = """\
# Written by prometheus/increases.py (make dashboards).
#
# What was spent, called and used, kept so that a month of two hundred agents is added up in milliseconds,
# and to the cent: a range of 30 days reads thirty days' sums, not half a million scrapes of each counter.
#
#   :increase1m    what a minute added; the label `day` (0 or 1) tells today's from yesterday's
#   :increase15m   what a quarter of an hour added, for graphs
#   :increase      in parts: `day`, once when a UTC day is over; `today`, what it has come to so far;
#                  `before`, the same below zero
#
# Each of them by provider, model, agent and phase, and added up by model, by agent and by phase, which are a
# few series where those are thousands.
#
# So what was spent in a range, whole days or not, is the days that ended in it, and today at its end less
# today at its start:
#
#   sum by (agent) (
#       sum_over_time(job_…:llm_cost_usd:increase{part="day"}[30d])
#     or job_…:llm_cost_usd:increase{part="today"}
#     or job_…:llm_cost_usd:increase{part="before"} offset 30d
#   )
#
# A minute's sum is the difference between the counter's last value in it and its last value before it,
# which is exact: increase() would estimate what lies between the scrapes, and lose the call between two of
# its windows. A counter that is less than before is a restarted process: it counts from 0. One that is new
# was first seen at 0. Scrapes that fail for up to ten minutes lose nothing. What a process counted between
# a minute's start and its end in that minute is lost, and so is up to a minute where Prometheus itself is
# restarted. Where Prometheus was down when a range begins, the day it begins in counts whole.
#
# Declared custom labels (project, team …) stay on the raw metrics: increase() over those answers for them.

groups:
  - name: llm_increase
    interval: 1m
    rules:
"""

ON_THE_QUARTER = "and on () (minute() % 15 == 0)"
NEW_DAY = "and on () (max_over_time(llm:utc_day:number[6h] offset 30s) < floor(vector(time()) / 86400))"
"""When it is evaluated first on a new day: at midnight, or up to six hours late."""
TODAY = 'count_values ("day", floor(vector(time()) / 86400) % 2)'
"""1, with the label `day` of the sums of today's minutes."""


def minute(metric: str, by: str) -> str:
    """Return the query for what the last minute added."""
    last, first = f"last_over_time({metric}[1m])", f"min_over_time({metric}[1m])"
    before = f"last_over_time({metric}[10m] offset 1m)"
    return f"""\
sum by ({by}) (
    {last} - ({before} <= {first})
  or
    {last} and {before}
  or
    {last} - {first}
)
* on () group_left (day) {TODAY}"""


def rule(record: str, expr: str, **labels: str) -> str:
    """Return a rule as YAML."""
    lines = [f"- record: {record}", "  expr: |", *(f"    {line}" for line in expr.splitlines())]
    if labels:
        lines += ["  labels:", *(f"    {name}: {value}" for name, value in labels.items())]
    return "".join(f"      {line}\n" for line in lines) + "\n"


def named(level: tuple[str, ...], metric: str) -> str:
    """Return what the records of a metric at a level begin with."""
    return f"{'_'.join(level)}:{metric.removesuffix('_total')}"


def family(level: tuple[str, ...], metric: str) -> str:
    """Return the rules of one metric at one level; each reads what those above it have just recorded."""
    name, by = named(level, metric), ", ".join(level)
    total = f"{name}:increase"
    # 14m30s, because a window may or may not include the sample at its very start (Prometheus 2 and 3).
    quarter = f"sum by ({by}) (sum_over_time({name}:increase1m[14m30s]))\n{ON_THE_QUARTER}"
    day = f'sum by ({by}) (last_over_time({total}{{part="today"}}[6h] offset 30s))\n{NEW_DAY}'
    today = f"sum by ({by}) (sum_over_time({name}:increase1m[1d]) and on (day) {TODAY})"
    return (
        rule(f"{name}:increase1m", minute(metric, by))
        + rule(f"{name}:increase15m", quarter)
        + rule(total, day, part="day")
        + rule(total, today, part="today")
        + rule(total, f'-1 * sum by ({by}) ({total}{{part="today"}})', part="before")
        + rolled_up(level, metric)
    )


def rolled_up(level: tuple[str, ...], metric: str) -> str:
    """Return the rules that add a metric up to fewer labels, in the minute in which it was recorded."""
    return "".join(
        sums(fewer, level, metric) + rolled_up(fewer, metric) for fewer in ROLLED_UP[metric].get(level, ())
    )


def sums(level: tuple[str, ...], of_level: tuple[str, ...], metric: str) -> str:
    """Return the rules of one metric at a level, of what is recorded at another."""
    total, of, by = (
        f"{named(level, metric)}:increase",
        f"{named(of_level, metric)}:increase",
        ", ".join(level),
    )
    return (
        rule(f"{total}15m", f"sum by ({by}) ({of}15m)\n{ON_THE_QUARTER}")
        + rule(total, f'sum by ({by}) ({of}{{part="day"}})\n{NEW_DAY}', part="day")
        + rule(total, f'sum by ({by}) ({of}{{part="today"}})', part="today")
        + rule(total, f'sum by ({by}) ({of}{{part="before"}})', part="before")
    )


def over_all(part: str) -> str:
    """Return the rule for what everything together cost, of which a graph over a month is drawn."""
    by_phase = f'job_phase:llm_cost_usd:increase{{part="{part}"}}'
    return rule("job:llm_cost_usd:increase", f"sum by (job) ({by_phase})", part=part)


def render() -> str:
    """Return the file as it is committed."""
    families = "".join(family(level, metric) for level, metric in FAMILIES) + over_all("today")
    # Last, so that all rules above see yesterday's number when they are evaluated first on a day.
    seen = rule("llm:utc_day:number", "floor(vector(time()) / 86400)")
    return HEAD + (families + seen).rstrip("\n") + "\n"


def main() -> int:
    """Write the rules, or with `--check` return 1 when the committed file differs."""
    if "--check" in sys.argv[1:]:
        return int(FILE.read_text(encoding="utf-8") != render())
    FILE.write_text(render(), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
