"""How a month gets into Prometheus' storage: through promtool, as blocks."""

from __future__ import annotations

import itertools
import os
import subprocess
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final

from tools.binaries import environment, find

from .month import Month
from .series import HOUR

BLOCK_SECONDS: Final = 18 * HOUR
"""The length of a block. Prometheus compacts its two-hour blocks to this length as well."""
_PROMTOOL_TIMEOUT: Final = 120.0
"""Seconds."""


class BackfillFailed(RuntimeError):  # noqa: N818  # reads as what happened, like ServerFailed
    """promtool failed; the message has its output."""


def backfill(
    month: Month, directory: Path, storage: Path, progress: Callable[[float], object] = lambda _: None
) -> None:
    """Simulate a month, and write it into Prometheus' storage.

    Args:
        month: the month. Afterwards, it is at its end or at the present minute, whichever is later.
        directory: a directory for temporary files.
        storage: the directory to start Prometheus with, as `--storage.tsdb.path`.
        progress: called with the part of the month that is done, from 0 to 1.

    Raises:
        BackfillFailed: when promtool fails.
        BinaryUnavailable: when promtool is not available.
    """
    promtool = find("promtool")
    storage.mkdir(parents=True, exist_ok=True)
    with ThreadPoolExecutor(1, thread_name_prefix="promtool") as pool:
        written = None
        # This takes minutes. Graphs would show a gap if the samples did not reach the present.
        steps = itertools.chain(month.steps(), month.minutes_since_end())
        for number, (_, times) in enumerate(itertools.groupby(steps, lambda now: now // BLOCK_SECONDS)):
            file = directory / f"{number}.om"
            _write_openmetrics(month, times, file)
            progress(min((month.now - month.begin) / (month.end - month.begin), 1.0))
            if written:
                written.result()
            written = pool.submit(make_blocks, promtool, file, storage)
        if written:
            written.result()


def _write_openmetrics(month: Month, times: Iterable[int], file: Path) -> None:
    with file.open("w", encoding="utf-8") as lines:
        for now in times:
            month.advance(now)
            lines.writelines(f"{name} {value} {now}\n" for name, value in month.raw(buckets=False))
            # A range of Prometheus 2 includes a sample at its very start: one that begins at midnight would
            # include the day before. Real rules do not run on the dot of a minute.
            lines.writelines(f"{name} {value} {now - 0.001:.3f}\n" for name, value in month.recorded())
        lines.write("# EOF\n")


def make_blocks(promtool: Path, file: Path, storage: Path, span: int = BLOCK_SECONDS) -> None:
    """Write an OpenMetrics file into Prometheus' storage, and delete it.

    Args:
        promtool: the program.
        file: the samples.
        storage: the storage directory of Prometheus.
        span: the length of a block in seconds.

    Raises:
        BackfillFailed: when promtool fails.
    """
    command = [
        str(promtool),
        "tsdb",
        "create-blocks-from",
        "openmetrics",
        f"--max-block-duration={span}s",
        "--quiet",
    ]
    done = subprocess.run(  # noqa: S603  # find() returned this program
        [*command, str(file), str(storage)],
        check=False,
        capture_output=True,
        text=True,
        timeout=_PROMTOOL_TIMEOUT,
        env={**os.environ, **environment(promtool)},
    )
    if done.returncode:
        raise BackfillFailed(f"promtool: {(done.stderr or done.stdout).strip()[-500:]}")
    file.unlink()
