"""Sleep before a call is sent, while it has no lease, or does not fit into a budget yet."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable
from typing import Any

from .guard import report_error


def sleep_through(pauses: Iterable[float]) -> None:
    """Sleep for the seconds that an iterable yields. Under gevent, other greenlets run meanwhile."""
    for seconds in pauses:
        time.sleep(seconds)


async def asleep_through(pauses: Iterable[float]) -> None:
    """Sleep for the seconds that an iterable yields, on asyncio or Trio."""
    for seconds in pauses:
        try:
            library: Any = sys.modules.get("anyio") or sys.modules["asyncio"]  # the SDKs import anyio
            await library.sleep(seconds)
        except Exception as error:  # an event loop that neither of them knows
            report_error("budgets", error)
            return
