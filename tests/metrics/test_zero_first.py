"""New series are at 0 for every Prometheus before they are at their first value."""

from __future__ import annotations

from collections.abc import Iterable
from urllib.request import Request, urlopen

import pytest

import llm_exporter
from llm_exporter import Call
from llm_exporter.client.pipeline import Pipeline
from llm_exporter.config.model import Config, SeriesLabels
from llm_exporter.metrics.zero_first import SeriesKey, ZeroFirst
from support.metered import Metered

A, B = ("llm_calls_total", "a"), ("llm_calls_total", "b")
INTERVAL = 10.0


class Clock:
    """Seconds that pass when told to."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def held(zero_first: ZeroFirst) -> set[SeriesKey]:
    """What a Prometheus that scrapes now is shown at 0."""
    zero_first.scraped()
    return {series for series in (A, B) if zero_first.holds(series)}


def test_a_series_is_at_0_until_every_prometheus_has_scraped_once(clock: Clock) -> None:
    """One scrapes at 0, 10, 20 … and one at 9.9, 19.9 …: both have seen 0 twice when one shows the value."""
    zero_first = ZeroFirst(INTERVAL, clock=clock)
    zero_first.born(A)
    shown = {}
    for clock.now in (0.0, 9.9, 10.0, 19.9, 20.0, 29.9, 30.0):
        shown[clock.now] = held(zero_first) == set()
    assert shown == {**dict.fromkeys((0.0, 9.9, 10.0, 19.9, 20.0), False), 29.9: True, 30.0: True}


def test_the_time_runs_from_the_first_scrape_not_from_the_birth(clock: Clock) -> None:
    """Prometheus may be down, or not know this process yet, when a series is born."""
    zero_first = ZeroFirst(INTERVAL, clock=clock)
    zero_first.born(A)
    clock.now = 3600
    assert held(zero_first) == {A}
    clock.now = 3600 + 2.5 * INTERVAL
    zero_first.born(B)
    assert held(zero_first) == {B}


def test_a_series_that_is_born_during_a_scrape_is_at_0_in_it(pipeline: Pipeline) -> None:
    """Whoever renders reads values one after the other, while calls are counted."""
    pieces = pipeline.metrics.text(scrape=True, openmetrics=False)
    next(pieces)
    pipeline.metrics.record(Call(provider="p", model="m", operation="chat", tokens={"input": 5}))
    calls = [line for line in b"".join(pieces).decode().splitlines() if line.startswith("llm_calls_total")]
    assert [line.rpartition(" ")[2] for line in calls] == ["0.0"]


def test_what_is_shown_first_is_kept_before_it_is_shown(clock: Clock) -> None:
    kept: list[SeriesKey] = []
    full = True

    def release(series: Iterable[SeriesKey]) -> None:
        if full:
            raise OSError("No space left on device")
        kept.extend(series)

    zero_first = ZeroFirst(INTERVAL, release, clock)
    zero_first.born(A)
    zero_first.scraped()
    clock.now = 3 * INTERVAL
    assert held(zero_first) == {A}
    full = False
    assert held(zero_first) == set()
    assert kept == [A]


def test_what_was_shown_before_a_restart_is_shown_at_once(clock: Clock) -> None:
    zero_first = ZeroFirst(INTERVAL, clock=clock)
    zero_first.born(A)
    zero_first.born(B)
    zero_first.known([A])
    assert held(zero_first) == {B}


def calls_total(port: int, headers: dict[str, str]) -> float:
    with urlopen(Request(f"http://127.0.0.1:{port}/metrics", headers=headers)) as answer:
        lines = answer.read().decode().splitlines()
    return float(next(line for line in lines if line.startswith("llm_calls_total{")).split()[-1])


def test_a_prometheus_sees_0_first_and_a_person_the_value(metered: Metered) -> None:
    llm_exporter.record(provider="openai", model="gpt-4o", tokens={"input": 5})
    server = llm_exporter.start_http_server(port=0)
    try:
        assert calls_total(server.port, {}) == 1
        assert calls_total(server.port, {"X-Prometheus-Scrape-Timeout-Seconds": "10"}) == 0
        assert calls_total(server.port, {}) == 1
    finally:
        server.close()


def test_declared_series_are_there_at_0_from_the_start(pipeline: Pipeline, metered: Metered) -> None:
    pipeline.configure(
        Config(
            labels=("tier",),
            series=(SeriesLabels(provider="openai", model="gpt-5", agent="a", labels={"tier": "gold"}),),
        )
    )
    labels = {"provider": "openai", "model": "gpt-5", "agent": "a", "phase": "unattributed", "tier": "gold"}
    assert metered.samples("llm_calls_total", **labels) == {("chat",): 0}
    assert metered.samples("llm_cost_usd_total", **labels) == dict.fromkeys(
        [("input",), ("cache_read",), ("cache_write",), ("output",), ("reasoning",)], 0
    )


def test_declared_labels_are_on_every_metric_of_a_call(pipeline: Pipeline, metered: Metered) -> None:
    pipeline.configure(Config(labels=("tier",)))
    with llm_exporter.labels(agent="a", phase="p", tier="gold"):
        llm_exporter.record(provider="openai", model="gpt-4o", tokens={"input": 5})
    llm_exporter.record(provider="openai", model="gpt-4o", tokens={"input": 6})
    assert metered.samples("llm_tokens_total", provider="openai", model="gpt-4o") == {
        ("a", "p", "gold", "input"): 5,
        ("unattributed", "unattributed", "unattributed", "input"): 6,
    }


def test_labels_cannot_change_once_calls_are_counted(pipeline: Pipeline, metered: Metered) -> None:
    llm_exporter.record(provider="openai", model="gpt-4o", tokens={"input": 5})
    assert pipeline.flush()
    with pytest.raises(llm_exporter.ConfigError, match="labels are set before the first call"):
        pipeline.configure(Config(labels=("tier",)))
    assert metered.total("llm_calls_total") == 1
