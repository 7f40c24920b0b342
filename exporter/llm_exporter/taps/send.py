"""Looks at what an httpx or httpx2 client sends within a metered call: each attempt, and its answer."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final
from weakref import ref

from ..client.meter import Meter, current
from ..wire.error_kinds import kind_of_exception, kind_of_status
from .response import tap

_TAPPED: Final = "_llm_exporter_tapped"


def tap_send(http: Any) -> None:
    """Hang the tap on one HTTP client's `send`; it sees only what is sent within a metered call."""
    if _TAPPED in vars(http):
        return
    send = _unbound_send(http)

    def tapped_send(request: Any, **kwargs: Any) -> Any:
        meter = current.get()
        if meter is None:
            return send(request, **kwargs)
        try:
            response = send(request, **kwargs)
        except BaseException as error:
            meter.failed(kind_of_exception(error))
            raise
        meter.guard(_look_at, response, meter)
        return response

    http.send = tapped_send
    setattr(http, _TAPPED, True)


def tap_asend(http: Any) -> None:
    """As `tap_send`, for an asynchronous client."""
    if _TAPPED in vars(http):
        return
    send = _unbound_send(http)

    async def tapped_send(request: Any, **kwargs: Any) -> Any:
        meter = current.get()
        if meter is None:
            return await send(request, **kwargs)
        try:
            response = await send(request, **kwargs)
        except BaseException as error:
            meter.failed(kind_of_exception(error))
            raise
        meter.guard(_look_at, response, meter)
        return response

    http.send = tapped_send
    setattr(http, _TAPPED, True)


def _unbound_send(http: Any) -> Callable[..., Any]:
    """Return an HTTP client's `send` so that keeping it in the client does not keep the client alive."""
    replaced: Callable[..., Any] | None = vars(http).get("send")
    if replaced is not None:
        return replaced  # someone else's
    send, alive = type(http).send, ref(http)
    return lambda *args, **kwargs: send(alive(), *args, **kwargs)


def _look_at(response: Any, meter: Meter) -> None:
    """Read an HTTP response that has come whole, or tap one that is still to be read."""
    if response.status_code >= 400:
        meter.failed(kind_of_status(response.status_code))
        return
    meter.answering(response.headers)
    if response.is_stream_consumed:
        meter.feed(response.content)
    else:
        tap(response, meter)
        meter.streaming()
