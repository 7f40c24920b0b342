"""The sample month in a real Prometheus: what is in it adds up, and every dashboard is full of it."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass
from math import isnan
from typing import Any

import pytest

from demo.history import CALLERS, DAY, INSTANCE, Continued, Month, backfill
from llm_exporter.cli.bundle import bundle
from prometheus.increases import CALLER, LEVELS
from tools.stack import Prometheus, Sample, prometheus_config

DAYS = 2.0
COST = "job_provider_model_agent_phase:llm_cost_usd:increase"

RIGHTLY_EMPTY = {
    "first quarter": "shown only as long as no quarter of an hour is recorded",
}
"""Targets that find nothing in the sample, and why."""


@dataclass
class Sampled:
    """A Prometheus that has seen the sample."""

    prometheus: Prometheus
    month: Month
    end: int

    def total(self, seconds: int, **labels: str) -> float:
        """Return what the recorded sums say was spent in so many seconds up to the end, by labels."""
        matchers = "".join(f', {name}="{value}"' for name, value in labels.items())
        parts = {part: f'{COST}{{part="{part}"{matchers}}}' for part in ("day", "today", "before")}
        (answer,) = self.at(
            self.end,
            f"sum(sum_over_time({parts['day']}[{seconds}s]) or {parts['today']}"
            f" or {parts['before']} offset {seconds}s)",
        )
        return answer.value

    def at(self, time: float, expr: str) -> list[Sample]:
        found = self.prometheus.get("/api/v1/query", query=expr, time=str(time))["data"]["result"]
        return [Sample(each["metric"], float(each["value"][1])) for each in found]


@pytest.fixture(scope="module")
def sampled(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sampled]:
    directory = tmp_path_factory.mktemp("history")
    month = Month(DAYS, time.time())
    backfill(month, directory, directory / Prometheus.data)
    end = int(month.now)
    with (
        Continued(month) as page,
        Prometheus.start(
            config=prometheus_config(directory / "config", targets=[page.address]), storage=directory
        ) as prometheus,
    ):
        yield Sampled(prometheus, month, end)


def raw_dollars(sampled: Sampled, matchers: str, at: int) -> float:
    found = sampled.prometheus.get(
        "/api/v1/query", query=f'sum(llm_cost_usd_total{{instance="{INSTANCE}"{matchers}}})', time=str(at)
    )["data"]["result"]
    return float(found[0]["value"][1]) if found else 0.0


@pytest.mark.parametrize("hours", [1, 7, 24, 30])
@pytest.mark.parametrize("agent", ["", "coder", "migrator"])
def test_what_was_spent_in_a_range_is_what_the_counters_grew_by(
    sampled: Sampled, hours: int, agent: str
) -> None:
    matchers, labels = (f', agent="{agent}"', {"agent": agent}) if agent else ("", {})
    begin = (sampled.end - hours * 3600) // 300 * 300  # where a sample is
    grown = raw_dollars(sampled, matchers, sampled.end) - raw_dollars(sampled, matchers, begin)

    assert sampled.total(sampled.end - begin, **labels) == pytest.approx(grown, abs=1e-6)
    assert grown > 0


def test_the_sample_is_the_same_every_time_and_prices_are_those_published() -> None:
    end = 1_790_000_000.0
    one, other = Month(0.25, end), Month(0.25, end)
    for month in (one, other):
        for now in month.steps():
            month.advance(now)

    assert list(one.raw()) == list(other.raw())
    costs = {name: value for name, value in one.raw() if name.startswith("llm_cost_usd_total")}
    tokens = {name: value for name, value in one.raw() if name.startswith("llm_tokens_total")}
    # gpt-5 is 1.25 dollars a million tokens of input, 10 of output.
    for kind, price in (("input", 1.25), ("output", 10)):
        (name,) = [each for each in costs if 'agent="planner"' in each and f'type="{kind}"' in each]
        used = tokens[name.replace("llm_cost_usd_total", "llm_tokens_total")]
        assert costs[name] == pytest.approx(used * price / 1e6, abs=2e-4)


def test_several_teams_providers_and_agents_are_in_it() -> None:
    assert len({caller.team for caller in CALLERS}) == 4
    assert {caller.provider for caller in CALLERS} == {"openai", "anthropic", "google"}
    assert len({(caller.provider, caller.model, caller.agent, caller.phase) for caller in CALLERS}) == len(
        CALLERS
    ), "two with the same labels would be recorded twice"


# ---- the dashboards

BOARDS = [json.loads(file.read_text()) for file in sorted((bundle("grafana") / "dashboards").glob("*.json"))]
TARGETS = [
    pytest.param(panel, target, id=f"{board['uid']}: {panel['title']} {target['refId']}")
    for board in BOARDS
    for panel in board["panels"]
    for target in panel["targets"]
]
QUERIES = [
    pytest.param(query, id=f"{board['uid']}: {name}")
    for board in BOARDS
    for name, query in [
        *((each["name"], each["definition"]) for each in board["templating"]["list"][1:]),
        *((each["name"], each["expr"]) for each in board["annotations"]["list"][1:]),
    ]
]


def substituted(query: str, *, window: int, step: int, **chosen: str) -> str:
    """Return a query as Grafana sends it, with All chosen where nothing else is."""
    values = {
        "__range_s": str(window),
        "__range": f"{window}s",
        "__rate_interval": f"{4 * step}s",
        "__interval_ms": str(step * 1000),
        "__interval": f"{step}s",
        **dict.fromkeys(("job", "provider", "model", "agent", "phase"), ".*"),
        **chosen,
    }
    return re.sub(r"\$(\w+)", lambda name: values[name[1]], query)


@pytest.mark.parametrize(("panel", "target"), TARGETS)
def test_every_query_of_every_panel_finds_numbers(
    sampled: Sampled, panel: dict[str, Any], target: dict[str, Any]
) -> None:
    step = {"15m": 900, "1m": 300}.get(panel.get("interval", ""), 300)
    expr = substituted(target["expr"], window=DAY, step=step)
    if target["instant"]:
        numbers = [sample.value for sample in sampled.at(sampled.end, expr)]
    else:
        times = {"start": str(sampled.end - DAY), "end": str(sampled.end), "step": str(step)}
        found = sampled.prometheus.get("/api/v1/query_range", query=expr, **times)["data"]["result"]
        numbers = [float(value) for each in found for _, value in each["values"]]

    if "unless on ()" in expr:
        assert RIGHTLY_EMPTY["first quarter"]
        assert numbers == []
    else:
        assert numbers
        assert not any(map(isnan, numbers))


AT_TWO_LEVELS = [each for each in TARGETS if 'all!~"' in each.values[1]["expr"]]  # type: ignore[index]
COARSE_LEVELS = "|".join(
    {"_".join(level) for levels in LEVELS.values() for level in levels if not {*CALLER} <= {*level}}
)
ROLLED_UP = rf"\b((?:(?:{COARSE_LEVELS}):\w+:increase\w*|job_le:\w+:rate5m)\{{)"
CHOICES = [
    {},
    {"agent": "researcher"},
    {"model": "(gpt-5|claude-haiku-4-5)"},
    {"phase": "execute", "provider": "(anthropic|google)"},
    {"provider": "openai", "model": "gpt-4o-mini", "agent": "(triage|indexer)", "phase": "plan"},
]


@pytest.mark.parametrize("choice", CHOICES, ids=lambda choice: "+".join(choice) or "all")
@pytest.mark.parametrize(("panel", "target"), AT_TWO_LEVELS)
def test_what_is_rolled_up_answers_as_each_caller_s_sums_do(
    sampled: Sampled, panel: dict[str, Any], target: dict[str, Any], choice: dict[str, str]
) -> None:
    step = {"15m": 900}.get(panel.get("interval", ""), 300)

    def answer(expr: str) -> dict[frozenset[tuple[str, str]], float]:
        found = sampled.at(sampled.end, substituted(expr, window=DAY, step=step, **choice))
        return {frozenset(sample.labels.items()): sample.value for sample in found}

    of_callers = re.sub(ROLLED_UP, r'\1job="nosuch", ', re.sub(r'all!~"[^"]*", ', "", target["expr"]))
    expected = answer(of_callers)
    assert answer(target["expr"]) == pytest.approx(expected, rel=1e-9, abs=2e-9)
    assert expected or "unless on ()" in of_callers


def test_dashboards_ask_at_two_levels() -> None:
    assert len(AT_TWO_LEVELS) >= 40


@pytest.mark.parametrize("query", QUERIES)
def test_every_query_of_variables_and_annotations_finds_something(sampled: Sampled, query: str) -> None:
    series, _, label = query.removeprefix("label_values(").rpartition(", ")
    if query.startswith("label_values("):
        found = sampled.prometheus.get(
            f"/api/v1/label/{label.removesuffix(')')}/values",
            **{"match[]": substituted(series, window=DAY, step=300)},
        )["data"]
    else:
        times = {"start": str(sampled.end - DAY), "end": str(sampled.end), "step": "60"}
        expr = substituted(query, window=DAY, step=60)
        found = sampled.prometheus.get("/api/v1/query_range", query=expr, **times)["data"]["result"]

    assert found


NUMBERS = [
    pytest.param(target["expr"], id=f"{board['uid']}: {panel['title']}")
    for board in BOARDS
    for panel in board["panels"]
    for target in panel["targets"]
    if panel["type"] == "stat" and target["expr"].endswith("or 0 * max(llm:utc_day:number)")
]


@pytest.mark.parametrize("expr", NUMBERS)
def test_a_number_is_0_and_never_missing_where_nothing_was_called(sampled: Sampled, expr: str) -> None:
    nobody_s = re.sub(r'job=~"[^"]*"', 'job="nosuch"', expr)

    found = sampled.at(sampled.end, substituted(nobody_s, window=DAY, step=300))
    assert [sample.value for sample in found] == [0]


SUMS = [number for number in NUMBERS if ":increase{" in str(number.values[0])]


@pytest.mark.parametrize("expr", SUMS)
def test_there_is_no_number_where_the_rules_are_not_evaluated(sampled: Sampled, expr: str) -> None:
    after = sampled.end + 1800  # what was recorded in the hour before ends in its middle

    assert sampled.at(after, substituted(expr, window=3600, step=300)) == []


def test_there_are_such_numbers() -> None:
    assert len(NUMBERS) >= 30
    assert len(SUMS) >= 12
