"""Measure what metering adds to each chunk of a stream, on the caller's thread and on all threads."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from statistics import median
from typing import Final

import llm_exporter

from .compared import Overhead, Table, overhead
from .metering import Costs, Metering, measure, meterings
from .sdks import SdkCall, streams

CHUNKS: Final = 1000
EVENTS: Final = 200
CALLS: Final = 20
"""Streams of events in one piece that are measured at a time."""
TURNS: Final = 15

CHUNK_TARGETS: Final = {"openai": 0.8e-6, "anthropic": 0.5e-6, "google-genai": 0.5e-6}
EVENT_TARGET: Final = 0.2e-6


def tables() -> list[Table]:
    """Return a table for chunks that arrive one by one, and one for many events in one piece."""
    with (
        llm_exporter.labels(agent="planner", phase="plan", session="s-17"),
        asyncio.Runner() as runner,  # its tasks have the labels that are in force now
        meterings() as (raw, _, with_budget, _),
    ):
        ways = [raw, with_budget]
        chunks = [_chunk(stream, ways) for stream in streams(runner, list, CHUNKS)]
        many, few = streams(runner, _one_piece, EVENTS), streams(runner, _one_piece, 1)
        events = [_event(stream, short, ways) for stream, short in zip(many, few, strict=True)]
    return [
        Table(
            f"A chunk of a stream of {CHUNKS:,}, each on its own: µs",
            ("stream", "without", "caller's thread", "target", "met", "all threads"),
            chunks,
        ),
        Table(
            f"An event of a stream of {EVENTS} that arrives in one piece: µs",
            (
                "stream",
                "without",
                "caller's thread",
                "target",
                "met",
                "all threads",
                "the whole stream, caller",
            ),
            events,
        ),
    ]


def _one_piece(events: list[bytes]) -> list[bytes]:
    return [b"".join(events)]


def _chunk(stream: SdkCall, ways: Sequence[Metering]) -> list[str]:
    raw, metered = measure(stream.run, ways, calls=1, warm=1, turns=TURNS)
    target = CHUNK_TARGETS[stream.name.partition(",")[0]]
    return [
        *_cells(stream.name, raw, CHUNKS),
        *_compared(overhead(raw.caller, metered.caller, CHUNKS), target),
        str(overhead(raw.everyone, metered.everyone, CHUNKS)),
    ]


def _event(stream: SdkCall, short: SdkCall, ways: Sequence[Metering]) -> list[str]:
    """Return a row for an event: what a stream of many costs more than a stream of one."""
    raw, metered = measure(stream.run, ways, calls=CALLS, warm=CALLS, turns=TURNS)
    raw_short, metered_short = measure(short.run, ways, calls=CALLS, warm=CALLS, turns=TURNS)
    more = CALLS * (EVENTS - 1)
    caller = overhead(
        _differences(raw_short.caller, metered_short.caller), _differences(raw.caller, metered.caller), more
    )
    everyone = overhead(
        _differences(raw_short.everyone, metered_short.everyone),
        _differences(raw.everyone, metered.everyone),
        more,
    )
    return [
        *_cells(stream.name, raw, CALLS * EVENTS),
        *_compared(caller, EVENT_TARGET),
        str(everyone),
        str(overhead(raw.caller, metered.caller, CALLS)),
    ]


def _cells(name: str, raw: Costs, number: int) -> list[str]:
    return [name, f"{median(raw.caller) / number * 1e6:,.1f}"]


def _differences(raw: Sequence[float], metered: Sequence[float]) -> list[float]:
    return [more - less for less, more in zip(raw, metered, strict=True)]


def _compared(added: Overhead, target: float) -> list[str]:
    return [str(added), f"{target * 1e6:g}", added.met(target)]
