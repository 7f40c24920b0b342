"""Measure how long a call that has ended is not on disk yet: what a process loses that is killed then."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Iterator
from statistics import median, quantiles
from tempfile import TemporaryDirectory

import llm_exporter
from llm_exporter.client.default import pipeline
from llm_exporter.client.spool_file import SpoolFile

from .compared import Row, Table, table

CALLS = 400
NOBODY = "http://127.0.0.1:9"


def _record() -> None:
    llm_exporter.record(provider="openai", model="gpt-4o", tokens={"input": 10})


def _seconds_to_disk(pause: float) -> list[float]:
    ended: list[float] = []
    seconds: list[float] = []
    append = SpoolFile.append

    def timed(file: SpoolFile, lines: Iterable[bytes]) -> None:
        lines = list(lines)
        append(file, lines)
        now = time.perf_counter()
        for _ in lines:
            seconds.append(now - ended[len(seconds)])

    SpoolFile.append = timed  # type: ignore[method-assign, assignment]
    try:
        for _ in range(CALLS):
            time.sleep(pause)
            ended.append(time.perf_counter())
            _record()
        while len(seconds) < CALLS:
            time.sleep(0.01)
    finally:
        SpoolFile.append = append  # type: ignore[method-assign]
    return seconds


def tables() -> Iterator[Table]:
    """Yield the only table."""
    yield table("How long a finished call is not on disk", _rows())


def _rows() -> Iterator[Row]:
    """Yield a row for a process that makes few calls, and for one that makes many."""
    with TemporaryDirectory() as spool:
        os.environ["LLM_EXPORTER_SPOOL"] = spool
        pipeline().ship_to(NOBODY)
        _record()  # loads the prices
        pipeline().flush(60)
        time.sleep(1)
        for name, pause in (("20 calls a second", 0.05), ("1,000 calls a second", 0.001)):
            seconds = _seconds_to_disk(pause)
            figures = (
                f"median {median(seconds) * 1e3:.1f} ms, p99 {quantiles(seconds, n=100)[-1] * 1e3:.0f} ms"
            )
            yield Row(f"until a call is on disk, {name}", "", figures, "")
        pipeline().close()
