"""A guardian cleans up after a process that was killed, and only then."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

from support.awaiting import until

ROOT = Path(__file__).parents[2]
GUARDS = """
import subprocess, sys, time
from pathlib import Path
from tools.guardian import guard, release

kept, other = (subprocess.Popen(["sleep", "600"], start_new_session=True) for _ in range(2))
directory = Path(sys.argv[1])
for what in (kept.pid, other.pid, directory / "kept", directory / "other"):
    guard(what)
release(other.pid)
release(directory / "other")
print(kept.pid, other.pid, flush=True)
time.sleep(600)
"""


def ended(pid: int) -> bool:
    try:
        os.killpg(pid, 0)
    except ProcessLookupError:
        return True
    return False


def test_what_is_guarded_goes_with_the_process(tmp_path: Path) -> None:
    for name in ("kept", "other"):
        (tmp_path / name).mkdir()
    command = [sys.executable, "-c", GUARDS, str(tmp_path)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        guarded, other = map(int, process.stdout.readline().split())
        assert not ended(guarded)
        process.kill()

    assert until(lambda: ended(guarded) and not (tmp_path / "kept").exists())
    assert not ended(other)
    assert (tmp_path / "other").exists()
    os.killpg(other, signal.SIGKILL)
