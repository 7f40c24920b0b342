"""Recorded sums survive an outage of Prometheus: nothing that it recorded is lost or counted twice.

promtool cannot stop evaluating rules. So each test gives what was recorded before the outage as samples, and
runs a copy of the rules in which every rule also requires a series that exists only after the outage.

Tests begin at minute 0. In the copy of the rules, this is 20:00, so that midnight is 240 evaluations away.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml

from support.bundle import PROMETHEUS, run

RULES = PROMETHEUS / "rules/increases.yml"
LABELS = 'job="j", provider="p", model="m", agent="a", phase="f", token_type="input"'
COUNTER = f'llm_cost_usd_total{{{LABELS}, instance="i"}}'
TOTAL = "job_provider_model_agent_phase_token_type:llm_cost_usd:increase"
TODAY = f'sum({TOTAL}{{part="today"}})'
DAYS = f'sum(sum_over_time({TOTAL}{{part="day"}}[2d]))'
COARSE = 'sum(job_agent:llm_cost_usd:increase{part="today"})'
COARSER = {
    "job_provider_model_agent_phase:llm_cost_usd:increase": LABELS.removesuffix(', token_type="input"'),
    "job_agent:llm_cost_usd:increase": 'job="j", agent="a"',
}
"""The sums by agent, and those whose minutes they are summed from, with their labels."""
DAY = 24 * 60
MIDNIGHT = 4 * 60
"""The minute of the first midnight."""


@dataclass(frozen=True)
class Outage:
    """An outage of Prometheus. A caller spends $1 a minute, before it and after it. Times are in minutes."""

    begin: int
    """The last evaluation before it."""
    end: int
    """The first evaluation after it."""
    spent: int
    """What was spent on the day of `begin` until then."""
    scraped: int | None = None
    """The first scrape after it, if it is later than `end`."""
    copied: int | None = None
    """When the slow group is evaluated first, if it is."""


def unit_tests(outage: Outage, expected: Mapping[int, Mapping[str, float | None]]) -> tuple[str, str]:
    """Return the rules and the unit tests; each expected value is of an expression at a time."""
    rules = yaml.safe_load(RULES.read_text())
    for group in rules["groups"]:
        group["rules"] = [
            each for each in group["rules"] if each["record"].startswith(("llm:", TOTAL, *COARSER))
        ]
        marker = "slow_group_is_due" if group["name"] == "llm_increase_copy" else "prometheus_is_up"
        for each in group["rules"]:
            expr = each["expr"].replace("time()", f"time() + {60 * (DAY - MIDNIGHT)}")
            each["expr"] = f"({expr}) and on () {marker}"
    last = max(expected)
    before, scraped = outage.begin, outage.scraped or outage.end
    first = max(0, before - outage.spent)  # the counter is $1 at minute 1 of its life
    gap = f" _x{scraped - before - 1}" if scraped > before + 1 else ""
    counter = f"_x{first} 0+1x{before - first}{gap} {scraped - first}+1x{last - scraped}"
    recorded = f"_x{first} 0+1x{before - first}"
    series = {
        COUNTER: counter,
        "llm:utc_day:number": f"0x{before}",
        "prometheus_is_up": f"_x{outage.end} 1x{last - outage.end}",
    }
    for total, labels in {TOTAL: LABELS, **COARSER}.items():
        series[f'{total}{{{labels}, part="today"}}'] = recorded
        series[f'{total}1m{{{labels}, day="0"}}'] = f"_x{first} 0 1x{before - first - 1}"
    if outage.copied:
        series["slow_group_is_due"] = f"_x{outage.copied} 1 stale"
    tests = {
        "rule_files": ["rules.yml"],
        "evaluation_interval": "1m",
        "group_eval_order": [group["name"] for group in rules["groups"]],  # else it is random
        "tests": [
            {
                "interval": "1m",
                "input_series": [{"series": name, "values": text} for name, text in series.items()],
                "promql_expr_test": [
                    {
                        "expr": f"round({expr}, 0.0001)",
                        "eval_time": f"{minute}m",
                        "exp_samples": [] if value is None else [{"value": value}],
                    }
                    for minute, values in expected.items()
                    for expr, value in values.items()
                ],
            }
        ],
    }
    return yaml.safe_dump(rules), yaml.safe_dump(tests)


CASES: dict[str, tuple[Outage, dict[int, dict[str, float | None]]]] = {
    # $50 until 23:30, and $30 until midnight, when the last of them is recorded on the new day.
    "that is none, over midnight": (
        Outage(begin=MIDNIGHT - 30, end=MIDNIGHT - 29, spent=50),
        {
            MIDNIGHT - 1: {TODAY: 79, COARSE: 79, DAYS: None},
            MIDNIGHT: {TODAY: 1, COARSE: 1, DAYS: 79},
            MIDNIGHT + 1: {TODAY: 2, COARSE: 2, DAYS: 79},
        },
    ),
    # $59 at minute 59, and $4 until minute 63.
    "of three minutes": (
        Outage(begin=59, end=63, spent=59),
        {63: {TODAY: 63, COARSE: 63}, 64: {TODAY: 64}},
    ),
    # Nothing is scraped before the first evaluation: the last recorded minute must not be added again.
    "and the first evaluation comes before the first scrape": (
        Outage(begin=59, end=61, spent=59, scraped=62),
        {61: {TODAY: 59}, 62: {TODAY: 62}, 63: {TODAY: 63}},
    ),
    # The counters of before are too old, so what was spent meanwhile is not known. What was recorded is kept.
    "of twenty minutes": (
        Outage(begin=59, end=80, spent=59),
        {80: {TODAY: 59}, 81: {TODAY: 60}, 90: {TODAY: 69}},
    ),
    # Nothing is recorded until there is a copy. $0 in minute 180, whose counter has no past, then $11.
    "of two hours": (
        Outage(begin=59, end=180, spent=59, copied=190),
        {
            190: {TODAY: None, COARSE: None, "llm:utc_day:number": None},
            191: {TODAY: 70, COARSE: 70, "llm:utc_day:number": 0, "llm:recording:state": 2},
            192: {TODAY: 71, "llm:recording:state": 1},
            230: {TODAY: 109, DAYS: None},
        },
    ),
    # $100 until 23:55, and $10 until 00:05, when they are recorded.
    "over midnight": (
        Outage(begin=MIDNIGHT - 5, end=MIDNIGHT + 5, spent=100),
        {
            MIDNIGHT + 5: {TODAY: 10, DAYS: 100},
            MIDNIGHT + 6: {TODAY: 11, DAYS: 100},
            MIDNIGHT + 40: {TODAY: 45, DAYS: 100},
        },
    ),
    # From 23:00 to 02:00.
    "over midnight of three hours": (
        Outage(begin=MIDNIGHT - 60, end=MIDNIGHT + 120, spent=50, copied=MIDNIGHT + 130),
        {
            MIDNIGHT + 130: {TODAY: None, DAYS: None},
            MIDNIGHT + 131: {TODAY: 11, DAYS: 50},
            MIDNIGHT + 132: {TODAY: 12, DAYS: 50},
        },
    ),
    # The copy arrives after midnight: the minutes from 23:51 to 23:59 belong to the day before.
    "that ends before midnight": (
        Outage(begin=MIDNIGHT - 60, end=MIDNIGHT - 10, spent=50, copied=MIDNIGHT + 2),
        {
            MIDNIGHT + 2: {TODAY: None, DAYS: None},
            MIDNIGHT + 3: {TODAY: 4, DAYS: 59},
            MIDNIGHT + 4: {TODAY: 5, DAYS: 59},
        },
    ),
    # What is older than a day is not needed for today.
    "of more than a day": (
        Outage(begin=59, end=DAY + 100, spent=59),
        {DAY + 100: {TODAY: 0, "llm:recording:state": 0}, DAY + 110: {TODAY: 10, "llm:recording:state": 1}},
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_sums_go_on_after_an_outage(case: str, tmp_path: Path) -> None:
    rules, tests = unit_tests(*CASES[case])
    (tmp_path / "rules.yml").write_text(rules)
    (tmp_path / "tests.yml").write_text(tests)

    assert "SUCCESS" in run("promtool", "test", "rules", tmp_path / "tests.yml")
