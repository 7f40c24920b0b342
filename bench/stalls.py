"""Measure how long the event loop of the service stands still during the largest requests.

A task on the event loop sleeps for a millisecond at a time. A stall is how late it wakes up, but at most the
CPU time that the process has used meanwhile: on a busy machine, the rest is the time of other programs. Most
stalls are full garbage collections, which keep all threads waiting.
"""

from __future__ import annotations

import asyncio
import gzip
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final
from unittest.mock import patch

import httpx
import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from llm_exporter.call import Call
from llm_exporter.config.model import Config
from llm_exporter.service import run
from llm_exporter.service.app import make_app
from llm_exporter.service.bodies import MAX_BODY, MAX_CALL_BYTES, MAX_CALLS

from .compared import Table, met
from .service import service

TARGET_SECONDS: Final = 0.1
TURNS: Final = 5
PATIENCE: Final = 600.0
HEADERS: Final = {"content-type": "application/json"}
FIELDS: Final = "abcdefghijkl"
_TICK_SECONDS: Final = 0.001
_numbers: Final = count()


def tables() -> Iterator[Table]:
    """Yield the only table."""
    head = ("during", "longest stall", "target", "met")
    yield Table("The event loop of the service", head, _rows())


def _rows() -> Iterator[list[str]]:
    """Measure each task on its own."""
    with (
        TemporaryDirectory() as directory,
        service("-m", "bench.stalls", f"{directory}/ledger.db", directory=Path(directory)) as url,
        httpx.Client(base_url=url, timeout=PATIENCE, headers=HEADERS) as client,
    ):

        def get(path: str, **headers: str) -> Callable[[], object]:
            return lambda: client.get(path, headers=headers).raise_for_status()

        def post(make: Callable[[], bytes]) -> Callable[[], object]:
            return lambda: client.post("/api/v1/calls", content=make()).raise_for_status()

        def gzipped() -> None:
            body, encoding = gzip.compress(_calls(), 1), {"content-encoding": "gzip"}
            client.post("/api/v1/calls", content=body, headers=encoding).raise_for_status()

        tasks: dict[str, Callable[[], object]] = {
            "nothing": lambda: time.sleep(1),
            f"{MAX_CALLS:,} calls": post(_calls),
            f"{MAX_CALLS:,} calls, gzipped": gzipped,
            f"{MAX_CALLS:,} calls in {MAX_BODY >> 20} MiB": post(_large_calls),
            f"{MAX_CALLS:,} calls as JSON": get(f"/api/v1/calls?limit={MAX_CALLS}"),
            f"{MAX_CALLS:,} calls as CSV": get(f"/api/v1/calls?limit={MAX_CALLS}&format=csv"),
            "costs by a label of many values": get("/api/v1/cost?since=0&by=user"),
            "a report by a label of many values": get("/api/v1/report?since=0&period=day&by=user"),
            "a scrape": get("/metrics"),
            "a scrape, gzipped, in OpenMetrics": get("/metrics", accept="application/openmetrics-text"),
            f"calls of almost {MAX_CALL_BYTES >> 20} MiB": post(_huge_calls),
        }
        for name, task in tasks.items():
            client.get("/stall")
            for _ in range(TURNS):
                task()
            yield _row(name, float(client.get("/stall").text))


def _row(name: str, stall: float) -> list[str]:
    target = f"{TARGET_SECONDS * 1e3:.0f} ms"
    return [name, f"{stall * 1e3:,.0f} ms", target, met(stall <= TARGET_SECONDS)]


def _call(**labels: str) -> Call:
    number = next(_numbers)
    tokens: Any = {"input": 176, "cache_read": 1024, "output": 300}
    return Call(
        provider="openai",
        model="gpt-4o-2024-08-06",
        operation="chat",
        started=time.time(),
        labels={"agent": f"agent-{number % 3000}", "user": f"user-{number % 50_000}", **labels},
        tokens=tokens,
        cost=dict.fromkeys(tokens, 0.001),
        cost_source="list",
        duration=1.5,
    )


def _calls() -> bytes:
    return msgspec.json.encode([_call() for _ in range(MAX_CALLS)])


def _large_calls() -> bytes:
    text = "x" * ((MAX_BODY // MAX_CALLS - 1000) // len(FIELDS))
    return msgspec.json.encode([_call(**dict.fromkeys(FIELDS, text)) for _ in range(MAX_CALLS)])


def _huge_calls() -> bytes:
    labels = {f"label-{number:020}": "" for number in range(MAX_CALL_BYTES // 40)}
    return msgspec.json.encode([_call(**labels) for _ in range(MAX_BODY // MAX_CALL_BYTES - 1)])


class _Ticking:
    """Measures the stalls of an event loop."""

    def __init__(self) -> None:
        self._longest = 0.0
        self._task: asyncio.Task[None] | None = None

    async def longest(self, _: Request) -> Response:
        """Return the longest stall since the last request, in seconds."""
        self._task = self._task or asyncio.create_task(self._tick())
        longest, self._longest = self._longest, 0.0
        return Response(str(longest))

    async def _tick(self) -> None:
        while True:
            began, used = time.perf_counter(), time.process_time()
            await asyncio.sleep(_TICK_SECONDS)
            late = time.perf_counter() - began - _TICK_SECONDS
            self._longest = max(self._longest, min(late, time.process_time() - used))


def _serve(store: str) -> None:
    """Run the service with one more route, `/stall`."""

    def observed(*arguments: Any, **options: Any) -> Any:
        app = make_app(*arguments, **options)
        app.router.routes.append(Route("/stall", _Ticking().longest))
        return app

    with patch.object(run, "make_app", observed):
        run.serve(Config(store=store), "127.0.0.1", 0, None, partial(Config, store=store))


if __name__ == "__main__":
    _serve(sys.argv[1])
