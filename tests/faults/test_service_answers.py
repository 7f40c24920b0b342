"""The service is away, hangs, or something else answers in its place."""

from __future__ import annotations

import socket
import threading
from pathlib import Path
from urllib.request import Request as Outgoing
from urllib.request import urlopen

import pytest

from faults.agents import Agent, kept
from faults.conftest import Record
from support.awaiting import until
from support.operations import CHAT
from support.scripted import Request, Response, Server
from support.served import Served

CALLS = 50
TOKEN = "right" * 4
PATH = "/api/v1/calls"
AWAY = "calls wait on disk"
TRIED = f"{CALLS} calls meanwhile, {CALLS} afterwards"
SEEN = "log of the process: `calls wait on disk`, with the reason"


@pytest.fixture(autouse=True)
def _provider_responds(server: Server) -> None:
    server.respond_with("/chat/completions", CHAT.responses[False]())


def test_absent(server: Server, tmp_path: Path, record: Record) -> None:
    service = Served(tmp_path)
    with Agent(service, server) as agent:
        agent.call(CALLS)
        until(lambda: AWAY in agent.log)
        with service:
            agent.call(CALLS)
            assert agent.end() == 0
            until(lambda: len(kept(service)) >= 2 * CALLS)
            assert record("the service is absent", TRIED, agent.made, kept(service), seen=SEEN) == (0, 0)


def test_hanging(server: Server, tmp_path: Path, record: Record) -> None:
    """The kernel accepts connections for it, and nobody answers."""
    service = Served(tmp_path)
    with socket.create_server(("127.0.0.1", service.port)), Agent(service, server) as agent:
        agent.call(2 * CALLS)
        assert agent.end() == 0
    with service:
        until(lambda: len(kept(service)) >= 2 * CALLS)
        assert record(
            "the service accepts connections and hangs",
            f"{2 * CALLS} calls and the end of the process meanwhile",
            agent.made,
            kept(service),
            harm="the process ends up to 5 s later",
            seen="calls in the ledger are late: `llm_exporter_shipping_lag_seconds`",
        ) == (0, 0)


ANSWERS = {
    "the login page of a network answers 200": Response(b"<html>Log in</html>", content_type="text/html"),
    "another program answers 200 with JSON": Response(b'{"status": "ok"}'),
    "the service answers 429": Response(b'{"detail": "slow down"}', status=429),
    "the service answers 500": Response(b"Internal Server Error", status=500, content_type="text/plain"),
    "a proxy answers 502": Response(b"<html>Bad Gateway</html>", status=502, content_type="text/html"),
}


@pytest.mark.parametrize("fault", ANSWERS)
def test_another_answer(fault: str, server: Server, tmp_path: Path, record: Record) -> None:
    service = Served(tmp_path)
    with Agent(service, server) as agent:
        with Server(service.port) as other:
            other.respond_with("", ANSWERS[fault])
            agent.call(CALLS)
            until(lambda: any(request.target == PATH for request in other.requests))
            until(lambda: AWAY in agent.log)
        with service:
            agent.call(CALLS)
            assert agent.end() == 0
            until(lambda: len(kept(service)) >= 2 * CALLS)
            assert record(fault, TRIED, agent.made, kept(service), seen=SEEN) == (0, 0)


def test_an_answer_that_breaks_off(server: Server, tmp_path: Path, record: Record) -> None:
    """The service has stored the calls, and the process sends them again."""
    breaks = 3
    now = threading.Event()
    now.set()

    with Served(tmp_path) as service, Server() as between:

        def forward(request: Request) -> bytes:
            headers = {name: request.headers[name] for name in ("content-type", "content-encoding")}
            with urlopen(Outgoing(service.url + request.target, request.body, headers)) as response:
                return bytes(response.read())

        between.respond_with(
            PATH,
            *[Response(b"", answer=forward, before={0: now}, cut=True)] * breaks,
            Response(b"", answer=forward),
        )
        with Agent(service, server, environment={"LLM_EXPORTER_URL": between.url}) as agent:
            agent.call(CALLS)
            until(lambda: sum(request.target == PATH for request in between.requests) > breaks)
            agent.call(CALLS)
        until(lambda: len(kept(service)) >= 2 * CALLS)
        assert "llm_exporter_duplicate_calls_total 0.0" not in service.get_text("/metrics")
        assert record(
            "the connection breaks in the middle of the service's answer",
            f"{breaks} times, after the service has stored the calls",
            agent.made,
            kept(service),
            seen="`llm_exporter_duplicate_calls_total`",
        ) == (0, 0)


def test_a_wrong_token(server: Server, tmp_path: Path, record: Record) -> None:
    config = tmp_path / "llm-exporter.yml"
    (tmp_path / "token").write_text(TOKEN)
    config.write_text(
        f"auth: {{tokens: [{{name: all, file: {tmp_path / 'token'}, rights: [ingest, read]}}]}}\n"
    )
    mine = tmp_path / "mine"
    mine.write_text("wrong")
    environment = {"LLM_EXPORTER_TOKEN_FILE": str(mine)}
    with Served(tmp_path, "--config", str(config)) as service:
        with Agent(service, server, environment=environment) as agent:
            agent.call(CALLS)
            until(lambda: "HTTP 401" in agent.log)
            mine.write_text(TOKEN)
            agent.call(CALLS)
        headers = {"authorization": f"Bearer {TOKEN}"}
        until(lambda: len(kept(service, headers)) >= 2 * CALLS)
        assert record(
            "the token is wrong, then right", TRIED, agent.made, kept(service, headers), seen=SEEN
        ) == (0, 0)
