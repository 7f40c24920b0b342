"""The service, or its store, is killed while many processes report calls."""

from __future__ import annotations

import signal
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

from faults.agents import Agent, kept
from faults.conftest import Record
from support.awaiting import until
from support.operations import CHAT
from support.redis_server import RedisServer
from support.scripted import Server
from support.served import Served

PROCESSES = 3
KILLS = 4
CALLS_PER_KILL = 100
"""Of each process."""


def calls_while_killed(service: Served, provider: Server, kill: Callable[[], None]) -> list[str]:
    """Kill something in the middle of each batch of calls, and return the calls."""
    provider.respond_with("/chat/completions", CHAT.responses[False]())
    with ExitStack() as stack:
        agents = [
            stack.enter_context(Agent(service, provider, f"agent-{number}")) for number in range(PROCESSES)
        ]
        for _ in range(KILLS):
            middle = len(provider.requests) + PROCESSES * CALLS_PER_KILL // 2
            for agent in agents:
                agent.begin("call", CALLS_PER_KILL)
            until(lambda middle=middle: len(provider.requests) >= middle)  # type: ignore[misc]
            kill()
            for agent in agents:
                agent.returned()
        assert [agent.end() for agent in agents] == [0] * PROCESSES
        assert "the service is unavailable" in "".join(agent.log for agent in agents)
    made = [session for agent in agents for session in agent.made]
    until(lambda: service.get("/api/v1/cost?window=1d")["calls"] >= len(made))
    return made


TRIED = f"SIGKILL {KILLS} times while {PROCESSES} processes make calls"
SEEN = "log of the process: `the service is unavailable`; alert `LLMExporterDown`"


def test_the_service_is_killed_with_sqlite(server: Server, tmp_path: Path, record: Record) -> None:
    with Served(tmp_path) as service:

        def kill() -> None:
            service.kill()
            service.start()

        made = calls_while_killed(service, server, kill)
        assert record("the service is killed (SQLite)", TRIED, made, kept(service), seen=SEEN) == (0, 0)


def test_the_service_is_killed_with_redis(server: Server, tmp_path: Path, record: Record) -> None:
    with RedisServer(tmp_path) as redis, Served(tmp_path, "--store", redis.url) as service:

        def kill() -> None:
            service.kill()
            service.start()

        made = calls_while_killed(service, server, kill)
        assert record("the service is killed (Redis)", TRIED, made, kept(service), seen=SEEN) == (0, 0)


def test_redis_is_killed(server: Server, tmp_path: Path, record: Record) -> None:
    """It writes each command to its append-only file before it acknowledges it."""
    with RedisServer(tmp_path) as redis, Served(tmp_path, "--store", redis.url) as service:

        def kill() -> None:
            redis.stop(signal.SIGKILL)
            redis.start()

        made = calls_while_killed(service, server, kill)
        assert record("Redis is killed", TRIED, made, kept(service), seen=SEEN) == (0, 0)
