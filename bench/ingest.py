"""Measure how many calls the service ingests per CPU second, from the request's body to durable storage.

The baseline sends each call in a separate request and transaction.
"""

from __future__ import annotations

import gc
import gzip
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from pathlib import Path
from statistics import quantiles
from tempfile import TemporaryDirectory
from time import perf_counter, process_time
from typing import Any

import httpx
import msgspec

from llm_exporter import Call
from llm_exporter.config.model import Config
from llm_exporter.service.bodies import calls_in, decompressed
from llm_exporter.service.intake import Intake
from llm_exporter.service.ledger.base import Ledger
from llm_exporter.service.ledger.redis import RedisLedger
from llm_exporter.service.ledger.sqlite import SqliteLedger
from llm_exporter.service.run import collect_rarely
from support.redis_server import RedisServer
from support.served import Served

from .compared import Row, Table, table

CALLS = 40_000
BODY_CALLS = 1000
SINGLE_CALLS = 300
REQUEST_CALLS = 100
REQUESTS = 500
TARGETS = {"SQLite": 30_000, "Redis": 20_000}


def tables() -> Iterator[Table]:
    """Yield a table of throughput and one of response times."""
    with _collecting_rarely():
        yield table("Ingest of the service", _rows())
    yield Table("Acknowledgement by the service, with SQLite", ("request", "p50", "p99"), _acknowledgements())


@contextmanager
def _collecting_rarely() -> Iterator[None]:
    """Collect garbage as the service does."""
    thresholds = gc.get_threshold()
    collect_rarely()
    try:
        yield
    finally:
        gc.set_threshold(*thresholds)
        gc.unfreeze()


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
    target = TARGETS[name]
    return Row(
        f"calls per CPU second into {name}",
        f"{single:,.0f}",
        f"{batched:,.0f}",
        f"{target:,}",
        batched >= target,
    )


def _acknowledgements() -> Iterator[list[str]]:
    """Measure how long a service takes to acknowledge a batch, over HTTP and safe on disk."""
    headers = {"content-type": "application/json", "content-encoding": "gzip"}
    seconds = []
    with (
        TemporaryDirectory() as directory,
        Served(Path(directory)) as service,
        httpx.Client(base_url=service.url, headers=headers) as client,
    ):
        for body in _bodies(REQUESTS * REQUEST_CALLS, REQUEST_CALLS):
            began = perf_counter()
            client.post("/api/v1/calls", content=body).raise_for_status()
            seconds.append(perf_counter() - began)
    percentiles = quantiles(seconds, n=100)
    yield [f"{REQUEST_CALLS} calls", f"{percentiles[49] * 1e3:.1f} ms", f"{percentiles[98] * 1e3:.1f} ms"]


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
