"""A process that makes calls ends without any cleanup, while the service is absent.

A call is on disk some milliseconds after it has returned. So the calls before the last one are on disk when
these processes end, and only the last one may be lost.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from faults.agents import Agent, kept
from faults.conftest import Record
from support.awaiting import until
from support.operations import CHAT
from support.scripted import Server
from support.served import Served

PROCESSES = 3
CALLS = 20
WAYS = {
    "SIGKILL": "a process is killed (SIGKILL)",
    "SIGTERM": "a process gets SIGTERM, and does not handle it",
    "os._exit": "a forked process calls `os._exit`",
    "terminate": "a `multiprocessing.Pool` is terminated",
}


@pytest.mark.parametrize("way", WAYS)
def test_processes_that_end(way: str, server: Server, tmp_path: Path, record: Record) -> None:
    server.respond_with("/chat/completions", CHAT.responses[False]())
    service = Served(tmp_path)
    made: list[str] = []
    for number in range(1, PROCESSES + 1):
        with Agent(service, server, f"agent-{number}") as agent:
            if way == "os._exit":
                agent.do("fork")
            if way == "terminate":
                agent.do("start_pool")
            agent.call(CALLS)
            until(lambda least=number * CALLS: len(spooled(service)) >= least)  # type: ignore[misc]
            agent.begin("call_and_end", way)
            agent.returned()
            if way == "os._exit":
                agent.result()  # the parent goes on
        made += agent.made
    with service:
        until(lambda: not list((tmp_path / "spool").rglob("*.jsonl")))
        lost, doubled = record(
            WAYS[way],
            f"{PROCESSES} times at the moment that a call returns, after {CALLS} calls",
            made,
            kept(service),
            lost_at_most=PROCESSES,
            seen="calls in the ledger are late: `llm_exporter_shipping_lag_seconds`",
        )
        assert lost <= PROCESSES
        assert doubled == 0


def spooled(service: Served) -> list[bytes]:
    """Return the calls on disk."""
    files = (service.directory / "spool").rglob("*.jsonl")
    return [line for path in files for line in path.read_bytes().splitlines()]
