"""Where a call begins and ends: a wrapper around the one method of an SDK that every call goes through."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from contextvars import Token
from typing import Any

from ..client.guard import guarded
from ..client.meter import Meter, current
from ..client.waiting import asleep_through, sleep_through
from .patches import Method

MeterFor = Callable[..., Meter | None]
"""Takes the arguments of the SDK's method; returns a meter, or None if the request is not a call."""


def metered(method: Method, meter_for: MeterFor) -> Method:
    """Return a method that makes the same call under a meter."""

    def call(*args: Any, **kwargs: Any) -> Any:
        token = current.set(None)  # a request that is not a call is no attempt of a call around it either
        try:
            meter = begin(meter_for, *args, **kwargs)
            if meter is None:
                return method(*args, **kwargs)
            current.set(meter)
            try:
                sleep_through(meter.hold_budget())
                result = method(*args, **kwargs)
            except BaseException as error:
                meter.raised(error)
                raise
            meter.returned()
            return result
        finally:
            _leave(token)

    return call


def ametered(method: Method, meter_for: MeterFor) -> Method:
    """Return a coroutine method that makes the same call under a meter."""

    async def call(*args: Any, **kwargs: Any) -> Any:
        token = current.set(None)
        try:
            meter = begin(meter_for, *args, **kwargs)
            if meter is None:
                return await method(*args, **kwargs)
            current.set(meter)
            try:
                await asleep_through(meter.hold_budget())
                result = await method(*args, **kwargs)
            except BaseException as error:
                meter.raised(error)
                raise
            meter.returned()
            return result
        finally:
            _leave(token)

    return call


def begin(meter_for: MeterFor, *args: Any, **kwargs: Any) -> Meter | None:
    """Return the meter of a call that begins, or None if it is not metered."""
    return guarded("tap", lambda: meter_for(*args, **kwargs))


def _leave(token: Token[Meter | None]) -> None:
    with suppress(ValueError):  # an abandoned coroutine may be closed from another context
        current.reset(token)
