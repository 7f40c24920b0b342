"""The service over HTTP."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from llm_exporter.service import examples, reports
from llm_exporter.service.app import PAGE_FILES
from llm_exporter.service.ledger.sqlite import SqliteLedger
from support.api import post
from support.calls import a_call


def test_health_and_readiness(
    client: TestClient, ledger: SqliteLedger, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("llm_exporter.service.readiness._FRESH_SECONDS", 0.0)
    assert client.get("/-/healthy").text == "healthy\n"
    assert client.get("/-/ready").text == "ready\n"
    ledger.close()
    response = client.get("/-/ready")
    assert response.status_code == 503
    assert response.json()["detail"].startswith("the ledger is unavailable: ")
    assert client.get("/-/healthy").status_code == 200


def test_metrics_are_served_in_both_formats(client: TestClient) -> None:
    post(client, a_call())
    assert 'llm_calls_total{agent="planner",' in client.get("/metrics").text
    response = client.get("/metrics", headers={"accept": "application/openmetrics-text; version=1.0.0"})
    assert response.headers["content-type"].startswith("application/openmetrics-text")


ALERT = {
    "status": "firing",
    "labels": {"alertname": "LLMCostHigh", "severity": "critical"},
    "annotations": {"summary": "planner spends too much"},
    "fingerprint": "f",
}


def test_alertmanager_webhooks_are_accepted(client: TestClient) -> None:
    assert client.post("/api/v1/alerts", json={"version": "4", "alerts": [ALERT]}).status_code == 204


@pytest.mark.parametrize(
    ("body", "mistake"),
    [
        ({"alerts": [{"status": "on"}]}, "Invalid enum value 'on'"),
        ({"alerts": [{"status": "firing"}]}, "Object missing required field `labels`"),
        ({"alerts": [{**ALERT, "labels": {"severity": 1}}]}, "Expected `str`, got `int`"),
        ({"alerts": ALERT}, "Expected `array`, got `object`"),
        ({}, "Object missing required field `alerts`"),
        ([], "Expected `object`, got `array`"),
    ],
)
def test_an_invalid_webhook_is_rejected(client: TestClient, body: Any, mistake: str) -> None:
    response = client.post("/api/v1/alerts", json=body)
    assert (response.status_code, response.headers["content-type"]) == (400, "application/problem+json")
    assert response.json()["detail"].startswith(f"invalid Alertmanager webhook: {mistake}")


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("DELETE", "/api/v1/calls", {"GET", "HEAD", "POST"}),
        ("POST", "/api/v1/cost", {"GET", "HEAD"}),
        ("POST", "/metrics", {"GET", "HEAD"}),
        ("GET", "/api/v1/alerts", {"POST"}),
        ("GET", "/api/v1/sessions/s-1/reset", {"POST"}),
    ],
)
def test_an_unsupported_method_is_rejected(
    client: TestClient, method: str, path: str, allowed: set[str]
) -> None:
    response = client.request(method, path)
    assert (response.status_code, set(response.headers["allow"].split(", "))) == (405, allowed)
    assert response.json() == {"status": 405, "detail": "Method Not Allowed"}


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/", "text/html"),
        ("/page.css", "text/css"),
        ("/page.js", "text/javascript"),
        ("/vendor/uPlot.iife.min.js", "text/javascript"),
    ],
)
def test_the_page_may_not_load_from_other_hosts(client: TestClient, path: str, kind: str) -> None:
    response = client.get(path)
    assert response.headers["content-type"].startswith(kind)
    assert response.headers["content-security-policy"].startswith("default-src 'self'; img-src data:;")


def test_every_file_of_the_page_is_served(client: TestClient) -> None:
    page = Path(reports.__file__).with_name("page")
    files = {str(file.relative_to(page)) for file in page.rglob("*.*s")}
    assert files == set(PAGE_FILES)
    for name in PAGE_FILES:
        assert client.get(f"/{name}").text == (page / name).read_text()


def test_the_vendored_files_are_those_that_the_readme_names() -> None:
    vendor = Path(reports.__file__).parent / "page/vendor"
    named = dict(re.findall(r"^    ([0-9a-f]{64})  (\S+)$", (vendor / "README.md").read_text(), re.MULTILINE))
    files = {file.name: file.read_bytes() for file in vendor.iterdir() if file.name != "README.md"}
    assert {hashlib.sha256(content).hexdigest(): name for name, content in files.items()} == named


def test_the_description_has_exactly_the_routes(client: TestClient) -> None:
    described = client.get("/api/v1/openapi.json").json()
    paths = {(path, method.upper()) for path, methods in described["paths"].items() for method in methods}
    routes = {
        (route.path.replace(":path", ""), method)
        for route in client.app.routes  # type: ignore[attr-defined]
        for method in route.methods or ()
        if route.path not in ("/", *(f"/{name}" for name in PAGE_FILES)) and method != "HEAD"
    }
    assert paths == routes
    schemas = described["components"]["schemas"]
    assert set(schemas["CostReport"]["required"]) == set(examples.COST)
    assert set(schemas["Call"]["required"]) == {"provider", "model", "operation"}
    assert described["openapi"] == "3.1.0"


def test_the_examples_are_real_responses(client: TestClient) -> None:
    assert client.post("/api/v1/calls", json=[examples.CALL]).json() == {"accepted": 1, "duplicates": 0}
    assert client.get("/api/v1/cost").json() == examples.COST
    usage = {"scope": "agent", "id": "coder", "period": "month", "since": "0"}
    assert client.get("/api/v1/usage", params=usage).json() == examples.USAGE
    by_day = {"by": "model", "period": "day"}
    assert client.get("/api/v1/report", params=by_day).json() == examples.REPORT
    page = client.get("/api/v1/calls").json()
    (call,) = page["calls"]
    example = examples.CALL_ROW
    assert {name: call[name] for name in example} == example
    assert page["next"] is examples.CALLS["next"]
    missing = client.get("/api/v1/cost", params={"session": "s-18"}).json()
    assert missing == {**examples.PROBLEM, "detail": "session 's-18' has no calls"}
    assert client.post("/api/v1/alerts", json=examples.ALERTS).status_code == 204
