"""Every Prometheus sees a new series at 0 before it sees the first value."""

from __future__ import annotations

from collections.abc import Iterable
from urllib.request import Request, urlopen

import pytest

import llm_exporter
from llm_exporter import Call
from llm_exporter.client.pipeline import Pipeline
from llm_exporter.config.model import Config, SeriesLabels
from llm_exporter.metrics.zero_first import SeriesKey, ZeroFirst
from support.calls import a_call
from support.metered import Metered
from support.zero_first import INTERVAL, A, B, Clock, held_in_scrape


@pytest.fixture
def clock() -> Clock:
    return Clock()


def test_a_series_stays_at_0_until_every_prometheus_has_scraped(clock: Clock) -> None:
    """One scrapes at 0, 10, 20 …, another at 9.9, 19.9 …: both see 0 twice before either sees the value."""
    zero_first = ZeroFirst(INTERVAL, clock=clock)
    zero_first.hold(A)
    shown = {}
    for clock.now in (0.0, 9.9, 10.0, 19.9, 20.0, 29.9, 30.0):
        shown[clock.now] = held_in_scrape(zero_first) == set()
    assert shown == {**dict.fromkeys((0.0, 9.9, 10.0, 19.9, 20.0), False), 29.9: True, 30.0: True}


def test_the_time_starts_with_the_first_scrape_that_shows_the_series(clock: Clock) -> None:
    """Prometheus may be down, or not know this process yet, when a series is created."""
    zero_first = ZeroFirst(INTERVAL, clock=clock)
    zero_first.hold(A)
    clock.now = 3600
    assert held_in_scrape(zero_first) == {A}
    clock.now = 3600 + 2.5 * INTERVAL
    zero_first.hold(B)
    assert held_in_scrape(zero_first) == {B}


def test_a_series_created_during_a_scrape_is_shown_at_0(pipeline: Pipeline) -> None:
    """Values are read one after the other while calls are counted."""
    pieces = pipeline.metrics.text(scrape=True, openmetrics=False)
    next(pieces)
    pipeline.metrics.record(Call(provider="p", model="m", operation="chat", tokens={"input": 5}))
    calls = [line for line in b"".join(pieces).decode().splitlines() if line.startswith("llm_calls_total")]
    assert [line.rpartition(" ")[2] for line in calls] == ["0.0"]


def test_approximate_costs_and_unread_requests_are_shown_at_0_first(pipeline: Pipeline) -> None:
    """Alerts use `increase()`, which would not see the first one otherwise."""
    pipeline.metrics.record(a_call(approximated={"tier": 120}))
    pipeline.metrics.record(a_call(operation="unread", route="POST /v1/things"))
    names = {"llm_price_approximated_tokens_total", "llm_exporter_unread_requests_total"}

    def shown(*, scrape: bool) -> list[str]:
        text = b"".join(pipeline.metrics.text(scrape=scrape, openmetrics=False, names=names)).decode()
        return [line.rpartition(" ")[2] for line in text.splitlines() if not line.startswith("#")]

    assert shown(scrape=True) == ["0.0", "0.0"]
    assert shown(scrape=False) == ["120.0", "1.0"]


def test_a_series_is_persisted_before_its_value_is_shown(clock: Clock) -> None:
    persisted: list[SeriesKey] = []
    full = True

    def persist(series: Iterable[SeriesKey]) -> None:
        if full:
            raise OSError("No space left on device")
        persisted.extend(series)

    zero_first = ZeroFirst(INTERVAL, persist, clock)
    zero_first.hold(A)
    zero_first.on_scrape()
    clock.now = 3 * INTERVAL
    assert held_in_scrape(zero_first) == {A}
    full = False
    assert held_in_scrape(zero_first) == set()
    assert persisted == [A]


def test_a_series_shown_before_a_restart_is_shown_at_once(clock: Clock) -> None:
    zero_first = ZeroFirst(INTERVAL, clock=clock)
    zero_first.hold(A)
    zero_first.hold(B)
    zero_first.release([A])
    assert held_in_scrape(zero_first) == {B}


def calls_total(port: int, headers: dict[str, str]) -> float:
    with urlopen(Request(f"http://127.0.0.1:{port}/metrics", headers=headers)) as response:
        lines = response.read().decode().splitlines()
    return float(next(line for line in lines if line.startswith("llm_calls_total{")).split()[-1])


def test_a_prometheus_sees_0_first_and_a_browser_the_value(metered: Metered) -> None:
    llm_exporter.record(provider="openai", model="gpt-4o", tokens={"input": 5})
    server = llm_exporter.start_http_server(port=0)
    try:
        assert calls_total(server.port, {}) == 1
        assert calls_total(server.port, {"X-Prometheus-Scrape-Timeout-Seconds": "10"}) == 0
        assert calls_total(server.port, {}) == 1
    finally:
        server.close()


def test_declared_series_exist_at_0_from_the_start(pipeline: Pipeline, metered: Metered) -> None:
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
    with pytest.raises(llm_exporter.ConfigError, match="cannot change after the first call"):
        pipeline.configure(Config(labels=("tier",)))
    assert metered.total("llm_calls_total") == 1
