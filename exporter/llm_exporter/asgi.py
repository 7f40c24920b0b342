"""ASGI middleware that labels LLM calls by the headers of the request for which they are made."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, Mapping
from typing import Any

from .client.header_labels import HEADERS, during_request, labels_in, names_of

__all__ = ["LabelsMiddleware"]


class LabelsMiddleware:
    """Labels the LLM calls of each HTTP request and WebSocket by its headers.

    Clients choose these labels, so use it only behind something that you trust to set the headers. Labels
    that the program sets win, then what frameworks know. `instrument(labels_from=())` turns it off.

    Args:
        app: the ASGI application.
        headers: labels by the names of their headers, in any case. It replaces the default, `x-llm-agent` for
            `agent` and `x-llm-phase` for `phase`.

    Raises:
        ValueError: if a header or a label has no valid name.
    """

    def __init__(self, app: Callable[..., Awaitable[None]], headers: Mapping[str, str] = HEADERS) -> None:
        self._app = app
        self._names = {name.encode(): label for name, label in names_of(headers).items()}

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Run the application, which sends the whole response meanwhile."""
        if scope["type"] not in {"http", "websocket"}:
            await self._app(scope, receive, send)
            return
        with during_request(labels_in(self._known(scope))):
            await self._app(scope, receive, send)

    def _known(self, scope: Any) -> Iterator[tuple[str, bytes]]:
        for name, value in scope.get("headers") or ():
            if (label := self._names.get(name)) is not None:
                yield label, value
