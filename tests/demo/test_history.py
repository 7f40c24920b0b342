"""The sample month in a real Prometheus: its sums are consistent, and every dashboard shows data."""

from __future__ import annotations

import ast
import calendar
import json
import re
import time
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from importlib import import_module
from math import isnan
from pathlib import Path
from pkgutil import iter_modules
from typing import Any, get_args

import pytest
from prometheus_client.parser import text_string_to_metric_families

import llm_exporter
from demo.history.backfill import backfill
from demo.history.metrics import SpendingLimit
from demo.history.month import Month
from demo.history.scenario import BUDGETS, CALLERS, INCIDENTS
from demo.history.series import DAY, DECLARED, INSTANCE
from demo.history.server import MonthServer
from llm_exporter import wire
from llm_exporter.bundle.dashboards import boards
from llm_exporter.bundle.files import bundle
from llm_exporter.bundle.increases import CALLER, levels
from llm_exporter.call import ApproximationReason, ErrorKind, TokenType
from llm_exporter.metrics.specs import METRICS
from support.awaiting import until
from support.truth import Labels, Truth
from tools.stack import Prometheus, Sample, prometheus_config

PACKAGE = Path(llm_exporter.__file__).parent
DAYS = 2.0
COST = "job_provider_model_agent_phase:llm_cost_usd:increase"

ONLY_AT_FIRST = "unless on ()"
"""Marks targets that show data only until the first quarter of an hour is recorded."""


@dataclass
class Sampled:
    """A Prometheus with the sample month."""

    prometheus: Prometheus
    month: Truth
    page: str
    """The address of the page that continues it."""
    end: int
    progress: list[float]
    """What was told about the part that was written."""

    def total(self, seconds: int, **labels: str) -> float:
        """Return the recorded spending of callers with these labels in the last seconds before the end."""
        matchers = "".join(f', {name}="{value}"' for name, value in labels.items())
        parts = {part: f'{COST}{{part="{part}"{matchers}}}' for part in ("day", "today", "before")}
        (sample,) = self.at(
            self.end,
            f"sum(sum_over_time({parts['day']}[{seconds}s]) or {parts['today']}"
            f" or {parts['before']} offset {seconds}s)",
        )
        return sample.value

    def at(self, time: float, expr: str) -> list[Sample]:
        found = self.prometheus.get("/api/v1/query", query=expr, time=str(time))["data"]["result"]
        return [Sample(each["metric"], float(each["value"][1])) for each in found]


@pytest.fixture(scope="module")
def sampled(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sampled]:
    directory = tmp_path_factory.mktemp("history")
    month = Truth(DAYS, time.time())
    progress: list[float] = []
    backfill(month, directory, directory / Prometheus.data, progress.append)
    end = int(month.now)
    with (
        MonthServer(month) as server,
        Prometheus.start(
            config=prometheus_config(directory / "config", targets=[server.address]), storage=directory
        ) as prometheus,
    ):
        yield Sampled(prometheus, month, server.address, end, progress)


def counted_usd(sampled: Sampled, matchers: str, at: int) -> float:
    found = sampled.prometheus.get(
        "/api/v1/query", query=f'sum(llm_cost_usd_total{{instance="{INSTANCE}"{matchers}}})', time=str(at)
    )["data"]["result"]
    return float(found[0]["value"][1]) if found else 0.0


@pytest.mark.parametrize("hours", [1, 7, 24, 30])
@pytest.mark.parametrize("agent", ["", "coder", "migrator"])
def test_the_recorded_spending_of_a_range_is_the_increase_of_the_counters(
    sampled: Sampled, hours: int, agent: str
) -> None:
    matchers, labels = (f', agent="{agent}"', {"agent": agent}) if agent else ("", {})
    begin = (sampled.end - hours * 3600) // 300 * 300  # a sample exists at this time
    increase = counted_usd(sampled, matchers, sampled.end) - counted_usd(sampled, matchers, begin)

    assert sampled.total(sampled.end - begin, **labels) == pytest.approx(increase, abs=1e-6)
    assert increase > 0 or hours < 24  # some agents do not work at night


