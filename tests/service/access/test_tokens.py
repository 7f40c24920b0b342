"""Tokens open the routes of their rights, and no others."""

from __future__ import annotations

import base64
import os
from collections.abc import Callable, Iterator, Mapping
from logging import LogRecord
from pathlib import Path
from typing import Any, cast

import bcrypt
import msgspec
import pytest
from click.testing import CliRunner
from starlette.applications import Starlette
from starlette.routing import Route
from starlette.testclient import TestClient

from llm_exporter.cli.main import main
from llm_exporter.config.model import Auth, Config, Token
from llm_exporter.errors import ConfigError
from llm_exporter.service.access.door import Access
from llm_exporter.service.app import PAGE_FILES, make_app
from llm_exporter.service.ledger.sqlite import SqliteLedger
from llm_exporter.web_config import load_web_config
from support.calls import a_call

RIGHTS = {
    ("GET", "/"): None,
    **{("GET", f"/{name}"): None for name in PAGE_FILES},
    ("GET", "/-/healthy"): None,
    ("GET", "/-/ready"): None,
    ("POST", "/-/reload"): "admin",
    ("POST", "/-/login"): None,
    ("POST", "/-/logout"): None,
    ("GET", "/-/session"): "read",
    ("GET", "/api/v1/calls"): "read",
    ("POST", "/api/v1/calls"): "ingest",
    ("GET", "/api/v1/cost"): "read",
    ("GET", "/api/v1/usage"): "read",
    ("GET", "/api/v1/report"): "read",
    ("GET", "/api/v1/budgets"): "read",
    ("POST", "/api/v1/budgets/leases"): "ingest",
    ("GET", "/api/v1/events"): "read",
    ("POST", "/api/v1/alerts"): "admin",
    ("POST", "/api/v1/sessions/{id:path}/reset"): "admin",
    ("GET", "/api/v1/openapi.json"): "read",
    ("GET", "/metrics"): "read",
}
"""Every route of the service. A new one needs a decision about its right here, too."""


ALICE = bcrypt.hashpw(b"pass:word", bcrypt.gensalt(4)).decode()


def secret(right: str) -> str:
    return f"{right}-0123456789abcdef"


def bearer(token: str) -> dict[str, str]:
    return {"authorization": f"Bearer {token}"}


