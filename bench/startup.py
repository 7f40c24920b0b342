"""Measure what importing llm-exporter adds to every Python process that `llm-exporter run` starts."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from statistics import median

from .compared import Row

TURNS = 15

PROGRAM = """
import os, time

def used():
    with open("/proc/self/statm") as pages:  # the resident set now; its maximum is inherited from the parent
        return time.process_time(), int(pages.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20

cpu, rss = used()
{work}
print(used()[0] - cpu, used()[1] - rss)
"""


def measure(work: str) -> tuple[float, float]:
    """Return the CPU seconds and the MB of memory that a piece of code adds to a fresh Python process."""
    command = [sys.executable, "-c", PROGRAM.format(work=work)]
    runs = [
        subprocess.run(command, check=True, capture_output=True, text=True)  # noqa: S603 - our own code
        for _ in range(TURNS)
    ]
    seconds, megabytes = zip(*(map(float, run.stdout.split()) for run in runs), strict=True)
    return median(seconds), median(megabytes)


def rows() -> Iterator[Row]:
    """Compare nothing with importing the package and instrumenting all SDKs, before any is imported."""
    for name, work in (
        ("import, CPU and memory", "import llm_exporter"),
        ("import and instrument()", "import llm_exporter; llm_exporter.instrument()"),
    ):
        seconds, megabytes = measure(work)
        yield Row(name, "", f"{seconds * 1e3:.0f} ms, {megabytes:.1f} MB", "60 ms, 15 MB")
