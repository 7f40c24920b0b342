"""Follow calls from the SDKs to Prometheus, with the configuration that we ship."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

import llm_exporter
from support.metered import Metered
from support.operations import CHAT, GEMINI, MESSAGES, Operation
from support.scripted import Server
from tools.stack import Prometheus, prometheus_config

DEADLINE = 60.0


def test_prometheus_reports_the_cost_of_sdk_calls(server: Server, metered: Metered, tmp_path: Path) -> None:
    """Make one call with each SDK before the first scrape, and one after it, which `increase()` shows."""
    operations = [Operation(wire, "sync", stream=False) for wire in (CHAT, MESSAGES, GEMINI)]
    for operation in operations:
        server.respond_with(operation.path, operation.response())
    llm_exporter.instrument()

    def call_each() -> None:
        with llm_exporter.labels(agent="accountant", phase="execute"):
            for operation in operations:
                operation.run(operation.client(server.url))

    call_each()
    exposition = llm_exporter.start_http_server(port=0)
    config = prometheus_config(tmp_path / "config", targets=[f"127.0.0.1:{exposition.port}"])
    try:
        with Prometheus.start(config=config, storage=tmp_path) as prometheus:
            _await(prometheus, "sum(llm_calls_total)", 3)
            call_each()
            _await(prometheus, "sum(llm_calls_total)", 6)
            cost = {
                sample.labels["model"]: sample.value
                for sample in prometheus.query("sum by (model) (llm_cost_usd_total)")
            }
            increase = prometheus.query("sum by (model) (increase(llm_cost_usd_total[1m]))")
    finally:
        exposition.close()
    # Twice the cost of one call, as worked out in test_prices.py.
    assert cost == {
        "gpt-4o-2024-08-06": pytest.approx(2 * 0.00472),
        "claude-sonnet-4-6": pytest.approx(2 * 0.02265),
        "gemini-2.5-pro": pytest.approx(2 * 0.01625),
    }
    assert {sample.labels["model"] for sample in increase} == set(cost)
    assert all(sample.value > 0 for sample in increase)


def _await(prometheus: Prometheus, expression: str, value: float) -> None:
    """Wait until Prometheus has scraped a value."""
    deadline = time.monotonic() + DEADLINE
    while [sample.value for sample in prometheus.query(expression)] != [value]:
        assert time.monotonic() < deadline, f"{expression} is {prometheus.query(expression)}, not {value}"
        time.sleep(0.1)
