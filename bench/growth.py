"""Measure how the cost of recording a call grows with the label sets, and the memory with the calls.

The calls are handed to the pipeline without an SDK. They are priced, charged to a budget and counted.
`GROWTH_CALLS` is the number of millions of calls, 10 by default, which take some minutes.
"""

from __future__ import annotations

import gc
import os
import time
from collections.abc import Iterator
from statistics import median
from typing import Any, Final

from llm_exporter import Call
from llm_exporter.client.pipeline import Pipeline
from llm_exporter.config.model import Config

from .compared import Table, met
from .metering import BUDGET

MANY: Final = 10_000
BATCH: Final = 10_000
MILLION: Final = 1_000_000
TURNS: Final = 5
MEMORY_TARGET: Final = 1.0
"""MB that the memory may grow from the first tenth of the calls to the last."""


def tables() -> Iterator[Table]:
    """Yield a table of label sets and one of memory."""
    yield Table(
        "Recording a call with many label sets",
        ("label sets", "µs a call on all threads", "memory of the process"),
        _label_sets(),
    )
    yield Table(
        "Memory over many calls with 100 label sets",
        ("calls recorded", "memory of the process", "target", "met"),
        _memory(),
    )


def _label_sets() -> Iterator[list[str]]:
    for agents in (1, 100, MANY):
        pipeline = _pipeline()
        _record(pipeline, MANY, agents)  # each label set once
        seconds = []
        for _ in range(TURNS):
            gc.collect()
            began = time.process_time()
            _record(pipeline, BATCH, agents)
            seconds.append(time.process_time() - began)
        yield [f"{agents:,}", f"{median(seconds) / BATCH * 1e6:.1f}", f"{_resident():.1f} MB"]
        pipeline.close()


def _memory() -> Iterator[list[str]]:
    pipeline = _pipeline()
    tenth = int(float(os.environ.get("GROWTH_CALLS", "10")) * MILLION) // 10
    first = None
    for number in range(1, 11):
        for _ in range(tenth // BATCH):
            _record(pipeline, BATCH, 100)
        gc.collect()
        resident = _resident()
        first = first or resident
        most = first + MEMORY_TARGET
        yield [f"{number * tenth:,}", f"{resident:.1f} MB", f"{most:.1f} MB", met(resident <= most)]
    pipeline.close()


def _pipeline() -> Pipeline:
    pipeline = Pipeline()
    pipeline.configure(Config(budgets=(BUDGET,), max_series=100 * MILLION))
    return pipeline


def _record(pipeline: Pipeline, calls: int, agents: int) -> None:
    for number in range(calls):
        tokens: Any = {"input": 176, "cache_read": 1024, "output": 300}
        pipeline.record(
            Call(
                provider="openai",
                model="gpt-4o-2024-08-06",
                requested_model="gpt-4o",
                operation="chat",
                labels={"agent": f"agent-{number % agents}", "phase": "plan", "session": "s-17"},
                tokens=tokens,
                duration=1.5,
            )
        )
    pipeline.flush(600)


def _resident() -> float:
    """Return the resident memory in MB."""
    with open("/proc/self/statm") as pages:
        return int(pages.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20
