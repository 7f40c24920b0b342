"""Wait for other threads and processes."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

DEADLINE = 300.0
"""Seconds until a test fails because something does not happen. No busy machine needs as long."""


def until(condition: Callable[[], T], deadline: float = DEADLINE) -> T:
    """Poll a condition, and return its first true value.

    Args:
        condition: the function to call repeatedly.
        deadline: how long to wait, in seconds.

    Raises:
        AssertionError: if no value was true before the deadline.
    """
    end = time.monotonic() + deadline
    while not (value := condition()):
        assert time.monotonic() < end, f"still {value!r} after {deadline:.0f} s"
        time.sleep(0.02)
    return value
