"""Wraps `send` of an httpx or httpx2 client, to see each attempt of a metered call and its response."""

from __future__ import annotations

from typing import Any

from ..client.guard import guarded
from ..client.meter import Meter, current
from ..wire.error_kinds import kind_of_exception, kind_of_status
from .patches import Method
from .response import tap_response


def wrap_send(send: Method) -> Method:
    """Return a `send` that shows the meter of the call it belongs to, if any, what happens."""

    def metered_send(request: Any, **kwargs: Any) -> Any:
        meter = current.get()
        if meter is None:
            return send(request, **kwargs)
        try:
            response = send(request, **kwargs)
        except BaseException as error:
            meter.attempt_failed(kind_of_exception(error))
            raise
        guarded("tap", _see_response, response, meter)
        return response

    return metered_send


def wrap_async_send(send: Method) -> Method:
    """As `wrap_send`, for an asynchronous client."""

    async def metered_send(request: Any, **kwargs: Any) -> Any:
        meter = current.get()
        if meter is None:
            return await send(request, **kwargs)
        try:
            response = await send(request, **kwargs)
        except BaseException as error:
            meter.attempt_failed(kind_of_exception(error))
            raise
        guarded("tap", _see_response, response, meter)
        return response

    return metered_send


def _see_response(response: Any, meter: Meter) -> None:
    """Read a response whose body is complete, or tap one whose body the SDK has yet to read."""
    if response.status_code >= 400:
        meter.attempt_failed(kind_of_status(response.status_code))
        return
    meter.response_started(response.headers)
    if response.is_stream_consumed:
        meter.feed(response.content)
    else:
        tap_response(response, meter)
        meter.will_stream()
