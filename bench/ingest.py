"""Measure how many calls the service ingests per CPU second, from the request's body to durable storage.

The baseline sends each call in a separate request and transaction.
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
from llm_exporter.service.bodies import calls_in, decompressed
from llm_exporter.service.intake import Intake
from llm_exporter.service.ledger.base import Ledger
from llm_exporter.service.ledger.redis import RedisLedger
from llm_exporter.service.ledger.sqlite import SqliteLedger
from support.redis_server import RedisServer

from .compared import Row, Table, table

CALLS = 40_000
BODY_CALLS = 1000
SINGLE_CALLS = 300


def tables() -> Iterator[Table]:
    """Yield the only table."""
    yield table("Ingest of the service", _rows())


def _rows() -> Iterator[Row]:
    """Measure both ledgers."""
    with TemporaryDirectory() as directory:
        yield _row("SQLite", SqliteLedger(Path(directory) / "ledger.db"))
    with TemporaryDirectory() as directory, RedisServer(Path(directory)) as server:
        yield _row("Redis", RedisLedger(server.url))


def _row(name: str, ledger: Ledger) -> Row:
    intake = Intake(Config(), ledger)
    single = _rate(intake, _bodies(SINGLE_CALLS, 1))
    batched = _rate(intake, _bodies(CALLS, BODY_CALLS))
    intake.close()
    ledger.close()
    return Row(f"calls per CPU second into {name}", f"{single:,.0f}", f"{batched:,.0f}", "20,000")


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
    """Return the calls ingested per CPU second. Each body follows the acknowledgement of the last one."""
    calls = 0
    began = process_time()
    pending: Future[Any] | None = None
    for body in bodies:
        batch = calls_in(decompressed(body, "gzip"))
        if pending is not None:
            pending.result()
        pending = intake.submit(batch)
        calls += len(batch)
    if pending is not None:
        pending.result()
    return calls / (process_time() - began)
