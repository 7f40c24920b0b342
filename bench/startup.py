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
    seconds, megabytes = started_by_run()
    yield Row("a process under run, no SDK", "", f"{seconds * 1e3:.0f} ms, {megabytes:.1f} MB", "10 ms, 2 MB")
    for name, work in (
        ("import, CPU and memory", "import llm_exporter"),
        ("import and instrument()", "import llm_exporter; llm_exporter.instrument()"),
    ):
        seconds, megabytes = measure(work)
        yield Row(name, "", f"{seconds * 1e3:.0f} ms, {megabytes:.1f} MB", "60 ms, 15 MB")
    seconds, megabytes = measure("import llm_exporter; llm_exporter.instrument()", OPENAI)
    yield Row(
        "instrument() once openai is imported", "", f"{seconds * 1e3:.0f} ms, {megabytes:.1f} MB", "150 ms"
    )
