"""How a process ends: what is left to do then must also be done in the children of `multiprocessing`."""

from __future__ import annotations

import atexit
import multiprocessing
from multiprocessing import util
from typing import Protocol


class Closable(Protocol):
    """What has something left to do."""

    def close(self) -> None:
        """Do it."""


def close_at_exit(closable: Closable) -> None:
    """Close something when this process ends in an ordinary way, and in every process forked from it."""
    atexit.register(closable.close)
    # A child of multiprocessing ends without atexit, and forgets what was to be done in its parent.
    util.register_after_fork(closable, _close_at_exit)
    if multiprocessing.parent_process() is not None:
        _close_at_exit(closable)


def _close_at_exit(closable: Closable) -> None:
    util.Finalize(None, closable.close, exitpriority=10)
