"""Where a call begins and ends: a wrapper around the one method of an SDK that every call goes through."""

from __future__ import annotations

from collections.abc import Callable
from contextvars import Token
from typing import Any

from ..client.guard import report_error
from ..client.meter import Meter, current
from ..client.waiting import asleep_through, sleep_through
from .patches import Method

MeterFor = Callable[..., Meter | None]
"""Takes the arguments of the SDK's method; returns a meter, or None if the request is not a call."""


def metered(method: Method, meter_for: MeterFor) -> Method:
    """Return a method that makes the same call under a meter."""

    def call(*args: Any, **kwargs: Any) -> Any:
        meter = begin(meter_for, *args, **kwargs)
        token = current.set(meter)  # or None: it is no attempt of a call around it either
        try:
            if meter is None:
                return method(*args, **kwargs)
            try:
                if pauses := meter.hold_budget():
                    sleep_through(pauses)
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
        meter = begin(meter_for, *args, **kwargs)
        token = current.set(meter)
        try:
            if meter is None:
                return await method(*args, **kwargs)
            try:
                if pauses := meter.hold_budget():
                    await asleep_through(pauses)
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
    try:
        return meter_for(*args, **kwargs)
    except Exception as error:
        report_error("tap", error)
        return None


def _leave(token: Token[Meter | None]) -> None:
    try:  # noqa: SIM105 - `suppress` would cost each call as much as all of `begin`
        current.reset(token)
    except ValueError:
        pass  # an abandoned coroutine may be closed from another context
