"""Follow calls from the SDKs to Prometheus, with the configuration that we ship and shorter intervals."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest
from openai import NotFoundError, OpenAI

import llm_exporter
from llm_exporter.config.model import Config
from support.awaiting import until
from support.bundle import rewrite
from support.metered import Metered
from support.operations import CHAT, GEMINI, MESSAGES, Operation
from support.scripted import Response, Server
from support.served import Served
from tools.stack import Prometheus, prometheus_config


def test_prometheus_reports_the_cost_of_sdk_calls(server: Server, metered: Metered, tmp_path: Path) -> None:
    """Make one call with each SDK before the first scrape, and one after it, which `increase()` shows."""
    operations = [Operation(wire, "sync", stream=False) for wire in (CHAT, MESSAGES, GEMINI)]
    for operation in operations:
        server.respond_with(operation.path, operation.response())
    metered.pipeline.configure(Config(scrape_interval=1))
    llm_exporter.instrument()

    def call_each() -> None:
        with llm_exporter.labels(agent="accountant", phase="execute"):
            for operation in operations:
                operation.run(operation.client(server.url))

    call_each()
    exposition = llm_exporter.start_http_server(port=0)
    config = prometheus_config(tmp_path / "config", targets=[f"127.0.0.1:{exposition.port}"])
    rewrite(
        config, ("scrape_interval: 5s", "scrape_interval: 1s"), ("scrape_timeout: 5s", "scrape_timeout: 1s")
    )
    try:
        with Prometheus.start(config=config, storage=tmp_path) as prometheus:
            until(lambda: _value(prometheus, "sum(llm_calls_total)") == [3])
            call_each()
            until(lambda: _value(prometheus, "sum(llm_calls_total)") == [6])
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


def test_a_request_that_no_reader_takes_is_counted_by_the_service(
    server: Server, metered: Metered, tmp_path: Path
) -> None:
    """It reaches the ledger and the metrics of the service, with a route that has no ids."""
    server.respond_with("/runs", Response(b'{"object": "run"}'), Response(b"{}", status=404))
    address = server.url.removeprefix("http://")
    with Served(tmp_path) as served:
        metered.pipeline.configure(Config(providers={address: "openai"}))
        metered.pipeline.ship_to(served.url)
        client = llm_exporter.instrument(OpenAI(base_url=f"{server.url}/v1", api_key="k", max_retries=0))
        client.post("/things/thing_9Kx1/runs", body={"a": 1}, cast_to=object)
        with pytest.raises(NotFoundError):
            client.post("/things/thing_9Kx1/runs", body={"a": 1}, cast_to=object)
        metered.pipeline.close()
        failed, unread = served.get("/api/v1/calls")["calls"]
        text = served.get_text("/metrics")
    assert (unread["operation"], unread["route"]) == ("unread", "POST /v1/things/{id}/runs")
    assert (unread["tokens"], unread["cost_usd"], unread["usage_reported"]) == ({}, 0, False)
    assert failed["error"] == "not_found"
    labels = '{provider="openai",route="POST /v1/things/{id}/runs"}'
    assert f"llm_exporter_unread_requests_total{labels} 1.0\n" in text


def test_a_tier_without_a_price_is_counted_by_the_service(
    server: Server, metered: Metered, tmp_path: Path
) -> None:
    """The SDK's process prices the call at the standard tier, and the service counts what it ships."""
    operation = Operation(CHAT, "sync", stream=False)
    body = operation.response().body
    assert isinstance(body, bytes)
    answer = {**msgspec.json.decode(body), "service_tier": "express"}
    server.respond_with(operation.path, Response(msgspec.json.encode(answer)))
    address = server.url.removeprefix("http://")
    with Served(tmp_path) as served:
        metered.pipeline.configure(Config(providers={address: "openai"}))
        metered.pipeline.ship_to(served.url)
        llm_exporter.instrument()
        operation.run(operation.client(server.url))
        metered.pipeline.close()
        (call,) = served.get("/api/v1/calls")["calls"]
        cost = served.get("/api/v1/cost")
        text = served.get_text("/metrics")
    tokens = sum(CHAT.tokens.values())
    assert (call["service_tier"], call["approximated"]) == ("express", {"tier": tokens})
    assert call["cost"] == CHAT.cost
    assert cost["approximated_tokens"] == tokens
    (line,) = [line for line in text.splitlines() if line.startswith("llm_price_approximated_tokens_total{")]
    assert 'reason="tier"' in line
    assert line.endswith(f" {float(tokens)}")


def _value(prometheus: Prometheus, expression: str) -> list[float]:
    return [sample.value for sample in prometheus.query(expression)]
