"""Many processes report calls while the service is killed; some live shorter than a scrape interval."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from support.awaiting import until
from support.operations import CHAT
from support.scripted import Server
from support.served import Served

PROCESSES = 8
SHORT_LIVED = 3
CALLS_EACH = 3_000
CALLS_PER_SHORT_PROCESS = 50
COST_OF_A_CALL = 0.00472
"""In USD, worked out in test_prices.py."""
DEADLINE = 900.0


def start(served: Served, url: str, number: int) -> subprocess.Popen[str]:
    short = CALLS_PER_SHORT_PROCESS if number < SHORT_LIVED else 0
    program = Path(__file__).with_name("agents.py")
    return subprocess.Popen(
        [sys.executable, str(program), url, f"agent-{number}", str(CALLS_EACH), str(short)],
        env=served.client_environment,
        stdout=subprocess.PIPE,
        text=True,
    )


def has_calls(served: Served, calls: int) -> bool:
    return bool(served.get("/api/v1/cost?window=1d")["calls"] >= calls)


def has_requests(server: Server, requests: int) -> bool:
    return len(server.requests) >= requests


def test_every_call_is_counted_once(server: Server, tmp_path: Path, figure: Callable[[str], None]) -> None:
    server.respond_with("/chat/completions", CHAT.responses[False]())
    total = PROCESSES * CALLS_EACH
    served = Served(tmp_path)
    began = time.monotonic()
    with served:
        processes = [start(served, server.url, number) for number in range(PROCESSES)]
        for part in (total // 4, total // 2):
            until(partial(has_calls, served, part), DEADLINE)
            served.kill()
            until(
                partial(has_requests, server, len(server.requests) + 1000), DEADLINE
            )  # calls continue in the meantime
            served.start()
        output = [process.communicate(timeout=DEADLINE)[0] for process in processes]
        took = time.monotonic() - began
        assert [process.returncode for process in processes] == [0] * PROCESSES
        until(partial(has_calls, served, total))
        cost = served.get("/api/v1/cost?window=1d")
        families = list(text_string_to_metric_families(served.get_text("/metrics")))
    samples = [sample for family in families for sample in family.samples]
    counted = {
        name: sum(sample.value for sample in samples if sample.name == name)
        for name in ("llm_calls_total", "llm_cost_usd_total", "llm_exporter_duplicate_calls_total")
    }
    figure(f"{total} calls in {took:.0f} s; /metrics: {counted}; {''.join(output)}")
    assert {row["agent"]: row["calls"] for row in cost["by_agent"]} == {
        f"agent-{number}": CALLS_EACH for number in range(PROCESSES)
    }
    assert len(server.requests) == cost["calls"] == counted["llm_calls_total"] == total
    assert cost["cost_usd"] == pytest.approx(total * COST_OF_A_CALL, abs=0.005)
    assert counted["llm_cost_usd_total"] == pytest.approx(cost["cost_usd"], abs=0.005)
    assert not list((tmp_path / "spool").rglob("*.jsonl"))
