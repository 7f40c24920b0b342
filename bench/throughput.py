"""Measure how many calls per second many threads and many concurrent streams complete, metered and not.

The responses come from memory after a pause, in which others run, as they do while a provider responds.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from statistics import median, quantiles
from typing import Any, Final

import httpx2

from .compared import Table, met
from .metering import Metering, meterings
from .sdks import CHAT, CHAT_REQUEST, async_openai_client, chat_events, openai_client

THREADS: Final = 32
CALLS: Final = 640
SECONDS: Final = 0.1
STREAMS: Final = 1000
CHUNKS: Final = 10
PAUSE: Final = 0.5
TURNS: Final = 8
TARGET: Final = 0.97


def tables() -> Iterator[Table]:
    """Yield a table with a row for threads and one for streams."""
    columns = ("work", "calls per second without", "with", "ratio", "target", "met")
    yield Table("Throughput of OpenAI's SDK, with a blocking budget and shipping", columns, _rows())


def _rows() -> Iterator[list[str]]:
    with (
        asyncio.Runner() as runner,
        ThreadPoolExecutor(THREADS) as threads,
        meterings() as (raw, _, _, shipping),
    ):
        ways = (raw, shipping)
        client = openai_client(httpx2.MockTransport(_respond))

        def call(_: int) -> None:
            client.chat.completions.create(**CHAT_REQUEST)

        name = f"{THREADS} threads, responses after {SECONDS * 1000:g} ms"
        yield _row(name, ways, CALLS, lambda: list(threads.map(call, range(CALLS))))
        name = f"{STREAMS:,} concurrent asyncio streams of {CHUNKS} chunks, {PAUSE:g} s apart"
        yield _row(name, ways, STREAMS, lambda: runner.run(_streams()))


def _respond(_: Any) -> httpx2.Response:
    time.sleep(SECONDS)
    return httpx2.Response(200, json=CHAT)


class _Paced(httpx2.AsyncByteStream):
    """The body of a response that arrives in chunks with pauses."""

    _chunks = chat_events(CHUNKS)

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for chunk in self._chunks:
            await asyncio.sleep(PAUSE)
            yield chunk


async def _streams() -> None:
    headers = {"content-type": "text/event-stream"}
    transport = httpx2.MockTransport(lambda _: httpx2.Response(200, headers=headers, stream=_Paced()))
    client = async_openai_client(transport)

    async def stream() -> None:
        chunks: Any = await client.chat.completions.create(**CHAT_REQUEST, stream=True)
        async for _ in chunks:
            pass

    async with asyncio.TaskGroup() as group:
        for _ in range(STREAMS):
            group.create_task(stream())


def _row(name: str, ways: Sequence[Metering], calls: int, run: Callable[[], object]) -> list[str]:
    rates: list[list[float]] = [[] for _ in ways]
    for turn in range(-1, TURNS):
        pairs = list(zip(ways, rates, strict=True))
        for way, rate in pairs if turn % 2 else reversed(pairs):
            way.begin()
            began = time.perf_counter()
            run()
            seconds = time.perf_counter() - began
            way.end(calls)
            if turn >= 0:
                rate.append(calls / seconds)
    ratios = [metered / raw for raw, metered in zip(*rates, strict=True)]
    low, ratio, high = quantiles(ratios, n=4)
    return [
        name,
        *(f"{median(rate):,.0f}" for rate in rates),
        f"{ratio:.3f} ± {(high - low) / 2:.3f}",
        f"{TARGET:g}",
        met(ratio >= TARGET),
    ]
