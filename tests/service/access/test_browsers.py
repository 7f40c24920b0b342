"""A browser cannot be made to use the service for a page of another site."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from starlette.datastructures import Headers
from starlette.testclient import TestClient

from llm_exporter.config.model import Config
from llm_exporter.service.access.browsers import host_mistake, origin_mistake
from llm_exporter.service.app import make_app
from llm_exporter.service.ledger.sqlite import SqliteLedger
from support.calls import a_call


@pytest.fixture
def client(tmp_path: Path) -> Iterator[TestClient]:
    app = make_app(
        Config(),
        SqliteLedger(tmp_path / "ledger.db"),
        external_url="https://LLM.example.com/costs",
        listens_on="box.lan",
    )
    with TestClient(app, base_url="http://localhost:9847", raise_server_exceptions=False) as client:
        yield client


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1:9847",
        "localhost",
        "LOCALHOST:9847",
        "app.localhost:9847",
        "[::1]:9847",
        "[::1]",
        "192.168.1.5",
        "exporter:9847",
        "host.docker.internal:9847",
        "box.lan:9847",
        "llm.example.com",
        "llm.example.com.:443",
    ],
)
def test_a_host_that_nobody_else_can_own_passes(client: TestClient, host: str) -> None:
    assert client.get("/api/v1/budgets", headers={"host": host}).status_code == 200


@pytest.mark.parametrize(
    "host",
    [
        "evil.test:9847",
        "evil.test",
        "localhost.evil.test",
        "127.0.0.1.evil.test",
        "box.lan.evil.test",
        "evil-localhost.test",
        "[evil.test]",
        "a@evil.test",
    ],
)
@pytest.mark.parametrize("path", ["/", "/metrics", "/api/v1/calls", "/nowhere"])
def test_any_other_host_is_refused(client: TestClient, host: str, path: str) -> None:
    response = client.get(path, headers={"host": host})
    assert response.status_code == 421
    assert response.json()["detail"].endswith(
        "is not one of this service: start it with --web.external-url and the URL that you use, or set up"
        " authentication"
    )


def test_every_host_must_be_fine_and_a_request_without_one_comes_from_no_browser() -> None:
    assert host_mistake(["localhost", "evil.test"], frozenset()) != ""
    assert host_mistake([], frozenset()) == ""


@pytest.mark.parametrize("path", ["/-/healthy", "/-/ready"])
def test_a_probe_is_answered_whatever_the_host_is(client: TestClient, path: str) -> None:
    assert client.get(path, headers={"host": "node-7.example.com"}).status_code == 200


LINK = {"sec-fetch-mode": "navigate", "sec-fetch-dest": "document"}


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"sec-fetch-site": "same-origin", "origin": "http://localhost:9847"},
        {"sec-fetch-site": "none"},
        {"origin": "http://localhost:9847"},
        {"origin": "https://llm.example.com"},
        {"host": "llm.example.com", "origin": "https://llm.example.com"},
        {"host": "[::1]:9847", "origin": "http://[::1]:9847"},
        {"host": "127.0.0.1", "origin": "http://127.0.0.1"},
        {"host": "127.0.0.1:80", "origin": "http://127.0.0.1"},
    ],
)
def test_the_page_itself_and_programs_may_change_the_state(
    client: TestClient, headers: dict[str, str]
) -> None:
    assert client.post("/api/v1/calls", json=[], headers=headers).status_code == 200


@pytest.mark.parametrize(
    "headers",
    [
        {"sec-fetch-site": "cross-site"},
        {"sec-fetch-site": "same-site"},
        {"sec-fetch-site": "cross-site", **LINK},
        {"origin": "null"},
        {"origin": "http://evil.test"},
        {"origin": "http://localhost:3000"},
        {"origin": "http://localhost"},
        {"origin": "http://127.0.0.1:9847"},
        {"origin": "http://localhost:9847.evil.test"},
        {"origin": "http://localhost:99999999"},
        {"origin": "chrome-extension://localhost:9847"},
        {"origin": ""},
    ],
)
@pytest.mark.parametrize("path", ["/api/v1/calls", "/api/v1/sessions/s/reset", "/-/reload", "/api/v1/alerts"])
def test_a_page_of_another_site_cannot_change_the_state(
    client: TestClient, headers: dict[str, str], path: str
) -> None:
    response = client.post(path, json=[], headers=headers)
    assert response.status_code == 403
    assert response.json()["detail"].startswith("a page of another site sent this request (")


def test_a_page_of_another_site_can_link_to_the_service_but_not_embed_it() -> None:
    def mistake(**headers: str) -> str:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return origin_mistake("GET", Headers({"host": "localhost:9847", **named}), "")

    link = {"sec_fetch_site": "cross-site", "sec_fetch_mode": "navigate", "sec_fetch_dest": "document"}
    assert mistake(**link) == ""
    for changed in (
        {"sec_fetch_dest": "iframe"},
        {"sec_fetch_dest": "image", "sec_fetch_mode": "no-cors"},
        {"sec_fetch_dest": "empty", "sec_fetch_mode": "cors"},
        {"sec_fetch_dest": "script", "sec_fetch_mode": "no-cors"},
    ):
        assert mistake(**link | changed) == (
            "a page of another site sent this request (Sec-Fetch-Site: cross-site)"
        )
    assert mistake(origin="http://evil.test") == (
        "a page of another site sent this request (Origin: http://evil.test)"
    )


@pytest.mark.parametrize("content_type", [None, "text/plain", "application/x-www-form-urlencoded", "json"])
def test_a_body_must_be_declared_as_json(client: TestClient, content_type: str | None) -> None:
    headers = {} if content_type is None else {"content-type": content_type}
    for path in ("/api/v1/calls", "/api/v1/alerts", "/api/v1/budgets/leases"):
        response = client.post(path, content=b"[]", headers=headers)
        assert response.status_code == 415
        assert response.json()["detail"] == (
            f"the Content-Type must be application/json, not {content_type or ''!r}"
        )
    headers = {"content-type": "Application/JSON; charset=utf-8"}
    assert client.post("/api/v1/calls", content=b"[]", headers=headers).status_code == 200


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/", 200),
        ("GET", "/page.js", 200),
        ("GET", "/metrics", 200),
        ("GET", "/api/v1/cost", 200),
        ("GET", "/nowhere", 404),
        ("DELETE", "/metrics", 405),
        ("POST", "/api/v1/calls", 415),
        ("GET", "/api/v1/calls?limit=x", 400),
        ("POST", "/-/reload", 409),
        ("GET", "/api/v1/report", 500),
    ],
)
def test_every_response_has_the_headers(
    client: TestClient, monkeypatch: pytest.MonkeyPatch, method: str, path: str, status: int
) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("a mistake of ours")

    monkeypatch.setattr("llm_exporter.service.reports.rows", fail)
    response = client.request(method, path, headers={"origin": "http://localhost:9847"})
    assert response.status_code == status
    assert {
        name: response.headers[name]
        for name in (
            "content-security-policy",
            "cross-origin-resource-policy",
            "referrer-policy",
            "x-content-type-options",
            "x-frame-options",
        )
    } == {
        "content-security-policy": "default-src 'self'; img-src data:; base-uri 'none'; form-action 'self';"
        " frame-ancestors 'none'",
        "cross-origin-resource-policy": "same-origin",
        "referrer-policy": "no-referrer",
        "x-content-type-options": "nosniff",
        "x-frame-options": "DENY",
    }
    assert not any(name.startswith("access-control-") for name in response.headers)


def test_a_refused_request_stores_nothing(client: TestClient) -> None:
    body = [{"id": a_call().id, "provider": "openai", "model": "gpt-5", "operation": "chat"}]
    assert client.post("/api/v1/calls", json=body, headers={"origin": "http://evil.test"}).status_code == 403
    assert client.get("/api/v1/calls").json()["calls"] == []
