"""Measure what llm-exporter adds to the start of a Python process, under `run` and without it."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from statistics import median

from llm_exporter.cli.run import STARTUP

from .compared import Row, Table, table

TURNS = 15

OPENAI = "import openai; openai.OpenAI(api_key='none').chat.completions"
FIRST_CALL = """
import llm_exporter
from llm_exporter.client.default import pipeline
llm_exporter.instrument()
llm_exporter.record(provider="openai", model="gpt-4o", tokens={"input": 10})
pipeline().flush(60)
"""
PROGRAM = """
import os, time

def used():
    with open("/proc/self/statm") as pages:  # the resident set now; its maximum is inherited from the parent
        return time.process_time(), int(pages.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20

{before}
cpu, rss = used()
{work}
print(used()[0] - cpu, used()[1] - rss)
"""


def measure(work: str, before: str = "") -> tuple[float, float]:
    """Return the CPU seconds and the MB of memory that a piece of code adds to a fresh Python process.

    Args:
        work: the code.
        before: code that runs first, and is not measured.
    """
    command = [sys.executable, "-c", PROGRAM.format(work=work, before=before)]
    runs = [
        subprocess.run(command, check=True, capture_output=True, text=True)  # noqa: S603 - our own code
        for _ in range(TURNS)
    ]
    seconds, megabytes = zip(*(map(float, run.stdout.split()) for run in runs), strict=True)
    return median(seconds), median(megabytes)


def start(environment: dict[str, str]) -> tuple[float, float]:
    """Return the CPU seconds and the MB of memory of a Python process that does nothing."""
    process = subprocess.Popen([sys.executable, "-c", ""], env={**os.environ, **environment})
    _, _, usage = os.wait4(process.pid, 0)
    process.returncode = 0
    return usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 2**10


def started_by_run() -> tuple[float, float]:
    """Return the CPU seconds and the MB that `llm-exporter run` adds to a process that imports no SDK."""
    turns = [(start({}), start({"PYTHONPATH": str(STARTUP)})) for _ in range(TURNS)]
    seconds = median(more[0] - less[0] for less, more in turns)
    return seconds, median(more[1] - less[1] for less, more in turns)


def tables() -> Iterator[Table]:
    """Yield the only table."""
    yield table("Start of a process", _rows())


def _rows() -> Iterator[Row]:
    """Compare nothing with `run`, with importing the package, and with instrumenting all SDKs."""
    yield _row("a process under run, no SDK", started_by_run(), (0.010, 2))
    yield _row("import", measure("import llm_exporter"), (0.060, 15))
    yield _row(
        "import and instrument()", measure("import llm_exporter; llm_exporter.instrument()"), (0.060, 15)
    )
    yield _row("the same, and a first call", measure(FIRST_CALL), None)
    instrument = measure("import llm_exporter; llm_exporter.instrument()", OPENAI)
    yield _row("import and instrument() once openai is imported", instrument, (0.150, 15))
    yield _row("the same, and a first call", measure(FIRST_CALL, OPENAI), None)


def _row(name: str, used: tuple[float, float], target: tuple[float, float] | None) -> Row:
    def show(seconds: float, megabytes: float) -> str:
        return f"{seconds * 1e3:.0f} ms of CPU, {megabytes:.1f} MB"

    if target is None:
        return Row(name, "", show(*used))
    is_met = all(some <= most for some, most in zip(used, target, strict=True))
    return Row(name, "", show(*used), show(*target), is_met)