def test_a_range_that_begins_at_midnight_has_nothing_of_the_day_before(sampled: Sampled) -> None:
    midnight = (sampled.end - 3600) // 86400 * 86400
    morning = replace(sampled, end=midnight + 3600)
    increase = counted_usd(sampled, "", morning.end) - counted_usd(sampled, "", midnight)

    assert morning.total(3600) == pytest.approx(increase, abs=1e-6)


def test_the_progress_of_the_sample_is_told_for_each_block_until_its_end(sampled: Sampled) -> None:
    assert len(sampled.progress) >= 3  # two days, in blocks of 18 hours
    assert sampled.progress == sorted(sampled.progress)
    assert (0 < sampled.progress[0] < 0.5, sampled.progress[-1]) == (True, 1.0)


def test_the_sample_is_deterministic_and_uses_published_prices() -> None:
    end = 1_790_000_000.0
    one, other = Month(0.25, end), Month(0.25, end)
    for month in (one, other):
        for now in month.steps():
            month.advance(now)

    assert list(one.raw()) == list(other.raw())
    costs = {name: value for name, value in one.raw() if name.startswith("llm_cost_usd_total")}
    tokens = {name: value for name, value in one.raw() if name.startswith("llm_tokens_total")}
    # gpt-5 costs 1.25 USD per million input tokens and 10 USD per million output tokens.
    for kind, price in (("input", 1.25), ("output", 10)):
        (name,) = [each for each in costs if 'agent="planner"' in each and f'type="{kind}"' in each]
        used = tokens[name.replace("llm_cost_usd_total", "llm_tokens_total")]
        assert costs[name] == pytest.approx(used * price / 1e6, abs=2e-4)


def test_the_sample_has_several_teams_providers_and_agents() -> None:
    assert len({caller.team for caller in CALLERS}) == 4
    assert {caller.provider for caller in CALLERS} == {"openai", "anthropic", "google"}
    assert len({(caller.provider, caller.model, caller.agent, caller.phase) for caller in CALLERS}) == len(
        CALLERS
    ), "callers with equal labels would share their series"


def test_the_page_of_the_sample_has_the_help_and_type_of_each_metric(sampled: Sampled) -> None:
    with urllib.request.urlopen(f"http://{sampled.page}/metrics") as response:
        families = list(text_string_to_metric_families(response.read().decode()))

    specs = {spec.name.removesuffix("_total"): spec for spec in METRICS}
    assert {each.name: (each.type, each.documentation) for each in families} == {
        each.name: (specs[each.name].type, specs[each.name].help) for each in families
    }
    assert len(families) == len({each.name for each in families}) > 25
    assert {"llm_cost_usd", "llm_latency_seconds", "llm_budget_limit_usd"} <= {each.name for each in families}


def test_only_the_instance_of_a_budget_differs_between_the_sample_and_what_continues_it(
    sampled: Sampled,
) -> None:
    """The rules keep the other labels, and a forecast needs a past with the same labels."""
    query = 'llm_budget_spent_usd{{instance="{}"}}'
    scraped = until(lambda: sampled.prometheus.query(query.format(sampled.page)))
    written = sampled.at(sampled.end, query.format(INSTANCE))

    found, expected = (
        sorted(sorted({**each.labels, "instance": ""}.items()) for each in samples)
        for samples in (scraped, written)
    )
    assert found == expected
    assert len(expected) == len(BUDGETS)


def test_the_total_of_today_is_the_sum_of_all_callers(sampled: Sampled) -> None:
    (total,) = sampled.at(sampled.end, 'job:llm_cost_usd:increase{part="today"}')
    (callers,) = sampled.at(sampled.end, f'sum({COST}{{part="today"}})')

    assert total.value == pytest.approx(callers.value)
    assert total.value > 0


# ---- what the code really exports


