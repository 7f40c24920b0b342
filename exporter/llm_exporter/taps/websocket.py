"""Looks at the messages of a WebSocket while the SDK receives them.

Each response or turn that a provider gives over it is a call. It is made under the labels in force where the
connection was opened, with those in force where its first message is received laid over them.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from inspect import iscoroutinefunction
from typing import Any

import msgspec

from .. import exporter as exporters
from ..call import ErrorKind
from ..labels import current_labels
from ..meter import Meter, kind_of_exception
from ..wire.dialogue import Dialogue, Part


def tap(socket: Any, listener: Listener) -> None:
    """Have a listener hear what is received through a connection, until it is closed.

    The connection becomes an instance of a subclass of its class, as responses do.

    Args:
        socket: a client connection of the package `websockets`, of its threading or asyncio variant.
        listener: who is to hear.
    """
    cls: Any = type(socket)
    tapped = _tapped_class(cls)
    socket._llm_exporter_listener = listener  # noqa: SLF001
    socket.__class__ = tapped


def listen(look: Callable[..., None], *args: object) -> None:
    """Run code of ours where a connection is opened; an exception in it goes to the log."""
    try:
        look(*args)
    except Exception as error:
        exporters.default.error("tap", error)


class Listener:
    """Meters the calls of one connection. No method raises.

    Args:
        dialogue: tells which messages belong to which call.
        provider: the provider's id.
        is_on: whether a call that begins now is to be metered.
    """

    def __init__(self, dialogue: Dialogue, provider: str, is_on: Callable[[], bool]) -> None:
        self._dialogue = dialogue
        self._provider = provider
        self._is_on = is_on
        self._labels = current_labels()
        self._meters: dict[str, Meter] = {}
        self._ended = False

    def hear(self, message: str | bytes) -> None:
        """Take a message that was received."""
        try:
            self._take(message.encode() if isinstance(message, str) else message)
        except msgspec.DecodeError:
            pass  # no JSON, or not of the format: it says nothing of a call
        except Exception as error:
            exporters.default.error("wire", error)

    def failed(self, error: BaseException) -> None:
        """Take note that nothing was received; waiting for less than the next message takes ends nothing."""
        if kind_of_exception(error) == "connection":
            self.end("connection")

    def end(self, error: ErrorKind | None = None) -> None:
        """Finish the calls under way: the connection is closed, broken or dropped."""
        self._ended = True
        while self._meters:
            self._meters.popitem()[1].finish(error)

    def __del__(self) -> None:
        self.end()

    def _take(self, message: bytes) -> None:
        part = self._dialogue.part(message)
        if part is None:
            return
        meter = self._meters.get(part.key)
        if meter is None:
            if not part.begins or self._ended or not self._is_on():
                return
            meter = self._meters[part.key] = self._begin(part)
        meter.feed(message)
        if part.ends:
            self._meters.pop(part.key, meter).finish()

    def _begin(self, part: Part) -> Meter:
        meter = Meter(
            provider=self._provider,
            model=part.asked,
            reader=part.reader,
            request={"model": part.model},
            labels={**self._labels, **current_labels()},
        )
        meter.answering({})
        meter.streaming()
        return meter


@cache  # there are two, of threads and of asyncio
def _tapped_class(cls: Any) -> Any:
    methods = _async_methods(cls) if iscoroutinefunction(cls.recv) else _methods(cls)
    # A second base would make it a class that not every connection can become an instance of.
    return type(cls.__name__, (cls,), {**methods, "__module__": cls.__module__})


def _methods(cls: Any) -> dict[str, Any]:
    def recv(self: Any, *args: Any, **kwargs: Any) -> Any:
        listener = self._llm_exporter_listener
        try:
            message = cls.recv(self, *args, **kwargs)
        except BaseException as error:
            listener.failed(error)
            raise
        listener.hear(message)
        return message

    def close(self: Any, *args: Any, **kwargs: Any) -> Any:
        # Before it is closed: whoever waits for a message then hears of a broken connection.
        self._llm_exporter_listener.end()
        return cls.close(self, *args, **kwargs)

    return {"recv": recv, "close": close}


def _async_methods(cls: Any) -> dict[str, Any]:
    async def recv(self: Any, *args: Any, **kwargs: Any) -> Any:
        listener = self._llm_exporter_listener
        try:
            message = await cls.recv(self, *args, **kwargs)
        except BaseException as error:
            listener.failed(error)
            raise
        listener.hear(message)
        return message

    async def close(self: Any, *args: Any, **kwargs: Any) -> Any:
        self._llm_exporter_listener.end()
        return await cls.close(self, *args, **kwargs)

    return {"recv": recv, "close": close}
