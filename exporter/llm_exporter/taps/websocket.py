"""Shows the messages of a WebSocket to a meter while the SDK receives them.

Each response or turn of the provider is a call. Its labels are those in force where the connection was
opened, overlaid with those in force where its first message is received.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cache
from inspect import iscoroutinefunction
from typing import Any

import msgspec

from ..budgets.errors import BudgetExceeded
from ..call import Call, ErrorKind
from ..client.default import pipeline
from ..client.guard import guarded, report_error
from ..client.meter import Meter
from ..client.waiting import asleep_through, sleep_through
from ..labels import current_labels
from ..pricing.endpoint import Endpoint
from ..wire.conversation import CallMessage, Conversation, GenerationRequest
from ..wire.error_kinds import kind_of_exception


def tap_connection(connection: Any, meter: ConnectionMeter) -> None:
    """Show a meter the messages of a connection until it is closed.

    The connection becomes an instance of a subclass of its class, as responses do.

    Args:
        connection: a client connection of the package `websockets`, of its threading or asyncio variant.
        meter: the meter of the connection.
    """
    cls: Any = type(connection)
    if not hasattr(cls, "recv"):
        return  # a mock, which receives no messages
    tapped = _tapped_class(cls)
    connection._llm_exporter_meter = meter  # noqa: SLF001
    connection.__class__ = tapped


class ConnectionMeter:
    """Meters the calls of one connection. No method but `check_budget` raises.

    Args:
        conversation: tells which messages belong to which call.
        endpoint: where the connection goes.
        is_on: returns whether a call that begins now is metered.
    """

    def __init__(self, conversation: Conversation, endpoint: Endpoint, is_on: Callable[[], bool]) -> None:
        self._conversation = conversation
        self._endpoint = endpoint
        self._is_on = is_on
        self._labels = current_labels()
        self._meters: dict[str, Meter] = {}
        self._closed = False

    def check_budget(self, message: object) -> Iterator[float]:
        """Refuse to send a message that requests a response when a budget for it is used up.

        No cost is held for the response: neither the cost nor the message it will answer is known yet.

        Yields:
            The seconds to sleep before the next step, while a shared budget has no lease for the call.

        Raises:
            BudgetExceeded: if the message must not be sent.
        """
        try:
            yield from self._check_budget(message)
        except BudgetExceeded:
            raise
        except Exception as error:
            report_error("budgets", error)

    def _check_budget(self, message: object) -> Iterator[float]:
        requested = self._requested_by(message)
        if requested is None or not pipeline().budgets.may_refuse:
            return
        reader, model = requested
        labels = {**self._labels, **current_labels()}
        call = Call(
            provider=self._endpoint.provider,
            model=model,
            requested_model=model,
            operation=reader.operation,
            labels=labels,
        )
        try:
            yield from pipeline().budgets.refusing_if_exhausted(call)
        except BudgetExceeded as exceeded:
            Meter(endpoint=self._endpoint, model=model, reader=reader, labels=labels).refused(exceeded)
            raise

    def _requested_by(self, message: object) -> GenerationRequest | None:
        if not self._is_on():
            return None
        data = message.encode() if isinstance(message, str) else message
        if not isinstance(data, bytes):
            return None  # a message that is sent in fragments
        try:
            return self._conversation.parse_sent(data)
        except msgspec.DecodeError:
            return None

    def received(self, message: str | bytes) -> None:
        """Read a message that was received."""
        guarded("wire", self._read, message)

    def receive_failed(self, error: BaseException) -> None:
        """Note that receiving failed. Only a lost connection ends the calls: a timeout may be retried."""
        if kind_of_exception(error) == "connection":
            self.close("connection")

    def close(self, error: ErrorKind | None = None) -> None:
        """Finish the calls in flight: the connection is closed, lost or dropped."""
        self._closed = True
        while self._meters:
            self._meters.popitem()[1].finish(error)

    def __del__(self) -> None:
        self.close()

    def _read(self, message: str | bytes) -> None:
        data = message.encode() if isinstance(message, str) else message
        try:
            found = self._conversation.parse_received(data)
        except msgspec.DecodeError:
            return  # not JSON, or not in this format: it belongs to no call
        if found is None:
            return
        meter = self._meters.get(found.key)
        if meter is None:
            if not found.starts or self._closed or not self._is_on():
                return
            meter = self._meters[found.key] = self._begin(found)
        meter.feed(data)
        if found.ends:
            self._meters.pop(found.key, meter).finish()

    def _begin(self, first: CallMessage) -> Meter:
        meter = Meter(
            endpoint=self._endpoint,
            model=first.requested_model,
            reader=first.reader,
            request={"model": first.model},
            labels={**self._labels, **current_labels()},
        )
        meter.response_started({})
        meter.will_stream()
        return meter


@cache  # there are only two, for threads and for asyncio
def _tapped_class(cls: Any) -> Any:
    methods = _async_methods(cls) if iscoroutinefunction(cls.recv) else _methods(cls)
    # With a second base class, the connection could not always become an instance of the new class.
    return type(cls.__name__, (cls,), {**methods, "__module__": cls.__module__})


def _methods(cls: Any) -> dict[str, Any]:
    def send(self: Any, message: Any, *args: Any, **kwargs: Any) -> Any:
        sleep_through(self._llm_exporter_meter.check_budget(message))
        return cls.send(self, message, *args, **kwargs)

    def recv(self: Any, *args: Any, **kwargs: Any) -> Any:
        meter = self._llm_exporter_meter
        try:
            message = cls.recv(self, *args, **kwargs)
        except BaseException as error:
            meter.receive_failed(error)
            raise
        meter.received(message)
        return message

    def close(self: Any, *args: Any, **kwargs: Any) -> Any:
        # Before the connection closes: a thread that waits for a message then sees a lost connection.
        self._llm_exporter_meter.close()
        return cls.close(self, *args, **kwargs)

    return {"send": send, "recv": recv, "close": close}


def _async_methods(cls: Any) -> dict[str, Any]:
    async def send(self: Any, message: Any, *args: Any, **kwargs: Any) -> Any:
        await asleep_through(self._llm_exporter_meter.check_budget(message))
        return await cls.send(self, message, *args, **kwargs)

    async def recv(self: Any, *args: Any, **kwargs: Any) -> Any:
        meter = self._llm_exporter_meter
        try:
            message = await cls.recv(self, *args, **kwargs)
        except BaseException as error:
            meter.receive_failed(error)
            raise
        meter.received(message)
        return message

    async def close(self: Any, *args: Any, **kwargs: Any) -> Any:
        self._llm_exporter_meter.close()
        return await cls.close(self, *args, **kwargs)

    return {"send": send, "recv": recv, "close": close}
