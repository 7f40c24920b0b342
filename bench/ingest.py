"""How many calls a CPU second the service takes in, from a request's body until they are safe and counted.

What they are compared with is the way they would go without batches: a request and a transaction for each.
"""

from __future__ import annotations

import gzip
from collections.abc import Iterator
from concurrent.futures import Future
from pathlib import Path
from tempfile import TemporaryDirectory
from time import process_time
from typing import Any

import msgspec

from llm_exporter import Call
from llm_exporter.config.model import Config
from llm_exporter.service.intake import Intake
from llm_exporter.service.ledger.base import Ledger
from llm_exporter.service.ledger.redis import RedisLedger
from llm_exporter.service.ledger.sqlite import SqliteLedger
from llm_exporter.service.requests import calls_in
from support.redis_server import RedisServer

from .compared import Row

CALLS = 40_000
A_BODY = 1000
SINGLE = 300


def rows() -> Iterator[Row]:
    """Measure both ledgers on a disk of their own."""
    with TemporaryDirectory() as directory:
        yield _row("SQLite", SqliteLedger(Path(directory) / "ledger.db"))
    with TemporaryDirectory() as directory, RedisServer(Path(directory)) as server:
        yield _row("Redis", RedisLedger(server.url))


def _row(name: str, ledger: Ledger) -> Row:
    intake = Intake(Config(), ledger)
    single = _rate(intake, _bodies(SINGLE, 1))
    together = _rate(intake, _bodies(CALLS, A_BODY))
    intake.close()
    ledger.close()
    return Row(f"calls a CPU second into {name}", f"{single:,.0f}", f"{together:,.0f}", "20,000")


def _bodies(calls: int, each: int) -> list[bytes]:
    encode = msgspec.json.Encoder().encode
    return [gzip.compress(encode([_call() for _ in range(each)]), 1) for _ in range(calls // each)]


def _call() -> Call:
    tokens: Any = {"input": 176, "cache_read": 1024, "output": 300}
    return Call(
        provider="openai",
        model="gpt-4o-2024-08-06",
        requested_model="gpt-4o",
        operation="chat",
        labels={"agent": "planner", "phase": "plan", "session": "s-17", "project": "acme"},
        tokens=tokens,
        cost=dict.fromkeys(tokens, 0.001),
        cost_source="list",
        duration=1.5,
    )


def _rate(intake: Intake, bodies: list[bytes]) -> float:
    """Return how many calls a CPU second are taken in, each body when the one before it is acknowledged."""
    calls = 0
    began = process_time()
    waiting: Future[Any] | None = None
    for body in bodies:
        taken = calls_in(body, "gzip")
        if waiting is not None:
            waiting.result()
        waiting = intake.take(taken)
        calls += len(taken)
    if waiting is not None:
        waiting.result()
    return calls / (process_time() - began)
