"""Compare `/metrics` with many series to prometheus_client."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from functools import partial
from statistics import median
from time import perf_counter
from typing import Any

from prometheus_client import CollectorRegistry, make_asgi_app
from prometheus_client import generate_latest as generate_text
from prometheus_client.openmetrics.exposition import generate_latest as generate_openmetrics

from llm_exporter import Call
from llm_exporter.metrics.collector import Metrics
from llm_exporter.metrics.http import AsgiMetrics

from .compared import Row, Table, alternate, microseconds, table

LINES = 150_000
TURNS = 3
TICK = 0.001


def _filled() -> Metrics:
    """Return metrics with about `LINES` lines."""
    metrics = Metrics()
    tokens: Any = {"input": 100, "cache_read": 50, "output": 20, "reasoning": 5}
    cost = dict.fromkeys(tokens, 0.001)
    lines_per_agent = 1 + 8 + 3 * 16
    for number in range(LINES // lines_per_agent):
        metrics.record(
            Call(
                provider="openai",
                model="gpt-4o-2024-08-06",
                operation="chat",
                labels={"agent": f"agent-{number}", "phase": "plan"},
                tokens=tokens,
                cost=cost,
                duration=1.5,
                time_to_first_token=0.5,
            )
        )
    return metrics


async def _longest_stall(app: Any) -> float:
    """Return the longest time in seconds that the event loop was blocked while it served `/metrics`."""
    longest, serving = 0.0, True

    async def tick() -> None:
        nonlocal longest
        while serving:
            began = perf_counter()
            await asyncio.sleep(TICK)
            longest = max(longest, perf_counter() - began - TICK)

    async def receive() -> Any:
        return {"type": "http.request"}

    async def send(_: Any) -> None:
        pass

    ticking = asyncio.create_task(tick())
    await asyncio.sleep(10 * TICK)
    await app({"type": "http", "method": "GET", "headers": [], "query_string": b""}, receive, send)
    serving = False
    await ticking
    return longest


def tables() -> Iterator[Table]:
    """Yield the only table."""
    yield table("`/metrics`", _rows())


def _rows() -> Iterator[Row]:
    """Compare the time per line, and the time that a scrape blocks an event loop."""
    metrics = _filled()
    lines = sum(piece.count(b"\n") for piece in metrics.text(scrape=False, openmetrics=False))
    for name, generate in (("text", generate_text), ("OpenMetrics", generate_openmetrics)):
        theirs, ours = alternate(
            partial(generate, metrics),
            partial(_render, metrics, openmetrics=name == "OpenMetrics"),
            turns=TURNS,
        )
        yield Row(
            f"a line of `/metrics` in {name}, {lines:,} lines",
            microseconds(median(theirs) / lines),
            microseconds(median(ours) / lines),
            "0.5 µs",
        )
    _, encoding = alternate(
        partial(_render, metrics, openmetrics=False), partial(_encode, metrics), turns=TURNS
    )
    yield Row("the same in protobuf, for each line of text", "", microseconds(median(encoding) / lines))
    registry = CollectorRegistry()
    registry.register(metrics)
    stalls = [
        median(asyncio.run(_longest_stall(app)) for _ in range(TURNS))
        for app in (make_asgi_app(registry), AsgiMetrics(lambda: metrics))
    ]
    blocking, non_blocking = (f"{stall * 1e3:,.0f} ms" for stall in stalls)
    yield Row("time a scrape blocks an event loop", blocking, non_blocking)


def _encode(metrics: Metrics) -> None:
    for _ in metrics.protobuf(scrape=False):
        pass


def _render(metrics: Metrics, *, openmetrics: bool) -> None:
    for _ in metrics.text(scrape=False, openmetrics=openmetrics):
        pass
