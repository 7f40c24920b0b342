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

from ..budgets.errors import BudgetExceeded
from ..call import Call, ErrorKind
from ..client.default import pipeline
from ..client.meter import Meter
from ..labels import current_labels
from ..wire.conversation import CallMessage, Conversation, GenerationRequest
from ..wire.error_kinds import kind_of_exception


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
        pipeline().error("tap", error)


class Listener:
    """Meters the calls of one connection. No method but `admit` raises.

    Args:
        conversation: tells which messages belong to which call.
        provider: the provider's id.
        is_on: whether a call that begins now is to be metered.
    """

    def __init__(self, conversation: Conversation, provider: str, is_on: Callable[[], bool]) -> None:
        self._conversation = conversation
        self._provider = provider
        self._is_on = is_on
        self._labels = current_labels()
        self._meters: dict[str, Meter] = {}
        self._ended = False

    def admit(self, message: object) -> None:
        """Let a message be sent, unless it asks for something and the budget for that is used up.

        What an answer may come to is not held: it is not known, nor which message it will be an answer to.

        Raises:
            BudgetExceeded: when it must not be sent, and only that.
        """
        try:
            asked = self._asked_by(message)
            if asked is not None and pipeline().budgets.may_refuse:
                self._admit(asked)
        except BudgetExceeded:
            raise
        except Exception as error:
            pipeline().error("budgets", error)

    def _admit(self, asked: GenerationRequest) -> None:
        reader, model = asked
        labels = {**self._labels, **current_labels()}
        call = Call(
            provider=self._provider,
            model=model,
            requested_model=model,
            operation=reader.operation,
            labels=labels,
        )
        try:
            pipeline().budgets.refuse_if_exhausted(call)
        except BudgetExceeded as exceeded:
            Meter(provider=self._provider, model=model, reader=reader, labels=labels).refused(exceeded)
            raise

    def _asked_by(self, message: object) -> GenerationRequest | None:
        if not self._is_on():
            return None
        data = message.encode() if isinstance(message, str) else message
        if not isinstance(data, bytes):
            return None  # one that is sent in fragments
        try:
            return self._conversation.parse_sent(data)
        except msgspec.DecodeError:
            return None

    def hear(self, message: str | bytes) -> None:
        """Take a message that was received."""
        try:
            self._take(message.encode() if isinstance(message, str) else message)
        except msgspec.DecodeError:
            pass  # no JSON, or not of the format: it says nothing of a call
        except Exception as error:
            pipeline().error("wire", error)

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
        part = self._conversation.parse_received(message)
        if part is None:
            return
        meter = self._meters.get(part.key)
        if meter is None:
            if not part.starts or self._ended or not self._is_on():
                return
            meter = self._meters[part.key] = self._begin(part)
        meter.feed(message)
        if part.ends:
            self._meters.pop(part.key, meter).finish()

    def _begin(self, part: CallMessage) -> Meter:
        meter = Meter(
            provider=self._provider,
            model=part.requested_model,
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
    def send(self: Any, message: Any, *args: Any, **kwargs: Any) -> Any:
        self._llm_exporter_listener.admit(message)
        return cls.send(self, message, *args, **kwargs)

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

    return {"send": send, "recv": recv, "close": close}


def _async_methods(cls: Any) -> dict[str, Any]:
    async def send(self: Any, message: Any, *args: Any, **kwargs: Any) -> Any:
        self._llm_exporter_listener.admit(message)
        return await cls.send(self, message, *args, **kwargs)

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

    return {"send": send, "recv": recv, "close": close}
