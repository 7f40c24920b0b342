"""`repeat` runs a step of the service for as long as the service runs."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final

from ..log import log
from ..metrics.collector import Metrics

_RESTART_SECONDS: Final = 1.0


async def repeat(where: str, step: Callable[[], Awaitable[object]], metrics: Metrics) -> None:
    """Await a step again and again, until this task is cancelled.

    Args:
        where: the part of the service that the step belongs to.
        step: the step. An exception, whatever it is, is logged and counted, and the step runs again.
        metrics: counts the exceptions.
    """
    while True:
        try:
            await step()
        except GeneratorExit:  # the event loop has ended
            raise
        except BaseException as error:
            task = asyncio.current_task()
            if task is not None and task.cancelling():
                raise
            metrics.count_error(where)
            log.error("llm-exporter failed in %s, and goes on", where, exc_info=error)
            await asyncio.sleep(_RESTART_SECONDS)
