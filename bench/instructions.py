"""Count the instructions that metering adds to a call. Unlike times they are the same on a busy machine.

Valgrind runs this module as a program, which makes the calls and says when to count.
"""

from __future__ import annotations

import asyncio
import gc
import os
import re
import shutil
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

import llm_exporter
from llm_exporter.client import default
from llm_exporter.client.pipeline import Pipeline
from llm_exporter.config.model import Config

from .compared import Table
from .metering import BUDGET, Metering
from .sdks import plain_calls

CALLS: Final = 50
WARM: Final = 70
METERED: Final = "metered"
RAW: Final = "raw"


def tables() -> Iterator[Table]:
    """Yield a table with a row for each SDK."""
    columns = ("call", "without", "caller's thread", "other threads")
    yield Table("A call with a blocking budget: thousands of instructions", columns, _rows())


def _rows() -> Iterator[list[str]]:
    if not shutil.which("callgrind_control"):
        yield ["Valgrind is not installed: `apt-get install valgrind`", "", "", ""]
        return
    with TemporaryDirectory() as directory:
        command = [
            *("valgrind", "--tool=callgrind", "--instr-atstart=no", "--separate-threads=yes"),
            *(f"--callgrind-out-file={directory}/out", sys.executable, "-m", "bench.instructions"),
        ]
        # Hashes decide where objects are in dictionaries, so they must be the same in all runs.
        environment = {**os.environ, "PYTHONHASHSEED": "0"}
        subprocess.run(command, check=True, capture_output=True, env=environment)  # noqa: S603
        outputs = sorted(Path(directory).iterdir(), key=lambda path: path.stat().st_mtime_ns)
        counted = counts(path.read_text() for path in outputs)
    for name in [name for name, way in counted if way == RAW]:
        raw, metered = counted[name, RAW], counted[name, METERED]
        caller = (metered[1] - raw[1]) / CALLS
        others = (sum(metered.values()) - metered[1]) / CALLS
        yield [name, *(f"{number / 1e3:,.0f}" for number in (raw[1] / CALLS, caller, others))]


def counts(outputs: Iterable[str]) -> Mapping[tuple[str, str], Mapping[int, int]]:
    """Return the instructions of each thread, by number, for each call and way of metering.

    Args:
        outputs: the files that Callgrind has written, one per dump and thread, in order.
    """
    counted: defaultdict[tuple[str, str], dict[int, int]] = defaultdict(dict)
    for output in outputs:
        dump = re.search(r"^desc: Trigger: .*\bcall:(?P<name>[\w-]+)/(?P<way>\w+)$", output, re.MULTILINE)
        thread = re.search(r"^thread: (\d+)$", output, re.MULTILINE)
        total = re.search(r"^totals: (\d+)$", output, re.MULTILINE)
        if dump and thread and total:
            counted[dump["name"], dump["way"]][int(thread[1])] = int(total[1])
    return counted


def _make_calls() -> None:
    pipeline = Pipeline()
    pipeline.configure(Config(budgets=(BUDGET,)))
    ways = {RAW: Metering(), METERED: Metering(pipeline)}
    with llm_exporter.labels(agent="planner", phase="plan", session="s-17"), asyncio.Runner() as runner:
        for call in plain_calls(runner):
            for name, way in ways.items():
                way.begin()
                call.run(WARM)
                way.end(WARM)
                gc.collect()
                _control("--instr=on")
                call.run(CALLS)
                way.end(CALLS)
                _control(f"--dump=call:{call.name.replace(', ', '-')}/{name}")
                _control("--instr=off")
    llm_exporter.uninstrument()
    default.replace(None)
    pipeline.close()


def _control(option: str) -> None:
    subprocess.run(  # noqa: S603
        ["callgrind_control", option, str(os.getpid())],  # noqa: S607
        check=True,
        stdout=subprocess.DEVNULL,
    )


if __name__ == "__main__":
    _make_calls()
