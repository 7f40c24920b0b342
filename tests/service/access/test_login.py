"""People sign in to the live page with a token. A signed cookie then has its rights for twelve hours."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import cast

import pytest
from starlette.testclient import TestClient
from starlette.types import Message, Receive, Scope, Send

from llm_exporter.config.model import Auth, Config, Right, Token
from llm_exporter.service.access import door
from llm_exporter.service.access.door import Access, Requires
from llm_exporter.service.access.sessions import new_session, session_key
from llm_exporter.service.app import make_app
from llm_exporter.service.ledger.sqlite import SqliteLedger
from llm_exporter.service.requests import Problem
from llm_exporter.web_config import load_web_config
from support.certificates import Certificates

PEOPLE = "people-0123456789abcdef"
OTHERS = "others-0123456789abcdef"
COOKIE = "llm-exporter-session"
NOW = 1_780_000_000.0
HOURS = 3600.0


class Clock:
    def __init__(self) -> None:
        self.now = NOW

    def time(self) -> float:
        return self.now

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(door, "time", clock)
    return clock


def tokens(directory: Path, **rights: tuple[Right, ...]) -> Config:
    """Return a configuration with tokens of these names, whose files are written unless they exist."""
    for name in rights:
        file = directory / name
        if not file.exists():
            file.write_text(f"{name}-0123456789abcdef")
    return Config(
        auth=Auth(
            tokens=tuple(
                Token(name=name, file=directory / name, rights=each) for name, each in rights.items()
            )
        )
    )


@pytest.fixture
def start(tmp_path: Path) -> Callable[..., TestClient]:
    """Return a function that starts a service on the same ledger, and returns a new browser."""

    def start(config: Config | None = None, **options: object) -> TestClient:
        config = config or tokens(tmp_path, people=("read", "admin"), others=("read",), senders=("ingest",))
        app = make_app(config, SqliteLedger(tmp_path / "ledger.db"), **options)  # type: ignore[arg-type]
        return TestClient(app, base_url="http://localhost")

    return start


@pytest.fixture
def client(start: Callable[..., TestClient], clock: Clock) -> Iterator[TestClient]:
    with start() as client:
        yield client


def sign_in(client: TestClient, token: str = PEOPLE) -> str:
    """Sign in, and return the session in the cookie."""
    answer = client.post("/-/login", json={"token": token})
    assert answer.status_code == 200
    return str(answer.cookies[client_cookie(client)])


def client_cookie(client: TestClient) -> str:
    (name,) = {cookie.name for cookie in client.cookies.jar}
    return name


def status(client: TestClient, session: str, cookie: str = COOKIE) -> int:
    client.cookies.clear()
    return client.get("/api/v1/cost", headers={"cookie": f"{cookie}={session}"}).status_code


def failures(client: TestClient) -> dict[str, float]:
    headers = {"authorization": f"Bearer {OTHERS}"}
    text = client.get("/metrics", headers=headers).text
    found = re.findall(r'authentication_failures_total\{credentials="(\w+)"\} (\S+)', text)
    return {kind: float(number) for kind, number in found}


def test_signing_in_sets_a_cookie_with_the_rights_of_the_token(client: TestClient) -> None:
    assert client.get("/-/session").status_code == 401
    answer = client.post("/-/login", json={"token": PEOPLE})
    expected = {"name": "token people", "rights": ["admin", "read"], "signed_in": True}
    assert (answer.status_code, answer.json()) == (200, expected)
    set_cookie = answer.headers["set-cookie"]
    assert re.fullmatch(
        rf"{COOKIE}=people:\d+:[0-9a-f]{{64}}; Max-Age=43200; Path=/; HttpOnly; SameSite=Strict", set_cookie
    )
    assert PEOPLE not in set_cookie
    assert client.get("/-/session").json() == expected
    assert client.get("/metrics").status_code == 200
    assert client.post("/-/reload").status_code == 409, "it may, but there is no file"
    assert client.post("/api/v1/calls", json=[]).status_code == 403, "it lacks the right to ingest"


def test_a_session_has_no_more_rights_than_its_token(client: TestClient) -> None:
    sign_in(client, OTHERS)
    assert client.get("/-/session").json()["rights"] == ["read"]
    assert client.post("/-/reload").status_code == 403


def test_a_token_itself_is_not_a_session(client: TestClient) -> None:
    answer = client.get("/-/session", headers={"authorization": f"Bearer {OTHERS}"})
    assert answer.json() == {"name": "token others", "rights": ["read"], "signed_in": False}


def test_signing_out_deletes_the_cookie(client: TestClient) -> None:
    sign_in(client)
    answer = client.post("/-/logout")
    assert answer.status_code == 204
    assert answer.headers["set-cookie"] == f"{COOKIE}=; Max-Age=0; Path=/; HttpOnly; SameSite=Strict"
    assert client.get("/-/session").status_code == 401


def test_a_session_ends_after_twelve_hours(client: TestClient, clock: Clock) -> None:
    session = sign_in(client)
    clock.now = NOW + 12 * HOURS - 1
    assert status(client, session) == 200
    clock.now = NOW + 12 * HOURS
    assert status(client, session) == 401
    clock.now = NOW - HOURS
    assert status(client, session) == 401, "it would last longer than twelve hours"


def test_a_session_outlives_a_restart(start: Callable[..., TestClient], clock: Clock) -> None:
    with start() as client:
        session = sign_in(client)
    with start() as client:
        assert status(client, session) == 200


def test_a_changed_token_ends_the_session_and_an_unreadable_one_accepts_none(
    client: TestClient, tmp_path: Path
) -> None:
    session = sign_in(client)
    (tmp_path / "people").write_text("people-was-changed-by-the-admin")
    assert status(client, session) == 401
    (tmp_path / "people").unlink()
    assert status(client, session) == 401
    for key in (b"", session_key(b"")):
        assert status(client, new_session("people", key, NOW)) == 401
    (tmp_path / "people").write_text(PEOPLE)
    assert status(client, session) == 200


def test_a_removed_token_ends_the_session(
    start: Callable[..., TestClient], clock: Clock, tmp_path: Path
) -> None:
    with start() as client:
        session = sign_in(client)
    with start(tokens(tmp_path, others=("read",))) as client:
        assert status(client, session) == 401
    with start(tokens(tmp_path, people=("ingest",))) as client:
        assert status(client, session) == 403, "the rights are those of now"


def test_a_session_cannot_be_forged(client: TestClient) -> None:
    session = sign_in(client, OTHERS)
    name, end, signature = session.split(":")
    for forged in (
        f"people:{end}:{signature}",
        f"{name}:{int(end) + 1}:{signature}",
        f"{name}:{end}:{signature[:-1]}",
        f"{name}:{end}:",
        f"{name}:{end}",
        f"{name}:",
        "",
        ":::",
        "nobody:1:2",
        f"{name}:{end}:{signature}0",
        f"{name}:{end}:{signature.upper()}",
        f"{name}:x:{'0' * 64}",
        f"{name}:{'9' * 5000}:{'0' * 64}",
        OTHERS,
        new_session("others", OTHERS.encode(), NOW),
        new_session("others", session_key(PEOPLE.encode()), NOW),
    ):
        assert status(client, forged) == 401, forged
    assert (
        client.get("/api/v1/cost", headers={b"cookie": COOKIE.encode() + b"=\xff:\xfe:\xfd"}).status_code
        == 401
    )
    assert status(client, session) == 200


def test_a_token_in_a_header_comes_before_the_cookie(client: TestClient) -> None:
    sign_in(client)
    headers = {"authorization": f"Bearer {OTHERS}x"}
    assert client.get("/api/v1/cost", headers=headers).status_code == 401


@pytest.mark.parametrize("where", ["?token={}", "?access_token={}", "?authorization=Bearer%20{}"])
def test_a_token_in_a_url_opens_nothing(client: TestClient, where: str) -> None:
    query = where.format(PEOPLE)
    assert client.get(f"/api/v1/cost{query}").status_code == 401
    assert client.post(f"/-/login{query}", json={"token": ""}).status_code == 401


def test_failures_are_refused_and_counted(client: TestClient) -> None:
    for token in ("", "people-0123456789abcdeF", PEOPLE + "x", "é", "\0"):
        answer = client.post("/-/login", json={"token": token})
        assert (answer.status_code, answer.json()["detail"]) == (401, "the token is unknown")
        assert answer.headers["www-authenticate"] == 'Bearer realm="llm-exporter"'
        assert "set-cookie" not in answer.headers
    assert client.get("/api/v1/cost").status_code == 401, "without credentials, nothing has failed"
    assert client.get("/api/v1/cost", headers={"authorization": "Bearer wrong"}).status_code == 401
    assert client.get("/api/v1/cost", headers={"authorization": "Basic d3Jvbmc6"}).status_code == 401
    assert client.get("/api/v1/cost", headers={"authorization": "Digest x"}).status_code == 401
    assert status(client, "people:1:2") == 401
    assert failures(client) == {"token": 6, "password": 1, "other": 1, "session": 1}


def test_a_token_that_cannot_read_cannot_sign_in(client: TestClient) -> None:
    answer = client.post("/-/login", json={"token": "senders-0123456789abcdef"})
    assert (answer.status_code, answer.json()["detail"]) == (403, "token senders lacks the right 'read'")
    assert "set-cookie" not in answer.headers


@pytest.mark.parametrize(
    ("body", "headers", "expected"),
    [
        (b'{"token": 1}', {}, 400),
        (b"{}", {}, 400),
        (b"", {}, 400),
        (b"[" * 10_000, {}, 400),
        (b'"\xff"', {}, 400),
        (b'{"token": "\\ud800"}', {}, 400),
        (b'{"token": "' + b"x" * 5000 + b'"}', {}, 400),
        (b'{"token": "' + b"x" * 100_000 + b'"}', {}, 413),
        (b"token=people-0123456789abcdef", {"content-type": "application/x-www-form-urlencoded"}, 415),
        (b'{"token": "people-0123456789abcdef"}', {"content-type": "text/plain"}, 415),
        (b'{"token": "people-0123456789abcdef"}', {"origin": "http://evil.test"}, 403),
        (b'{"token": "people-0123456789abcdef"}', {"sec-fetch-site": "same-site"}, 403),
    ],
)
def test_only_the_page_and_programs_can_sign_in(
    client: TestClient, body: bytes, headers: dict[str, str], expected: int
) -> None:
    answer = client.post("/-/login", content=body, headers={"content-type": "application/json", **headers})
    assert answer.status_code == expected
    assert "set-cookie" not in answer.headers
    assert PEOPLE not in answer.text


def test_a_service_without_tokens_has_nothing_to_sign_in_with(start: Callable[..., TestClient]) -> None:
    with start(Config()) as client:
        answer = client.post("/-/login", json={"token": PEOPLE})
        assert (answer.status_code, answer.json()["detail"]) == (
            409,
            "the service has no tokens: nobody can sign in with one",
        )
        everything = {"name": "", "rights": ["admin", "ingest", "read"], "signed_in": False}
        assert client.get("/-/session").json() == everything


SECURE = "__Host-llm-exporter-session"


@pytest.mark.parametrize("how", ["external URL", "TLS"])
def test_over_https_the_cookie_is_secure_and_bound_to_the_host(
    start: Callable[..., TestClient], how: str, tmp_path: Path
) -> None:
    Certificates(tmp_path).issue("localhost")
    (tmp_path / "web.yml").write_text("tls_server_config: {cert_file: server.pem, key_file: server.key}")
    options: dict[str, dict[str, object]] = {
        "external URL": {"external_url": "https://llm.example.com"},
        "TLS": {"web": load_web_config(tmp_path / "web.yml")},
    }
    with start(**options[how]) as client:
        answer = client.post("/-/login", json={"token": PEOPLE})
        assert answer.headers["set-cookie"].startswith(f"{SECURE}=people:")
        assert answer.headers["set-cookie"].endswith(
            "; Max-Age=43200; Path=/; HttpOnly; SameSite=Strict; Secure"
        )
        session = answer.cookies[SECURE]
        assert status(client, session, SECURE) == 200
        assert status(client, session, COOKIE) == 401, "another host of the domain can set that"


def test_an_answer_is_not_cached(client: TestClient) -> None:
    sign_in(client)
    for path in ("/api/v1/cost", "/-/session", "/metrics", "/"):
        assert client.get(path).headers["cache-control"] == "no-store"


def test_a_stream_ends_when_its_token_is_no_longer_valid(clock: Clock, tmp_path: Path) -> None:
    async def stream(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200})
        for seconds, more in ((1, b"0"), (10, b"1"), (1, b"2"), (10, b"3"), (1, b"4")):
            if more == b"2":
                (tmp_path / "people").write_text("people-was-changed-by-the-admin")
            clock.now += seconds
            await send({"type": "http.response.body", "body": more, "more_body": True})

    sent: list[Message] = []

    async def send(message: Message) -> None:
        sent.append(message)

    access = Access(tokens(tmp_path, people=("read",)).auth, None, "", "localhost", lambda: None)
    scope: Scope = {
        "type": "http",
        "method": "GET",
        "headers": [(b"authorization", f"Bearer {PEOPLE}".encode())],
    }
    asyncio.run(Requires(stream, access, {"GET": "read"})(scope, cast("Receive", None), send))
    assert [message.get("body") for message in sent] == [None, b"0", b"1", b"2", b""]
    assert not sent[-1].get("more_body")
    with pytest.raises(Problem, match="unknown"):
        asyncio.run(Requires(stream, access, {"GET": "read"})(scope, cast("Receive", None), send))