def literals(parameter: str) -> set[str]:
    """Return the strings that the package passes to functions that have a parameter of this name."""
    nodes = [node for file in PACKAGE.rglob("*.py") for node in ast.walk(ast.parse(file.read_text()))]
    positions = {
        node.name: names.index(parameter)
        for node in nodes
        if isinstance(node, ast.FunctionDef)
        and parameter in (names := [argument.arg for argument in node.args.args if argument.arg != "self"])
    }
    found = set()
    for node in nodes:
        if isinstance(node, ast.Call):
            name = getattr(node.func, "attr", getattr(node.func, "id", ""))
            argument = node.args[positions[name] :][:1] if name in positions else []
            if argument and isinstance(argument[0], ast.Constant) and isinstance(argument[0].value, str):
                found.add(argument[0].value)
    return found


def operations() -> set[str]:
    """Return the operations that the wire readers emit."""
    modules = [import_module(f"{wire.__name__}.{each.name}") for each in iter_modules(wire.__path__)]
    return {
        operation
        for module in modules
        for item in vars(module).values()
        if isinstance(item, type) and isinstance(operation := getattr(item, "operation", None), str)
    }


def test_the_sample_has_only_metrics_and_label_values_that_the_code_exports() -> None:
    month = Month(0.25, 1_790_000_000.0)
    month.advance(month.end)
    exported = {
        "operation": operations(),
        "error": {*get_args(ErrorKind)},
        "token_type": {*get_args(TokenType)},
        "where": literals("where"),
        "reason": literals("reason") | {*get_args(ApproximationReason)},
    }
    specs = {
        name: spec
        for spec in METRICS
        for name in (spec.name, *(f"{spec.name}_{part}" for part in ("bucket", "sum", "count")))
    }
    seen: dict[str, set[str]] = {}
    for name, _ in month.raw():
        metric, _, rest = name.partition("{")
        labels = dict(re.findall(r'(\w+)="([^"]*)"', rest))
        declared = {*specs[metric].labels, "job", "instance", "team", "le"}
        if metric.startswith(("llm_budget_", "llm_cost_threshold_")):
            declared.add("agent")  # the labels that a budget or a threshold matches
        assert labels.keys() <= declared, name
        for label, value in labels.items():
            seen.setdefault(label, set()).add(value)

    for label, values in exported.items():
        assert seen[label] <= values, label


def test_the_incidents_of_the_sample_fire_alerts_that_the_rules_define() -> None:
    rules = "".join(file.read_text() for file in (bundle("prometheus") / "rules").glob("*.yml"))

    assert {incident.alert for incident in INCIDENTS} <= {*re.findall(r"alert: (\w+)", rules)}


# ---- the dashboards

BOARDS = [json.loads(file.read_text()) for file in sorted((bundle("grafana") / "dashboards").glob("*.json"))]
BY_TEAM = boards(DECLARED)
"""The dashboards with the declared label of the sample, as the demo shows them."""
Boards = Sequence[dict[str, Any]]
EACH = [("", board) for board in BOARDS] + [(" by team", board) for board in BY_TEAM]
TARGETS = list(
    {
        target["expr"]: pytest.param(
            panel, target, id=f"{board['uid']}{name}: {panel['title']} {target['refId']}"
        )
        for name, board in reversed(EACH)
        for panel in board["panels"]
        for target in panel.get("targets", ())
    }.values()
)
"""The panel and the target of each query; those of the dashboards by team only if they differ."""
QUERIES = [
    pytest.param(query, id=f"{board['uid']}{which}: {name}")
    for which, board in EACH
    for name, query in [
        *((each["name"], each["definition"]) for each in board["templating"]["list"][1:]),
        *((each["name"], each["expr"]) for each in board["annotations"]["list"][1:]),
    ]
]


def substituted(query: str, *, window: int, step: int, **chosen: str) -> str:
    """Return a query as Grafana sends it. Variables that are not chosen are set to All."""
    values = {
        "__range_s": str(window),
        "__range": f"{window}s",
        "__rate_interval": f"{4 * step}s",
        "__interval_ms": str(step * 1000),
        "__interval": f"{step}s",
        **dict.fromkeys(("job", "provider", "model", "agent", "phase", *DECLARED), ".*"),
        **chosen,
    }
    return re.sub(r"\$([a-z_]\w*)", lambda name: values[name[1]], query)


