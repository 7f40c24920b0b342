"""Rules and dashboards read native and classic histograms, in a real Prometheus with both.

promtool 2.42 knows no native histograms.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import yaml

from llm_exporter.bundle.dashboards.health import lag
from llm_exporter.bundle.dashboards.latency import quantile
from llm_exporter.metrics.collector import Metrics
from llm_exporter.metrics.series import number_text
from llm_exporter.metrics.specs import LATENCY, OUTPUT_RATE, TIME_TO_FIRST_TOKEN
from support.awaiting import until
from support.bundle import PROMETHEUS
from support.calls import a_call
from support.native_prometheus import CLASSIC, DURATIONS, NATIVE, Target, record, scraping
from tools.stack import Prometheus, Sample

MODELS = PROMETHEUS / "rules" / "models.yml"
CALLS = PROMETHEUS / "rules" / "calls.yml"
KINDS = {
    "native": [("a", NATIVE)],
    "classic": [("a", CLASSIC)],
    "both": [("a", NATIVE), ("a", CLASSIC)],  # as if Prometheus kept both kinds of the same program
    "mixed": [("a", NATIVE), ("b", CLASSIC)],
}
"""The instances of each job."""
RECORDED = {"native": 1000, "classic": 1000, "both": 1000, "mixed": 2000, "uneven": 4000}
"""About how many calls of each job the fixture has recorded."""


class Moment(NamedTuple):
    """A Prometheus at a moment: rates are those of then, however long the tests take."""

    prometheus: Prometheus
    time: float

    def query(self, expr: str) -> list[Sample]:
        return self.prometheus.query(expr, self.time)


def calls_by_job(prometheus: Prometheus | Moment) -> dict[str, float]:
    """Return about how many calls were recorded: Prometheus extrapolates by up to two scrape intervals."""
    rates = prometheus.query('job_le:llm_latency_seconds_bucket:rate5m{le="+Inf"}')
    return {sample.labels["job"]: 300 * sample.value for sample in rates}


@pytest.fixture(scope="module")
def prometheus(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Moment]:
    """Return a Prometheus that evaluates the rules often, when it has recorded the calls of all jobs."""
    directory = tmp_path_factory.mktemp("prometheus")
    (group,) = yaml.safe_load(MODELS.read_text())["groups"]
    rules = directory / "rules.yml"
    rules.write_text(yaml.safe_dump({"groups": [{**group, "interval": "1s"}]}))
    targets = [
        Target(job, instance, Metrics(config)) for job, kinds in KINDS.items() for instance, config in kinds
    ]
    for target in targets:
        record(target.metrics)
        target.metrics.count_received([a_call(started=time.time() - 1.5, duration=1.47)])
    fast = Metrics(CLASSIC)
    for _ in range(3000):
        fast.record(a_call(duration=0.7, time_to_first_token=0.5))
    uneven = Metrics(NATIVE)
    record(uneven)
    targets += [Target("uneven", "a", uneven), Target("uneven", "b", fast)]
    with scraping(targets, directory, rules) as prometheus:
        until(lambda: len(prometheus.query("histogram_count(job:llm_latency_seconds:rate5m) > 0")) == 4, 300)
        until(
            lambda: all(calls_by_job(prometheus).get(job, 0) > 0.6 * RECORDED[job] for job in RECORDED), 300
        )
        yield Moment(prometheus, time.time())


def value(prometheus: Moment, expr: str) -> float:
    (sample,) = prometheus.query(expr)
    return sample.value


@pytest.mark.parametrize("job", KINDS)
@pytest.mark.parametrize("level", ["job_provider_model_le", "job_le"])
def test_recorded_buckets_have_the_calls_of_both_kinds(prometheus: Moment, level: str, job: str) -> None:
    buckets = prometheus.query(f'{level}:llm_latency_seconds_bucket:rate5m{{job="{job}"}}')
    by_bound = {bucket.labels["le"]: bucket.value for bucket in buckets}
    assert {*by_bound} == {number_text(bound) for bound in (*LATENCY.buckets, float("inf"))}
    for bound, rate in by_bound.items():
        share = sum(duration <= float(bound) for duration in DURATIONS) / len(DURATIONS)
        assert rate / by_bound["+Inf"] == pytest.approx(share, abs=0.01)


def test_no_call_is_missing_or_counted_twice(prometheus: Moment) -> None:
    assert calls_by_job(prometheus) == pytest.approx(RECORDED, rel=0.4)


@pytest.mark.parametrize("file", [MODELS, CALLS])
def test_alerts_count_the_calls_of_both_kinds(prometheus: Moment, file: Path) -> None:
    counts = re.findall(
        r"sum by \(job, provider, model\) \((\s+increase\(llm_\w+_count[^>]*)\) >= 20", file.read_text()
    )
    assert len(counts) == file.read_text().count(">= 20") > 1
    for count in counts:
        found: Any = {}
        for sample in prometheus.query(f"count by (job) ({count})"):
            found[sample.labels["job"]] = sample.value
        assert found == {"native": 1, "classic": 1, "both": 1, "mixed": 2, "uneven": 2}


@pytest.mark.parametrize("spec", [LATENCY, TIME_TO_FIRST_TOKEN, OUTPUT_RATE])
def test_the_rules_compute_the_buckets_of_the_metric(spec: Any) -> None:
    (expr,) = [
        rule["expr"]
        for rule in yaml.safe_load(MODELS.read_text())["groups"][0]["rules"]
        if rule.get("record") == f"job_provider_model_le:{spec.name}_bucket:rate5m"
    ]
    pairs = re.findall(r'histogram_fraction\(0, (\S+), \S+\), "le", "(\S+)"', expr)
    assert [text for _, text in pairs] == [number_text(bound) for bound in (*spec.buckets, float("inf"))]
    assert all(float(bound) == float(text) for bound, text in pairs)
    assert expr.count(f"job_provider_model:{spec.name}_native:rate5m") == len(pairs) + 1


def selected(expr: str, job: str) -> str:
    """Return a query of a dashboard that is filtered by a job."""
    return expr.replace("$job", job).replace("$provider", ".*").replace("$model", ".*")


@pytest.mark.parametrize("job", KINDS)
@pytest.mark.parametrize(("q", "by_buckets"), [(0.5, 2.547), (0.95, 24.40)])
@pytest.mark.parametrize("by", ["", "model"])
def test_dashboards_show_percentiles_of_both_kinds(
    prometheus: Moment, by: str, q: float, by_buckets: float, job: str
) -> None:
    """Of the calls, 462 take up to 2 s, 601 up to 4 s, and 866 up to 15 s; all take up to 30 s."""
    shown = value(prometheus, selected(quantile(q, "llm_latency_seconds", "1m", by), job))
    if job == "classic":
        assert shown == pytest.approx(by_buckets, rel=0.01)
    assert shown == pytest.approx(sorted(DURATIONS)[round(q * len(DURATIONS)) - 1], rel=0.0906)


def test_a_percentile_has_the_calls_of_both_kinds(prometheus: Moment) -> None:
    """Of 4,000 calls, 184 take up to 0.5 s, and 3,323 up to 1 s. Native histograms have a quarter of them.

    Prometheus 2.42, which cannot sum native histograms over time, would not show that quarter by mistake.
    """
    shown = value(prometheus, selected(quantile(0.5, "llm_latency_seconds", "1m"), "uneven"))
    assert shown == pytest.approx(0.5 + 0.5 * (2000 - 184) / (3323 - 184), rel=0.05)


def test_the_shipping_lag_is_shown_for_both_kinds(prometheus: Moment) -> None:
    """Each has one call, which was shipped within its first bucket."""
    for job in KINDS:
        assert 0 < value(prometheus, selected(lag(0.95, "5m"), job)) <= 0.1
