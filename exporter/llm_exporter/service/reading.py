"""Reports run on a few threads of their own, and end early if their client leaves."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from functools import partial
from threading import Event
from typing import Any, TypeVar

from starlette.requests import Request

from .ledger.base import abandoned
from .requests import Problem

T = TypeVar("T")


class Reading:
    """Runs functions that read the ledger for a request. A slow one delays others, and nothing else.

    Args:
        number: The number of functions that run at a time.
    """

    def __init__(self, number: int) -> None:
        self._threads = ThreadPoolExecutor(number, thread_name_prefix="llm-exporter-reports")

    def close(self) -> None:
        """Begin no more."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def run(self, request: Request, function: Callable[..., T], *arguments: Any) -> T:
        """Return the result of a function, on the event loop.

        Raises:
            Problem: 400 if the client has left. The ledger soon stops reading, and the thread is free again.
        """
        left = Event()
        context = copy_context()
        context.run(abandoned.set, left.is_set)
        result = asyncio.get_running_loop().run_in_executor(
            self._threads, partial(context.run, function, *arguments)
        )
        leaving = asyncio.create_task(_leave(request))
        try:
            await asyncio.wait((result, leaving), return_when=asyncio.FIRST_COMPLETED)
            if not result.done():
                raise Problem(400, "the client has left")
            return result.result()
        finally:
            left.set()
            leaving.cancel()
            result.cancel()


async def _leave(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
