"""`Closing` tells a thread that the process wants to end, and by when."""

from __future__ import annotations

import math
import time

from ..threads import Event


class Closing:
    """A request to close, made once, with a deadline."""

    def __init__(self) -> None:
        self._requested = Event()
        self._deadline = math.inf

    @property
    def is_requested(self) -> bool:
        """Whether the process wants to end."""
        return self._requested.is_set()

    def request(self, deadline: float) -> None:
        """Ask to close.

        Args:
            deadline: when to give up, by the monotonic clock.
        """
        self._deadline = deadline
        self._requested.set()

    def wait(self, seconds: float) -> None:
        """Sleep for a number of seconds, or until closing is requested."""
        self._requested.wait(seconds)

    @property
    def seconds_left(self) -> float:
        """How long until the deadline; infinite before closing is requested."""
        return max(self._deadline - time.monotonic(), 0.0)
