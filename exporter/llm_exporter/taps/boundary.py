"""Where a call begins and ends: around the one method of an SDK that every call goes through."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any, Final

from ..client.default import pipeline
from ..client.meter import Meter, current

Method = Callable[..., Any]
MeterFor = Callable[..., Meter | None]
"""Takes what the method takes; returns None for a call that is not to be metered."""

Place = tuple[type, str, Callable[[Method], Method]]
"""A class of an SDK, the name of a method of it, and what wraps that."""

_METERED: Final = "_llm_exporter_metered"


def hang(*places: Place) -> None:
    """Replace methods of an SDK's classes by wrapped ones; a second time changes nothing.

    Where one is missing none is replaced: half a tap would count calls and not see what they use.

    Raises:
        AttributeError: for a release of the SDK that has no such method.
    """
    for cls, name, wrap, method in [(*place, getattr(place[0], place[1])) for place in places]:
        if not hasattr(method, _METERED):
            wrapped = wraps(method)(wrap(method))
            setattr(wrapped, _METERED, True)
            setattr(cls, name, wrapped)


def metered(method: Method, meter_for: MeterFor) -> Method:
    """Return a method that makes the same call under a meter."""

    def call(*args: Any, **kwargs: Any) -> Any:
        meter = _begin(meter_for, args, kwargs)
        if meter is None:
            return method(*args, **kwargs)
        token = current.set(meter)
        try:
            result = method(*args, **kwargs)
        except BaseException as error:
            meter.raised(error)
            raise
        finally:
            current.reset(token)
        meter.returned()
        return result

    return call


def ametered(method: Method, meter_for: MeterFor) -> Method:
    """As `metered`, for a coroutine method."""

    async def call(*args: Any, **kwargs: Any) -> Any:
        meter = _begin(meter_for, args, kwargs)
        if meter is None:
            return await method(*args, **kwargs)
        token = current.set(meter)
        try:
            result = await method(*args, **kwargs)
        except BaseException as error:
            meter.raised(error)
            raise
        finally:
            current.reset(token)
        meter.returned()
        return result

    return call


def _begin(meter_for: MeterFor, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Meter | None:
    try:
        meter = meter_for(*args, **kwargs)
    except Exception as error:
        pipeline().error("tap", error)
        return None
    if meter is not None:
        meter.admit()
    return meter
