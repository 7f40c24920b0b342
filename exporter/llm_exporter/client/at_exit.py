"""Closing things when the process ends, also in children of `multiprocessing`, which skip `atexit`."""

from __future__ import annotations

import atexit
import multiprocessing
from multiprocessing import util
from typing import Protocol


class Closable(Protocol):
    """Anything with work to finish before the process ends."""

    def close(self) -> None:
        """Finish it."""


def close_at_exit(closable: Closable) -> None:
    """Close something when this process ends normally, and in every process forked from it."""
    atexit.register(closable.close)
    # A child of multiprocessing ends without atexit, and drops its parent's finalizers.
    util.register_after_fork(closable, _close_with_child)
    if multiprocessing.parent_process() is not None:
        _close_with_child(closable)


def _close_with_child(closable: Closable) -> None:
    util.Finalize(None, closable.close, exitpriority=10)
