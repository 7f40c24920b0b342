"""Waiting for what other threads and processes do."""

from __future__ import annotations

import time
from collections.abc import Callable

DEADLINE = 60.0


def until(condition: Callable[[], bool], deadline: float = DEADLINE) -> None:
    """Return when a condition holds, which nothing announces; it fails when it never does."""
    end = time.monotonic() + deadline
    while not condition():
        assert time.monotonic() < end, "it never came to hold"
        time.sleep(0.02)
