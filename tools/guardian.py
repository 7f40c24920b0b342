"""Cleans up after a process that was killed, in a process of its own, which the end of a pipe wakes.

guard(1234)             # kill the processes of this group if this process is killed
guard(Path("/tmp/x"))   # likewise, delete this directory
release(1234)
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import IO, cast


def guard(what: int | Path) -> None:
    """Have a process group killed, or a directory deleted, when this process is gone."""
    _tell(f"+{what}")


def release(what: int | Path) -> None:
    """Leave it alone: it has ended, or is gone."""
    _tell(f"-{what}")


def _tell(line: str) -> None:
    with suppress(OSError):  # somebody has killed the guardian
        pipe = _pipe(os.getpid())
        pipe.write(f"{line}\n".encode())


@cache
def _pipe(_: int) -> IO[bytes]:
    """Start the guardian of this process, and return the pipe to it."""
    process = subprocess.Popen(  # noqa: S603
        [sys.executable, __file__],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        bufsize=0,
        start_new_session=True,  # Ctrl-C and a closed terminal do not reach it
    )
    process.returncode = 0  # nobody waits for it: it outlives this process
    return cast(IO[bytes], process.stdin)


def main() -> None:
    """Read what to guard until the other process is gone, then clean up."""
    guarded: dict[str, None] = {}
    for line in sys.stdin:
        sign, what = line[0], line[1:-1]
        if sign == "+":
            guarded[what] = None
        else:
            guarded.pop(what, None)
    for what in sorted(guarded, key=lambda what: not what.isdigit()):  # processes first
        if what.isdigit():
            with suppress(OSError):
                os.killpg(int(what), signal.SIGKILL)
        else:
            shutil.rmtree(what, ignore_errors=True)


if __name__ == "__main__":
    main()
