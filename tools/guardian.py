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


def guard(what: int | Path) -> None:
    """Have a process group killed, or a directory deleted, when this process is gone."""
    _tell(f"+{what}")


def release(what: int | Path) -> None:
    """Leave it alone: it has ended, or is gone."""
    _tell(f"-{what}")


def _tell(line: str) -> None:
    with suppress(OSError):  # somebody has killed the guardian
        os.write(_pipe(os.getpid()), f"{line}\n".encode())


@cache
def _pipe(_: int) -> int:
    """Start the guardian of this process, and return the pipe to it, which is open until the process ends."""
    its_end, our_end = os.pipe()
    process = subprocess.Popen(  # noqa: S603
        [sys.executable, __file__],
        stdin=its_end,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,  # Ctrl-C and a closed terminal do not reach it
    )
    os.close(its_end)
    process.returncode = 0  # nobody waits for it: it outlives this process
    return our_end


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
