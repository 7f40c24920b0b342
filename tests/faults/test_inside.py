"""What happens inside the process that makes calls: subscribers, labels and the clock."""

from __future__ import annotations

import json
import socket
from pathlib import Path

import pytest

from faults.agents import Agent, kept
from faults.conftest import Record
from support.awaiting import until
from support.operations import CHAT
from support.scripted import Server
from support.served import Served

CALLS = 20
ERRORS = ("ValueError", "SystemExit", "KeyboardInterrupt", "GeneratorExit", "CancelledError")
BUDGETS = "budgets: [{name: all, usd: %s, period: day, on_exceed: block, warn_at: [0.5]}]\n"


@pytest.fixture(autouse=True)
def _provider_responds(server: Server) -> None:
    server.respond_with("/chat/completions", CHAT.responses[False]())


def test_subscribers(server: Server, tmp_path: Path, record: Record) -> None:
    with Served(tmp_path) as service:
        with Agent(service, server) as agent:
            for error in ERRORS:
                agent.do("subscribe", error)
            agent.call(CALLS)
        assert agent.end() == 0
        until(lambda: len(kept(service)) >= CALLS)
        assert record(
            "subscribers raise",
            f"{', '.join(f'`{error}`' for error in ERRORS)}, each for {CALLS} calls",
            agent.made,
            kept(service),
            seen="`llm_exporter_errors_total`, alert `LLMExporterErrors`; log of the process",
        ) == (0, 0)
        assert all(f"{error}\n" in agent.log for error in ERRORS)


def test_labels(server: Server, tmp_path: Path, record: Record) -> None:
    texts = ("plan\ud800ner", "\udcff", "a" * 100_000, "\x00\x1b[31m\n", '"}\n{le="\\', "é" * 200)
    with Served(tmp_path) as service:
        with Agent(service, server) as agent:
            port = agent.do("serve")
            for text in texts:
                agent.made += agent.do("call_as", json.dumps(text))
            agent.do("flush")
            with socket.create_connection(("127.0.0.1", port)) as connection:
                connection.sendall(b"GET /metrics HTTP/1.0\r\n\r\n")
                assert connection.recv(12) == b"HTTP/1.1 200"
        until(lambda: len(kept(service)) >= len(texts))
        assert "llm_exporter_errors_total{" not in service.get_text("/metrics")
        assert record(
            "labels have lone surrogates, control characters, line ends, quotes, 100,000 characters",
            "one call with each",
            agent.made,
            kept(service),
            seen="`?` in the place of characters, at most 256 bytes",
        ) == (0, 0)


def test_clock(server: Server, tmp_path: Path, record: Record) -> None:
    """A call costs $0.00472, and the estimate is $0.003. The budget of a day has room for one."""
    config = tmp_path / "llm-exporter.yml"
    config.write_text(BUDGETS % "0.005")
    service = Served(tmp_path)
    with service, Agent(service, server, environment={"LLM_EXPORTER_CONFIG": str(config)}) as agent:
        for moment in ("2026-11-23T23:59:59", "2026-11-24T00:00:01"):
            agent.do("clock", moment)
            agent.call(1)
            assert agent.do("flush")
            assert agent.do("refused")
        for _ in range(3):
            for moment in ("2026-11-23T23:59:59", "2026-11-24T00:00:01"):
                agent.do("clock", moment)
                assert agent.do("refused")
        agent.end()
        until(lambda: len(kept(service)) >= 2 + 8)  # with those that were refused
        assert agent.log.count("is 50% used") == 2
        assert record(
            "the clock steps back over midnight",
            "3 times, with a daily budget that is used up on both days",
            agent.made,
            [session for session in kept(service) if not session.endswith("-refused")],
            seen="no call passes the budget; each day's event is emitted once",
        ) == (0, 0)