@pytest.mark.parametrize(("panel", "target"), TARGETS)
def test_every_query_of_every_panel_returns_numbers(
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

    if ONLY_AT_FIRST in expr or target.get("exemplar"):
        assert numbers == []
    else:
        assert numbers
        assert not any(map(isnan, numbers))


AT_TWO_LEVELS = [each for each in TARGETS if 'all!~"' in each.values[1]["expr"]]  # type: ignore[index]
COARSE_LEVELS = "|".join(
    {"_".join(level) for of in levels(DECLARED).values() for level in of if not {*CALLER} <= {*level}}
)
ROLLED_UP = rf"\b((?:(?:{COARSE_LEVELS}):\w+:increase\w*|job_le:\w+:rate5m)\{{)"
CHOICES = [
    {},
    {"agent": "researcher"},
    {"model": "(gpt-5|claude-haiku-4-5)"},
    {"phase": "execute", "provider": "(anthropic|google)"},
    {"team": "search"},
    {"team": "(search|support)", "phase": "execute"},
    {"provider": "openai", "model": "gpt-4o-mini", "agent": "(triage|indexer)", "phase": "plan"},
]


@pytest.mark.parametrize("choice", CHOICES, ids=lambda choice: "+".join(choice) or "all")
@pytest.mark.parametrize(("panel", "target"), AT_TWO_LEVELS)
def test_coarser_sums_return_the_same_as_the_sums_of_each_caller(
    sampled: Sampled, panel: dict[str, Any], target: dict[str, Any], choice: dict[str, str]
) -> None:
    step = {"15m": 900}.get(panel.get("interval", ""), 300)

    def run(expr: str) -> dict[frozenset[tuple[str, str]], float]:
        found = sampled.at(sampled.end, substituted(expr, window=DAY, step=step, **choice))
        return {frozenset(sample.labels.items()): sample.value for sample in found}

    of_callers = re.sub(ROLLED_UP, r'\1job="nosuch", ', re.sub(r'all!~"[^"]*", ', "", target["expr"]))
    expected = run(of_callers)
    assert run(target["expr"]) == pytest.approx(expected, rel=1e-9, abs=2e-9)
    assert expected or ONLY_AT_FIRST in of_callers


def test_the_dashboards_have_queries_at_two_levels() -> None:
    assert len(AT_TWO_LEVELS) >= 40


@pytest.mark.parametrize("query", QUERIES)
def test_every_query_of_variables_and_annotations_returns_something(sampled: Sampled, query: str) -> None:
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


PROBLEMS = [
    ("llm-cost", "Tokens with approximate cost", "llm_price_approximated_tokens_total", ["reason"]),
    (
        "llm-exporter",
        "Tokens with approximate cost",
        "llm_price_approximated_tokens_total",
        ["model", "reason"],
    ),
    ("llm-exporter", "Unread requests", "llm_exporter_unread_requests_total", ["provider", "route"]),
]
"""Panels that should be empty, by dashboard and title, with their metric and labels."""


@pytest.mark.parametrize(("uid", "title", "metric", "labels"), PROBLEMS, ids=[each[1] for each in PROBLEMS])
def test_a_panel_shows_how_much_is_approximate_or_unread(
    sampled: Sampled, uid: str, title: str, metric: str, labels: list[str]
) -> None:
    (expr,) = (
        target["expr"]
        for board in BOARDS
        for panel in board["panels"]
        for target in panel.get("targets", ())
        if (board["uid"], panel["title"]) == (uid, title)
    )

    def shown(expr: str) -> dict[tuple[str, ...], float]:
        found = sampled.at(sampled.end, substituted(expr, window=DAY, step=300))
        return {
            tuple(sample.labels[name] for name in labels if name in sample.labels): sample.value
            for sample in found
        }

    by = ", ".join(labels)
    counted = shown(f"sum by ({by}) ({metric}) - sum by ({by}) ({metric} offset {DAY}s)")
    assert shown(expr) == pytest.approx(counted, rel=0.02)  # increase() extrapolates
    assert all(counted.values())
    assert shown(re.sub(r'job=~"[^"]*"', 'job="nosuch"', expr)) == {("none",): 0}


NUMBERS = [
    pytest.param(target["expr"], id=f"{board['uid']}: {panel['title']}")
    for board in BOARDS
    for panel in board["panels"]
    for target in panel.get("targets", ())
    if panel["type"] == "stat" and target["expr"].endswith("or 0 * max(llm:utc_day:number)")
]


@pytest.mark.parametrize("expr", NUMBERS)
def test_a_number_is_0_when_there_are_no_calls(sampled: Sampled, expr: str) -> None:
    no_job = re.sub(r'job=~"[^"]*"', 'job="nosuch"', expr)

    found = sampled.at(sampled.end, substituted(no_job, window=DAY, step=300))
    assert [sample.value for sample in found] == [0]


SUMS = [number for number in NUMBERS if ":increase{" in str(number.values[0])]


@pytest.mark.parametrize("expr", SUMS)
def test_a_number_is_missing_when_the_rules_are_not_evaluated(sampled: Sampled, expr: str) -> None:
    after = sampled.end + 1800  # the recorded series end in the middle of the hour

    assert sampled.at(after, substituted(expr, window=3600, step=300)) == []


def test_the_dashboards_have_such_numbers() -> None:
    assert len(NUMBERS) >= 29
    assert len(SUMS) >= 12


# ---- forecasts


def test_the_forecasts_of_costs_and_of_budgets_agree(sampled: Sampled) -> None:
    """The monthly budget of everything, and the month on the dashboard of costs."""
    end = time.gmtime(sampled.end)
    since_start_of_month = sampled.end - calendar.timegm((end.tm_year, end.tm_mon, 1, 0, 0, 0))
    (panel,) = (panel for board in BOARDS for panel in board["panels"] if panel["title"] == "Month forecast")
    query = substituted(panel["targets"][0]["expr"], window=since_start_of_month, step=60)
    (costs,) = sampled.at(sampled.end, query)
    (budget,) = sampled.at(sampled.end, 'llm:budget_spent:forecast{budget="everything"}')

    assert costs.value == pytest.approx(budget.value, rel=0.02)


def test_the_forecast_of_a_day_is_that_of_the_rules() -> None:
    """The same days and numbers as in prometheus/tests/budget_weekdays_test.yml."""
    budget = SpendingLimit(("llm_budget_limit_usd", "llm_budget_spent_usd"), {"period": "day"}, 100.0, {})
    forecasts = {}
    for hour in range(19 * 24):
        day, time_of_day = divmod(hour, 24)
        works = day % 7 not in {2, 3} and 9 < time_of_day <= 17  # January 1, 1970 was a Thursday
        usd = 30.0 if (day, time_of_day) == (9, 9) else works * (5.0 if day == 11 else 10.0)
        budget.add(CALLERS[0], usd, hour * 3600)
        recorded = {name.partition("{")[0]: value for name, value in budget.recorded(hour * 3600)}
        if time_of_day == 11:
            forecasts[day] = recorded.get("llm:budget_spent:forecast")

    expected = {0: None, 2: 33.333333, 4: 20.0, 7: 80.0, 9: 30.0, 11: 56.666667, 16: 0.0, 18: 70.625}
    assert {day: forecasts[day] for day in expected} == expected


# ---- values

RANGE = 86_100
"""Seconds of the time range: a multiple of 300, because the first day has a sample every 300 seconds."""


@dataclass
class Period:
    """What the callers did in a time range."""

    month: Truth
    since: int
    until: int
    only: dict[str, str] = field(default_factory=dict)
    """The labels of the callers that count."""

    def total(self, what: str, *by: str, kinds: str = "") -> dict[Labels, float]:
        return self.month.counted(what, by, since=self.since, until=self.until, kinds=kinds, only=self.only)

    def previous(self, what: str, *by: str) -> dict[Labels, float]:
        since = self.since - (self.until - self.since)
        return self.month.counted(what, by, since=since, until=self.since, only=self.only)

    def ratio(self, left: dict[Labels, float], right: dict[Labels, float]) -> dict[Labels, float]:
        """Return ratios of two totals; what is missing on the left is 0."""
        return {labels: left.get(labels, 0.0) / value for labels, value in right.items()}

    def per_call(self, what: str, *by: str) -> dict[Labels, float]:
        return self.ratio(self.total(what, *by), self.total("calls", *by))

    def with_every_caller(self, what: str, *by: str) -> dict[Labels, float]:
        """Return a total, with 0 for callers that called and have none."""
        return dict.fromkeys(self.total("calls", *by), 0.0) | self.total(what, *by)

    def change(self, *by: str) -> dict[Labels, float]:
        now, then = self.total("cost", *by), self.previous("cost", *by)
        return {each: now[each] / then[each] - 1 for each in now if then.get(each, 0) > 0.01 * now[each]}

    def savings(self) -> dict[Labels, float]:
        """Return what cached tokens of each model would have cost as input, minus what they did cost."""
        by = "provider", "model"
        price = self.ratio(self.total("cost", *by, kinds="input"), self.total("tokens", *by, kinds="input"))
        cached, paid = (self.total(what, *by, kinds="cache_") for what in ("tokens", "cost"))
        return {each: price[each] * cached[each] - paid[each] for each in paid}

    def cache_read_share(self, *by: str) -> dict[Labels, float]:
        prompt = self.total("tokens", *by, kinds="input")
        for each, tokens in self.total("tokens", *by, kinds="cache_").items():
            prompt[each] = prompt.get(each, 0) + tokens
        return self.ratio(self.total("tokens", *by, kinds="cache_read"), prompt)


def most(values: dict[Labels, float]) -> dict[Labels, float]:
    """Return the eight highest values, without zeros."""
    highest = sorted(values.items(), key=lambda item: -item[1])[:8]
    return {labels: value for labels, value in highest if value}


MODEL_LABELS = ("provider", "model")
ALL_LABELS = ("provider", "model", "agent", "phase")
Column = Callable[[Period], dict[Labels, float]]


def highest_costs(label: str) -> Column:
    """Return the bars of costs by a label."""
    return lambda period: most(period.with_every_caller("cost", label))


def comparison(label: str) -> dict[str, Column]:
    """Return the columns of a table that compares with the previous range."""
    return {
        "A": lambda period: period.with_every_caller("cost", label),
        "B": lambda period: dict.fromkeys(period.total("calls", label), 0.0) | period.previous("cost", label),
        "C": lambda period: period.change(label),
        "D": lambda period: period.total("calls", label),
        "E": lambda period: period.per_call("cost", label),
        "F": lambda period: period.per_call("failed", label),
        "G": lambda period: period.total("unpriced", label),
    }


def combinations(title: str, *labels: str) -> dict[tuple[str, str, str], Column]:
    """Return the columns of the table of all combinations of labels."""
    columns: dict[str, Column] = {
        "A": lambda period: period.with_every_caller("cost", *labels),
        "B": lambda period: period.total("calls", *labels),
        "C": lambda period: period.total("unpriced", *labels),
    }
    return {("llm-cost", title, query): column for query, column in columns.items()}


VALUES: dict[tuple[str, str, str], Column] = {
    ("llm-cost", "Cost", "A"): lambda period: period.total("cost"),
    ("llm-cost", "Cost per call", "A"): lambda period: period.per_call("cost"),
    ("llm-cost", "Cost in the last hour", "A"): lambda period: replace(
        period, since=period.until - 3600
    ).total("cost"),
    ("llm-cost", "Cache savings", "A"): lambda period: {(): sum(period.savings().values())},
    ("llm-cost", "Unpriced tokens", "A"): lambda period: period.total("unpriced"),
    ("llm-cost", "Top agents by cost", "A"): highest_costs("agent"),
    **{
        ("llm-cost", f"Cost by {label}", "A"): highest_costs(label)
        for label in ("provider", "model", "phase")
    },
    ("llm-cost", "Cost by token type", "A"): lambda period: period.total("cost", "token_type"),
    ("llm-cost", "Caching by model", "A"): lambda period: period.savings(),
    ("llm-cost", "Caching by model", "C"): lambda period: period.cache_read_share(*MODEL_LABELS),
    **combinations("Cost by combination", *ALL_LABELS),
    ("llm-agents", "Cost", "A"): lambda period: period.total("cost"),
    ("llm-agents", "Cost change", "A"): lambda period: period.change(),
    ("llm-agents", "Calls", "A"): lambda period: period.total("calls"),
    ("llm-agents", "Error rate", "A"): lambda period: period.per_call("failed"),
    ("llm-agents", "Cost per call", "A"): lambda period: period.per_call("cost"),
    ("llm-agents", "Tokens", "A"): lambda period: period.total("tokens"),
    ("llm-agents", "Cache read share", "A"): lambda period: period.cache_read_share(),
    ("llm-agents", "Tokens by type", "A"): lambda period: period.total("tokens", "token_type"),
    ("llm-agents", "Error rate by agent", "A"): lambda period: most(period.per_call("failed", "agent")),
    **{
        ("llm-agents", title, query): column
        for title, label in (("Agents", "agent"), ("Phases", "phase"))
        for query, column in comparison(label).items()
    },
    ("llm-latency", "Error rate", "A"): lambda period: period.per_call("failed"),
}
"""What a panel shows for a time range, by dashboard, title and query."""
VALUES_BY_TEAM: dict[tuple[str, str, str], Column] = {
    **{key: column for key, column in VALUES.items() if not key[1].startswith("Cost by provider, ")},
    **combinations("Cost by combination", *ALL_LABELS, "team"),
    ("llm-cost", "Cost by team", "A"): highest_costs("team"),
    **{("llm-agents", "By team", query): column for query, column in comparison("team").items()},
}
SHOWN = [
    *(pytest.param(BOARDS, {}, *key, column, id=": ".join(key)) for key, column in VALUES.items()),
    *(
        pytest.param(BY_TEAM, chosen, *key, column, id=f"{name}: {': '.join(key)}")
        for name, chosen in (("all teams", {}), ("one team", {"team": "search"}))
        for key, column in VALUES_BY_TEAM.items()
        if key[0] in {"llm-cost", "llm-agents"}  # the others have no filter by team
    ),
]


def panel_of(uid: str, title: str, boards: Boards = BOARDS) -> dict[str, Any]:
    (panel,) = (
        panel
        for board in boards
        if board["uid"] == uid
        for panel in board["panels"]
        if (panel["title"], "targets" in panel) == (title, True)
    )
    return panel  # type: ignore[no-any-return]


@pytest.mark.parametrize(("boards", "chosen", "uid", "title", "query", "column"), SHOWN)
def test_a_panel_shows_what_the_callers_of_the_sample_did(
    sampled: Sampled,
    boards: Boards,
    chosen: dict[str, str],
    uid: str,
    title: str,
    query: str,
    column: Column,
) -> None:
    (target,) = (each for each in panel_of(uid, title, boards)["targets"] if each["refId"] == query)
    until = sampled.end // 300 * 300
    expected = column(Period(sampled.month, until - RANGE, until, chosen))
    found = sampled.at(until, substituted(target["expr"], window=RANGE, step=300, **chosen))

    names = next((labels for labels in ({*each.labels} for each in found) if labels), set())
    order = [name for name in (*ALL_LABELS, *DECLARED, "token_type") if name in names]
    # What is not recorded is extrapolated by increase() or averaged by rate().
    tolerance = 0.02 if "llm_unpriced" in target["expr"] or "rate5m" in target["expr"] else 1e-6
    shown = {tuple(each.labels[name] for name in order): each.value for each in found}
    assert {labels: shown.get(labels) for labels in expected} == pytest.approx(
        expected, rel=tolerance, abs=1e-8
    )
    assert sum(shown.values()) == pytest.approx(sum(expected.values()), rel=tolerance), "nothing else"
    assert any(expected.values()) or chosen


HOURLY = [
    ("llm-cost", "Cost per hour by model", "model"),
    ("llm-cost", "Cost per hour by team", "team"),
    *(("llm-agents", f"Cost per hour by {label}", label) for label in ("agent", "phase")),
]


@pytest.mark.parametrize(("uid", "title", "label"), HOURLY)
def test_a_graph_shows_the_cost_of_each_quarter_of_an_hour(
    sampled: Sampled, uid: str, title: str, label: str
) -> None:
    quarter = 900
    end = (sampled.end - 60) // quarter * quarter
    times = {"start": str(end - 20 * quarter), "end": str(end), "step": str(quarter)}
    expr = substituted(panel_of(uid, title, BY_TEAM)["targets"][0]["expr"], window=RANGE, step=quarter)
    found = sampled.prometheus.get("/api/v1/query_range", query=expr, **times)["data"]["result"]
    shown = {
        (each["metric"][label], int(time)): float(value) for each in found for time, value in each["values"]
    }

    expected = {
        (labels[0], now): 4 * usd
        for now in range(end - 20 * quarter, end + 1, quarter)
        for labels, usd in sampled.month.counted("cost", [label], since=now - quarter, until=now).items()
    }
    assert {point: usd for point, usd in shown.items() if usd} == pytest.approx(expected, abs=1e-6)
    assert len(expected) > 20


def test_the_cost_of_today_grows_through_the_day(sampled: Sampled) -> None:
    target = panel_of("llm-budgets", "Cost today and thresholds")["targets"][0]
    times = {"start": str(sampled.end - RANGE), "end": str(sampled.end), "step": "3600"}
    expr = substituted(target["expr"], window=RANGE, step=3600)
    (found,) = sampled.prometheus.get("/api/v1/query_range", query=expr, **times)["data"]["result"]
    shown = {int(now): float(usd) for now, usd in found["values"]}

    # What is seen at midnight for the first time belongs to the new day.
    expected = {}
    for now in shown:
        midnight = now // DAY * DAY
        step = 60 if midnight > sampled.month.end - DAY else 300
        (expected[now],) = sampled.month.counted("cost", since=midnight - step, until=now).values()
    assert shown == pytest.approx(expected, abs=1e-6)
    assert max(shown.values()) > 2 * min(shown.values())


def test_a_budget_of_a_team_shows_its_team_and_what_it_spent(sampled: Sampled) -> None:
    end = time.gmtime(sampled.end)
    month = calendar.timegm((end.tm_year, end.tm_mon, 1, 0, 0, 0))
    # What is seen at midnight for the first time belongs to the new month.
    step = 60 if month > sampled.month.end - DAY else 300
    (spent,) = sampled.month.counted(
        "cost", since=month - step, until=sampled.end, only={"team": "search"}
    ).values()
    (target,) = panel_of("llm-budgets", "Budget usage", BY_TEAM)["targets"]
    found = sampled.at(sampled.end, substituted(target["expr"], window=RANGE, step=300))
    shown = {(each.labels["budget"], each.labels.get("team")): each.value for each in found}

    assert shown["the search team", "search"] == pytest.approx(spent / 1000, abs=1e-6)
    assert {team for _, team in shown} == {None, "search"}


def test_the_table_of_alerts_shows_the_subject_since_when_and_the_dashboard(sampled: Sampled) -> None:
    table = next(
        panel
        for board in BOARDS
        for panel in board["panels"]
        if (panel["title"], panel["type"]) == ("Alert list", "table")
    )
    (alert,) = sampled.at(sampled.end, substituted(table["targets"][0]["expr"], window=RANGE, step=300))

    assert alert.labels == {
        "alertname": "LLMCostSpike",
        "severity": "warning",
        "subject": "researcher",
        "dashboard": "llm-agents",
        "runbook": "LLMCostSpike",
    }
    assert alert.value == 1000 * (sampled.month.end - 0.1 * DAY)


def test_a_cost_without_a_past_has_no_change(sampled: Sampled) -> None:
    panel = panel_of("llm-agents", "Cost change")
    everything = sampled.end - sampled.month.begin

    assert (
        sampled.at(sampled.end, substituted(panel["targets"][0]["expr"], window=everything, step=300)) == []
    )
    assert panel["fieldConfig"]["defaults"]["noValue"] == "no past"


def test_the_heatmap_of_latency_counts_calls_and_its_axis_is_in_seconds() -> None:
    panel = panel_of("llm-latency", "Latency distribution")

    assert panel["fieldConfig"]["defaults"]["unit"] == "short"
    assert panel["options"]["yAxis"]["unit"] == "s"
