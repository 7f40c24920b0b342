"""No prompt, response, key, token or password is in anything that a run leaves behind or shows."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from base64 import b64encode
from collections.abc import Iterator
from pathlib import Path

import pytest

from faults.agents import kept
from faults.conftest import Record
from support.awaiting import until
from support.operations import CHAT, GEMINI, MESSAGES, RESPONSES, Format
from support.scripted import Response, Server
from support.served import Served

CANARY = "c4n4ry"
PROGRAM = Path(__file__).with_name("canary_program.py")
TOKEN = f"{CANARY}-token-of-the-service"
CALLS = 7
PAGES = (
    *("/", "/page.js", "/metrics", "/-/healthy", "/-/ready", "/api/v1/openapi.json"),
    *("/api/v1/calls", "/api/v1/calls?format=csv", "/api/v1/cost", "/api/v1/usage?period=hour"),
    *("/api/v1/report?by=agent,model,session,error", "/api/v1/budgets"),
)


def with_secret(response: Response) -> Response:
    """Let a provider say a secret."""

    def told(body: bytes) -> bytes:
        return body.replace(b"Seven.", f"{CANARY}-answer".encode()).replace(b"Sev", f"{CANARY}-sev".encode())

    assert not isinstance(response.body, Response)
    response.body = told(response.body) if isinstance(response.body, bytes) else [*map(told, response.body)]
    response.headers |= {"x-request-id": f"{CANARY}-header", "set-cookie": f"{CANARY}=cookie"}
    return response


@pytest.fixture
def provider(server: Server) -> Server:
    wires: tuple[Format, ...] = (CHAT, RESPONSES, MESSAGES, GEMINI)
    for wire in wires:
        server.respond_with(wire.paths[0], with_secret(wire.responses[False]()))
    server.stream_with(CHAT.paths[1], with_secret(CHAT.responses[True]()))
    error = b'{"error": {"message": "wrong key %b-key", "code": "%b-code"}}' % ((CANARY.encode(),) * 2)
    server.respond_with("/embeddings", Response(error, status=401))
    server.respond_with("-path", Response(error, status=500))
    return server


def run(served: Served, provider: Server, session: str) -> Iterator[str]:
    """Run the program, and yield what it shows."""
    environment = {
        **served.environment,
        "CANARY": CANARY,
        "LOG": str(served.directory / "program.log"),
        "LLM_EXPORTER_URL": served.url.replace("//", f"//user:{CANARY}-password@"),
        "LLM_EXPORTER_TOKEN": TOKEN,
        "PROMETHEUS_MULTIPROC_DIR": str(served.directory / "values"),
    }
    command = [sys.executable, "-W", "ignore", str(PROGRAM), provider.url, session]
    done = subprocess.run(command, env=environment, check=True, capture_output=True, text=True)
    yield from (done.stdout, done.stderr)


def contents(directory: Path) -> Iterator[str]:
    """Yield the name and the content of each file."""
    for path in directory.rglob("*"):
        yield path.name
        if path.is_file() and path.name != "token":
            yield path.read_bytes().decode("latin-1")


def reported(served: Served) -> Iterator[str]:
    """Yield what the commands print."""
    for command in (("report", "--by", "agent,model"), ("export",), ("export", "--format", "csv")):
        done = subprocess.run(
            [sys.executable, "-m", "llm_exporter.cli", *command, "--store", str(served.ledger)],
            env={**os.environ, "COLUMNS": "200"},
            check=True,
            capture_output=True,
            text=True,
        )
        yield from (done.stdout, done.stderr)


def test_secrets(provider: Server, tmp_path: Path, record: Record, capfd: pytest.CaptureFixture[str]) -> None:
    """The first run finds the service absent, and the second one finds it."""
    (tmp_path / "values").mkdir()
    (tmp_path / "token").write_text(TOKEN)
    config = tmp_path / "llm-exporter.yml"
    config.write_text(
        f"auth: {{tokens: [{{name: all, file: {tmp_path / 'token'}, rights: [ingest, read]}}]}}\n"
    )
    headers = {"authorization": f"Bearer {TOKEN}"}
    service = Served(tmp_path, "--config", str(config))
    left = [*run(service, provider, "absent"), *contents(tmp_path)]
    with service:
        left += run(service, provider, "present")
        until(lambda: len(kept(service, headers)) >= 2 * CALLS - 2)
        pages = [service.get_text(page, headers) for page in PAGES]
        left += [*pages, *contents(tmp_path), *reported(service)]
        sessions = kept(service, headers)
    left += [*contents(tmp_path), *capfd.readouterr()]
    secrets = (CANARY, b64encode(f"user:{CANARY}-password".encode()).decode(), f"{CANARY}".upper())
    assert [text for text in left if any(secret in text for secret in secrets)] == []
    assert any("visible" in text for text in pages)
    assert re.search(r"visible", "".join(contents(tmp_path)))
    assert record(
        "prompts, responses, errors, headers, keys, tokens and passwords are secrets",
        f"{CALLS} kinds of requests through three SDKs, twice: with the service absent, and present",
        ["absent", "present"] * (CALLS - 1),
        sessions,
        seen="no secret is in the spool, the ledger, `/metrics`, the API, the page, logs, reports or exports",
    ) == (0, 0)
