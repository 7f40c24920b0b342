"""Waiting for what other threads and processes do."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

DEADLINE = 90.0


def until(look: Callable[[], T], deadline: float = DEADLINE) -> T:
    """Return the first true value that `look` returns; fail if none comes before the deadline, in seconds."""
    end = time.monotonic() + deadline
    while not (seen := look()):
        assert time.monotonic() < end, f"after {deadline:.0f} s still {seen!r}"
        time.sleep(0.02)
    return seen
