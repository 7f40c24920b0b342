"""Count the bytecodes of our code in a call, and show which modules they are in.

The counts are the same on a busy machine. They say where time goes as long as no single bytecode takes long.
"""

from __future__ import annotations

import asyncio
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from types import FrameType
from typing import Any, Final

import llm_exporter
from llm_exporter.client import default
from llm_exporter.client.pipeline import Pipeline
from llm_exporter.config.model import Config

from .compared import Table
from .metering import BUDGET
from .sdks import SdkCall, plain_calls, streams

WARM: Final = 20
CALLS: Final = 10
CHUNKS: Final = 200


def tables() -> list[Table]:
    """Return a table of calls, one of streams, and one of the modules that a call runs through.

    This is no generator: labels that were entered in one are looked up in another way.
    """
    plain, budget = Pipeline(), Pipeline()
    budget.configure(Config(budgets=(BUDGET,)))
    try:
        with llm_exporter.labels(agent="planner", phase="plan", session="s-17"), asyncio.Runner() as runner:
            found = _tables(runner, plain, budget)
    finally:
        llm_exporter.uninstrument()
        default.replace(None)
        plain.close()
        budget.close()
    return found


def _tables(runner: asyncio.Runner, plain: Pipeline, budget: Pipeline) -> list[Table]:
    parts: dict[str, Counter[str]] = {}
    rows = []
    for call in plain_calls(runner):
        caller, with_budget = _count(call, plain), parts.setdefault(call.name, _count(call, budget))
        ours = _count(call, budget, on_caller=False)
        rows.append(
            [call.name, *(f"{counts.total() / CALLS:,.0f}" for counts in (caller, with_budget, ours))]
        )
    pieces: tuple[Callable[[list[bytes]], list[bytes]], ...] = (list, lambda events: [b"".join(events)])
    chunks = [
        [
            each[0].name,
            *(f"{_count(stream, budget).total() / CALLS / CHUNKS:,.1f}" for stream in each),
        ]
        for each in zip(*(streams(runner, piece, CHUNKS) for piece in pieces), strict=True)
    ]
    names = ("openai", "anthropic", "google-genai")
    modules = sum((parts[name] for name in names), Counter[str]())
    return [
        Table(
            "A call: bytecodes of our code",
            ("call", "caller's thread", "with a blocking budget", "our threads, with it"),
            rows,
        ),
        Table(
            f"A chunk of a stream of {CHUNKS} on the caller's thread: bytecodes of our code",
            ("stream", "each on its own", "all in one piece"),
            chunks,
        ),
        Table(
            "A call with a blocking budget on the caller's thread, by module: bytecodes",
            ("module", *names),
            [
                [module, *(f"{parts[name][module] / CALLS:,.0f}" for name in names)]
                for module, _ in modules.most_common()
            ],
        ),
    ]


def _count(call: SdkCall, pipeline: Pipeline, *, on_caller: bool = True) -> Counter[str]:
    """Return the bytecodes of our code by module, in a number of calls."""
    default.replace(pipeline)
    llm_exporter.instrument()
    call.run(WARM)
    pipeline.flush(60)
    counts: Counter[str] = Counter()
    with _counting(counts, pipeline, on_caller=on_caller):
        call.run(CALLS)
        if not on_caller:
            pipeline.flush(60)
    return counts


@contextmanager
def _counting(counts: Counter[str], pipeline: Pipeline, *, on_caller: bool) -> Iterator[None]:
    def trace(frame: FrameType, *_: object) -> Any:
        module = str(frame.f_globals.get("__name__"))
        if not module.startswith("llm_exporter."):
            return None
        module = module.removeprefix("llm_exporter.")
        frame.f_trace_opcodes, frame.f_trace_lines = True, False

        def count(_: FrameType, event: str, __: object) -> Any:
            counts[module] += event == "opcode"
            return count

        return count

    def set_trace(function: Any) -> None:
        if on_caller:
            sys.settrace(function)
        else:
            pipeline._worker.put(partial(sys.settrace, function))  # noqa: SLF001
            pipeline.flush(60)

    set_trace(trace)
    try:
        yield
    finally:
        set_trace(None)
