"""Calls every method of an SDK's client, and notes its first request and whether that is metered."""

from __future__ import annotations

import asyncio
import inspect
import re
from collections.abc import Callable, Iterator
from functools import cached_property
from typing import Any, Final

import pydantic
import pytest

from llm_exporter.client.meter import Meter
from llm_exporter.taps import google, openai, stainless
from llm_exporter.taps.websocket import ConnectionMeter
from llm_exporter.wire.reader import Reader
from llm_exporter.wire.unread import UnreadReader, route_of
from support.sockets import SocketServer

ID: Final = "ID7"
"""The value of every text argument. A route shows it as `{id}`."""


class Sent(BaseException):
    """Stops a method at its first request. No SDK catches or retries it."""


class Transport:
    """Notes the first request of each method, and sends none. It serves httpx and httpx2, sync and async."""

    def __init__(self) -> None:
        self.request: tuple[str, str] | None = None

    def handle_request(self, request: Any) -> Any:
        self.request = request.method, str(request.url)
        raise Sent

    async def handle_async_request(self, request: Any) -> Any:
        self.handle_request(request)

    def close(self) -> None:
        pass

    async def aclose(self) -> None:
        pass


class Schema(pydantic.BaseModel):
    """A response format."""

    answer: str


_VALUES: Final[tuple[tuple[str, Any], ...]] = (
    (r"\b[Tt]ype\[", Schema),
    (r"FileTypes|FileContent|IO\[|IOBase|Video\b", ("a.txt", b"x")),
    (r"^(?:Iterable|List|Sequence|SequenceNotStr|list)\b", [{}]),
    (r"^(?:Dict|Mapping|dict)\b", {}),
    (r"\bstr\b|Literal|Model", ID),
    (r"\bint\b|\bfloat\b", 1),
    (r"\bbool\b", True),
    (r"", {}),
)
"""Made-up values by a pattern of the annotation."""

_MISSING: Final = re.compile(
    r"Missing required arguments; Expected either \(?[^)]+|missing \d+ required .+ arguments?: .+"
)
"""The first set of arguments that would be accepted, in the SDK's or Python's message."""


_SKIPPED: Final = ("_", "with_raw", "with_streaming", "aio", "do_request")
"""Private methods, other ways to call the same methods, and the function that all of them call."""


class Walk:
    """Calls the methods of one client, and nothing else, because it replaces the class `Meter` of the taps.

    Args:
        transport: notes the requests of the client.
        sockets: accepts its WebSockets.
        arguments: keyword arguments by the path of a method, where made-up ones are not accepted.
    """

    def __init__(
        self, transport: Transport, sockets: SocketServer, arguments: dict[str, dict[str, Any]]
    ) -> None:
        self._transport = transport
        self._sockets = sockets
        self._arguments = arguments
        self._readers: list[type[Reader] | None] = []

    def lines(self, client: Any, monkeypatch: pytest.MonkeyPatch) -> list[str]:
        """Return a line for each method: its kind, path and route."""
        for tap in (stainless, google, openai):
            for name, noting in (("Meter", self._note_meter), ("ConnectionMeter", self._note_connection)):
                monkeypatch.setattr(tap, name, noting, raising=False)
        return [self._line(path, method) for path, method in _methods(client)]

    def _note_meter(self, **options: Any) -> Meter:
        self._readers.append(options["reader"])
        return Meter(**options)

    def _note_connection(self, *arguments: Any) -> ConnectionMeter:
        self._readers.append(None)
        return ConnectionMeter(*arguments)

    def _line(self, path: str, method: Callable[..., Any]) -> str:
        self._transport.request = None
        self._sockets.paths.clear()
        self._sockets.script({"setupComplete": {}})
        self._readers.clear()
        failure: Exception | None = None
        try:
            asyncio.run(self._call(method, self._arguments.get(path, {})))
        except Sent:
            pass
        except Exception as error:
            failure = error
        request = self._transport.request
        if self._sockets.paths:
            request = "WS", self._sockets.paths[0]
        if request is None:
            return f"{_kind_of_failure(failure)} {path}"
        return f"{self._kind(request[0])} {path} {route_of(*request)}"

    def _kind(self, http_method: str) -> str:
        if not self._readers:
            return "missed" if http_method == "WS" else "free"
        reader = self._readers[0]
        if reader is UnreadReader:
            return "unread"
        return "free" if reader is not None and reader.is_free else "metered"

    async def _call(self, method: Callable[..., Any], arguments: dict[str, Any]) -> None:
        """Call a method until it sends a request or has returned: some do when their result is used."""
        arguments = {**_made_up(method), **arguments}
        try:
            result = method(**arguments)
            if inspect.isawaitable(result):
                result = await result
        except TypeError as error:
            if not (missing := _MISSING.search(str(error))):
                raise
            names = set(re.findall(r"'(\w+)'", missing[0])) - arguments.keys()
            await self._call(method, {**dict.fromkeys(names, ID), **arguments})
            return
        if hasattr(result, "__enter__"):
            with result:
                await self._connected()
        elif hasattr(result, "__next__"):
            next(result)
        elif hasattr(result, "__aenter__"):
            async with result:
                await self._connected()
        elif hasattr(result, "__anext__"):
            await anext(result)

    async def _connected(self) -> None:
        """Wait until the server has noted a WebSocket: it does so after it has accepted it."""
        for _ in range(1000):
            if self._sockets.paths:
                return
            await asyncio.sleep(0.001)


def _kind_of_failure(failure: Exception | None) -> str:
    """Return the kind of a method that has sent no request."""
    if failure is None or "You need to install" in str(failure):
        return "local"
    unsupported = "only supported in" in str(failure) or "not support" in str(failure)
    return "unsupported" if unsupported else f"failed with {failure!r}:"


def _made_up(method: Callable[..., Any]) -> dict[str, Any]:
    """Return a value for each argument that a method requires."""
    return {
        name: next(value for pattern, value in _VALUES if re.search(pattern, str(parameter.annotation)))
        for name, parameter in inspect.signature(method).parameters.items()
        if parameter.default is parameter.empty
        and parameter.kind in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY)
    }


def _methods(resource: Any, path: str = "") -> Iterator[tuple[str, Callable[..., Any]]]:
    """Yield the public methods of a client's resources, with their paths: `chat.completions.create`."""
    for name, attribute in inspect.getmembers_static(type(resource)):
        if name.startswith(_SKIPPED):
            continue
        if isinstance(attribute, property | cached_property):
            value = getattr(resource, name)
            if _is_resource(value):
                yield from _methods(value, f"{path}{name}.")
        elif path and inspect.isfunction(attribute):
            yield path + name, getattr(resource, name)


def _is_resource(value: object) -> bool:
    module = type(value).__module__
    return ".resources." in module or module.startswith("google.genai.")
