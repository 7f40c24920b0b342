"""Run a service for a benchmark."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def service(*arguments: str, directory: Path) -> Iterator[str]:
    """Run a Python program that serves, until the block ends, and return its URL.

    Args:
        arguments: the arguments of Python. The program must print the URL first.
        directory: for what the program writes.
    """
    environment = {**os.environ, "LLM_EXPORTER_SPOOL": str(directory / "spool")}
    with subprocess.Popen(  # noqa: S603  # our own commands
        [sys.executable, *arguments], stdout=subprocess.PIPE, text=True, env=environment
    ) as process:
        try:
            yield re.findall(r"http://\S+", process.stdout.readline() if process.stdout else "")[0]
        finally:
            process.terminate()