def basic(user: str, password: str) -> dict[str, str]:
    return {"authorization": "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()}


def token_file(directory: Path, name: str, text: str) -> Path:
    file = directory / name
    file.write_text(text)
    file.chmod(0o600)
    return file


def token(directory: Path, right: Any, **more: Any) -> Token:
    """Return a token with one right, of the same name."""
    file = token_file(directory, right, secret(right) + "\n")
    return Token(name=right, file=file, rights=(right,), **more)


@pytest.fixture
def app(tmp_path: Path) -> Starlette:
    tokens = tuple(token(tmp_path, right) for right in ("ingest", "read", "admin"))
    config = Config(auth=Auth(tokens=tokens))
    file = tmp_path / "web.yml"
    file.write_text(f"basic_auth_users: {{alice: '{ALICE}'}}\n")
    return make_app(config, SqliteLedger(tmp_path / "ledger.db"), web=load_web_config(file))


@pytest.fixture
def client(app: Starlette) -> Iterator[TestClient]:
    with TestClient(app, base_url="http://localhost") as client:
        yield client


def request(client: TestClient, method: str, path: str, headers: Mapping[str, str]) -> Any:
    """Make a request that fails after it was admitted, or is cheap."""
    path = path.replace("{id:path}", "s")
    if path == "/api/v1/events":  # an endless stream, which a wrong parameter would not end
        path = "/api/v1/budgets"
    return client.request(method, path, headers=dict(headers))


def test_every_route_has_a_right_or_is_open_on_purpose(app: Starlette) -> None:
    routes = {
        (method, route.path)
        for route in cast("list[Route]", app.routes)
        for method in cast("set[str]", route.methods) - {"HEAD"}
    }
    assert routes == set(RIGHTS)


@pytest.mark.parametrize(("route", "right"), RIGHTS.items(), ids=[" ".join(route) for route in RIGHTS])
def test_a_route_is_open_to_its_right_only(
    client: TestClient, route: tuple[str, str], right: str | None
) -> None:
    for other in ("ingest", "read", "admin"):
        response = request(client, *route, bearer(secret(other)))
        if right in (None, other):
            assert response.status_code not in (401, 403)
        else:
            assert (response.status_code, response.json()["detail"]) == (
                403,
                f"token {other} lacks the right {right!r}",
            )
    assert request(client, *route, basic("alice", "pass:word")).status_code not in (401, 403)
    assert (request(client, *route, {}).status_code == 401) == (right is not None)


@pytest.mark.parametrize(
    ("headers", "what"),
    [
        ({}, "missing"),
        (bearer("read-0123456789abcdeF"), "unknown"),
        (bearer(""), "unknown"),
        ({"authorization": "Bearer"}, "unknown"),
        ({"authorization": f"Digest {secret('read')}"}, "unknown"),
        (basic("alice", "wrong"), "unknown"),
        (basic("bob", "pass:word"), "unknown"),
        ({"authorization": "Basic !"}, "unknown"),
        ({"authorization": "Basic " + base64.b64encode(b"alice").decode()}, "unknown"),
        ({"authorization": "Basic " + base64.b64encode(b"\xff:\xff").decode()}, "unknown"),
    ],
)
def test_who_is_not_known_is_told_how_to_authenticate(
    client: TestClient, headers: dict[str, str], what: str
) -> None:
    response = client.get("/metrics", headers=headers)
    assert response.status_code == 401
    assert response.headers.get_list("www-authenticate") == [
        'Bearer realm="llm-exporter"',
        'Basic realm="llm-exporter"',
    ]
    assert response.headers["content-type"] == "application/problem+json"
    assert response.json() == {
        "status": 401,
        "detail": f"the credentials are {what}: send a token (Authorization: Bearer …) or a user and password"
        " (Basic)",
    }


def test_head_requires_the_right_of_get(client: TestClient) -> None:
    assert client.head("/api/v1/cost").status_code == 401
    assert client.head("/api/v1/cost", headers=bearer(secret("read"))).status_code == 200


def test_without_authentication_every_request_passes(tmp_path: Path) -> None:
    with TestClient(
        make_app(Config(), SqliteLedger(tmp_path / "ledger.db")), base_url="http://localhost"
    ) as client:
        for route in RIGHTS:
            assert request(client, *route, {}).status_code not in (401, 403)


def test_a_token_is_read_again_when_its_file_changes(
    client: TestClient, tmp_path: Path, said: Callable[[], list[LogRecord]]
) -> None:
    def status(text: str) -> int:
        return client.get("/api/v1/cost", headers=bearer(text)).status_code

    file = tmp_path / "read"
    token_file(tmp_path, "new", "another-token-of-the-reader").replace(file)
    assert (status(secret("read")), status("another-token-of-the-reader")) == (401, 200)
    file.unlink()
    assert (status("another-token-of-the-reader"), status("")) == (401, 401)
    assert [record.getMessage() for record in said()] == [
        "llm-exporter: requests with the token read are refused:"
        f" cannot read {file}: No such file or directory"
    ]
    token_file(tmp_path, "read", secret("read"))
    assert status(secret("read")) == 200
    text = client.get("/metrics", headers=bearer(secret("read"))).text
    assert 'llm_exporter_errors_total{where="auth"} 1' in text


def test_the_labels_of_a_token_replace_what_the_client_claims(tmp_path: Path) -> None:
    bound = token(tmp_path, "ingest", labels={"team": "web", "agent": "bo\nt"})
    config = Config(labels=("team",), auth=Auth(tokens=(bound, token(tmp_path, "read"))))
    with TestClient(
        make_app(config, SqliteLedger(tmp_path / "ledger.db")), base_url="http://localhost"
    ) as client:
        calls = [a_call(labels={"team": "batch", "phase": "plan"}), a_call(labels={})]
        sent = client.post("/api/v1/calls", json=msgspec.to_builtins(calls), headers=bearer(secret("ingest")))
        assert sent.json() == {"accepted": 2, "duplicates": 0}
        stored = client.get("/api/v1/calls", headers=bearer(secret("read"))).json()["calls"]
        assert sorted((call["labels"] for call in stored), key=len) == [
            {"team": "web", "agent": "bo?t"},
            {"team": "web", "agent": "bo?t", "phase": "plan"},
        ]


# ---- mistakes


def serve(file: Path) -> str:
    """Return why `llm-exporter serve` does not start."""
    result = CliRunner().invoke(main, ["serve", "--config", str(file), "--port", "0"])
    assert (result.exit_code, "Traceback" in result.output) == (2, False)
    return result.output.removeprefix("Error: ").removesuffix("\n")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "cannot read {file}: No such file or directory"),
        ("", "{file} has no token in its first line"),
        ("\nsecond-line-is-not-read\n", "{file} has no token in its first line"),
        (
            "short\n",
            "the token in {file} has 5 characters: use 16 to 4096, for example those of"
            " `openssl rand -hex 32`",
        ),
        ("two words are no token\n", "the token in {file} has characters other than visible ASCII"),
    ],
)
def test_a_token_file_that_is_not_safe_to_use_stops_the_start(
    tmp_path: Path, text: str | None, message: str
) -> None:
    file = tmp_path / "token"
    if text is not None:
        file.write_text(text)
    config = tmp_path / "llm-exporter.yml"
    config.write_text(f"auth:\n  tokens:\n    - name: web\n      file: {file}\n      rights: [ingest]\n")
    assert serve(config) == f"{config}:4: auth.tokens.0.file: {message.format(file=file)}"


def test_a_fifo_is_no_token_file(tmp_path: Path) -> None:
    file = tmp_path / "token"
    os.mkfifo(file, 0o600)
    config = tmp_path / "llm-exporter.yml"
    config.write_text(f"auth: {{tokens: [{{name: web, file: {file}, rights: [read]}}]}}\n")
    assert serve(config) == f"{config}:1: auth.tokens.0.file: {file} is not a regular file"


def test_two_names_cannot_share_a_token(tmp_path: Path) -> None:
    for name in ("a", "b"):
        token_file(tmp_path, name, "0123456789abcdef\n")
    config = tmp_path / "llm-exporter.yml"
    config.write_text(
        f"auth:\n  tokens:\n    - {{name: a, file: {tmp_path}/a, rights: [ingest]}}\n"
        f"    - {{name: b, file: {tmp_path}/b, rights: [admin]}}\n"
    )
    assert serve(config) == (
        f"{config}:4: auth.tokens.1.file: the token in {tmp_path}/b is also that of auth.tokens.0"
    )


def test_a_reload_cannot_remove_the_last_token(tmp_path: Path) -> None:
    access = Access(Auth(tokens=(token(tmp_path, "read"),)), None, "", "0.0.0.0", lambda: None)
    access.refuse_to_open(Auth(tokens=(token(tmp_path, "admin"),)))
    with pytest.raises(ConfigError, match="the last token cannot go while the service runs"):
        access.refuse_to_open(Auth())
