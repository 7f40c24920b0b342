"""What happens inside the process that makes calls: subscribers, labels, the clock and greenlets."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from faults.agents import Agent, kept
from faults.conftest import Record
from support.awaiting import until
from support.operations import CHAT
from support.scripted import Server
from support.served import Served

CALLS = 20
GREENLETS = Path(__file__).parents[1] / "workers" / "greenlets.py"
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


@pytest.mark.parametrize("library", ["gevent", "eventlet"])
@pytest.mark.parametrize("order", ["before", "after"])
def test_greenlets(library: str, order: str, server: Server, tmp_path: Path, record: Record) -> None:
    """The service hangs while ten greenlets make calls, and eleven calls return."""
    service = Served(tmp_path)
    with socket.create_server(("127.0.0.1", service.port)):
        done = subprocess.run(
            [sys.executable, "-W", "ignore", str(GREENLETS), library, order],
            env={**service.client_environment, "PROVIDER": server.url},
            check=True,
            stdout=subprocess.PIPE,
            text=True,
        )
    result = json.loads(done.stdout.splitlines()[-1])
    assert result["outcomes"] == ["made"] * 10
    assert result["refused"] == "made"
    with service:
        until(lambda: service.get("/api/v1/cost?window=1d")["calls"] >= 11)
        assert record(
            f"the service hangs, and {library} is patched {order} llm-exporter is imported",
            "10 greenlets, and the end of the process",
            ["planner"] * 10 + ["broke"],
            [call["labels"]["agent"] for call in service.get("/api/v1/calls")["calls"]],
            seen="calls in the ledger are late: `llm_exporter_shipping_lag_seconds`",
        ) == (0, 0)
