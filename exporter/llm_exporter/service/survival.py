"""Middleware that keeps the service running whatever a request handler raises."""

from __future__ import annotations

import asyncio
from typing import Final

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ..log import log
from ..metrics.collector import Metrics
from .access.browsers import HEADERS
from .requests import Problem
from .responses import problem_response

_PROBLEM: Final = Problem(500, "internal error: the log of the service says more", HEADERS)


class Survival:
    """Counts and logs what handlers, and the threads that they wait for, raise by mistake.

    Args:
        app: The application.
        metrics: Count the exceptions.
    """

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self._app = app
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass on a request, and respond with 500 if that fails."""
        started = False

        async def send_and_notice(message: Message) -> None:
            nonlocal started
            started = True
            await send(message)

        try:
            await self._app(scope, receive, send_and_notice)
        except GeneratorExit:  # the event loop has ended
            raise
        except BaseException as error:
            task = asyncio.current_task()
            if scope["type"] != "http" or (task is not None and task.cancelling()):
                raise
            self._metrics.count_error("request")
            if started:  # the server logs it, and closes the connection
                raise RuntimeError("a response could not be completed") from error
            log.error("llm-exporter failed in a request", exc_info=error)
            await problem_response(_PROBLEM)(scope, receive, send)
