"""A real Prometheus stores native histograms, with the right values."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from llm_exporter.metrics.collector import Metrics
from support.awaiting import until
from support.native_prometheus import CLASSIC, DURATIONS, NATIVE, Target, record, scraping
from tools.stack import Prometheus


@pytest.fixture(scope="module")
def prometheus(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prometheus]:
    """Return a Prometheus that has scraped the same calls with and without native histograms."""
    targets = [Target("native", "a", Metrics(NATIVE)), Target("classic", "a", Metrics(CLASSIC))]
    for target in targets:
        record(target.metrics)
    with scraping(targets, tmp_path_factory.mktemp("prometheus")) as prometheus:
        until(lambda: len(prometheus.query(f"llm_calls_total == {len(DURATIONS)}")) == len(targets), 300)
        yield prometheus


def value(prometheus: Prometheus, expr: str) -> float:
    (sample,) = prometheus.query(expr)
    return sample.value


def test_a_native_histogram_has_the_right_count_sum_and_quantiles(prometheus: Prometheus) -> None:
    series = 'llm_latency_seconds{job="native"}'
    assert value(prometheus, f"histogram_count({series})") == len(DURATIONS)
    assert value(prometheus, f"histogram_sum({series})") == pytest.approx(sum(DURATIONS))
    for q in (0.05, 0.5, 0.95, 0.99):
        exact = sorted(DURATIONS)[round(q * len(DURATIONS)) - 1]
        assert value(prometheus, f"histogram_quantile({q}, {series})") == pytest.approx(exact, rel=0.0906)


def test_it_replaces_the_classic_buckets(prometheus: Prometheus) -> None:
    assert not prometheus.query('{__name__=~"llm_.*(_bucket|_count|_sum|_created)", job="native"}')


def test_it_is_first_shown_without_values(prometheus: Prometheus) -> None:
    count = 'histogram_count(llm_latency_seconds{job="native"})'
    assert value(prometheus, f"min_over_time({count}[1h:1s])") == 0


def test_a_classic_histogram_has_all_its_buckets(prometheus: Prometheus) -> None:
    of = '{job="classic"}'
    assert value(prometheus, f"llm_latency_seconds_count{of}") == len(DURATIONS)
    assert value(prometheus, f"llm_latency_seconds_sum{of}") == pytest.approx(sum(DURATIONS))
    buckets = prometheus.query(f"last_over_time(llm_latency_seconds_bucket{of}[1h])")
    assert len(buckets) == 14
    for bucket in buckets:
        below = [duration for duration in DURATIONS if duration <= float(bucket.labels["le"])]
        assert bucket.value == len(below)


def test_counters_and_gauges_have_their_values(prometheus: Prometheus) -> None:
    for job in ("native", "classic"):
        of = f'{{job="{job}", token_type="input"}}'
        assert value(prometheus, f"llm_cost_usd_total{of}") == 0.25 * len(DURATIONS)
        assert value(prometheus, f'llm_exporter_build_info{{job="{job}"}}') == 1
