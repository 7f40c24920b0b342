"""Sees each attempt of a metered call where the SDK reaches for its HTTP client, and the attempt's response.

Nothing is set on an HTTP client or its class. A metered call finds a stand-in at the attribute that holds the
client, and the stand-in looks up the client's own `send` at each attempt. So `send` may be a subclass's, a
property, a tracer's or a mock's; each of them may come and go at any time, and finds and leaves the client as
it would without us.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ..client.guard import guarded, report_error
from ..client.meter import Meter, current
from ..wire.error_kinds import kind_of_exception, kind_of_status
from .patches import Method, Patches
from .response import tap_response
from .usage_chunk import REJECTED, without_usage_request

Wrap = Callable[[Method], Method]


def wrap_send(send: Method) -> Method:
    """Return a `send` that shows the meter of the call it belongs to, if any, what happens."""

    def metered_send(request: Any, **kwargs: Any) -> Any:
        meter = current.get()
        if meter is None:
            return send(request, **kwargs)
        try:
            response = send(request, **kwargs)
            if (added := meter.usage_request) is not None and response.status_code in REJECTED:
                response.read()
                if own_request := guarded("tap", without_usage_request, request, response, meter):
                    response = send(own_request, **kwargs)
                    guarded("tap", added.withdrawn, response)
        except BaseException as error:
            meter.attempt_failed(kind_of_exception(error))
            raise
        try:
            _see_response(response, meter)
        except Exception as error:
            report_error("tap", error)
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
            if (added := meter.usage_request) is not None and response.status_code in REJECTED:
                await response.aread()
                if own_request := guarded("tap", without_usage_request, request, response, meter):
                    response = await send(own_request, **kwargs)
                    guarded("tap", added.withdrawn, response)
        except BaseException as error:
            meter.attempt_failed(kind_of_exception(error))
            raise
        try:
            _see_response(response, meter)
        except Exception as error:
            report_error("tap", error)
        return response

    return metered_send


def patch_http_client(patches: Patches, owner: type, name: str, wrap: Wrap) -> None:
    """Let metered calls find a stand-in at the attribute of an SDK's objects that holds their HTTP client.

    Args:
        patches: puts the attribute back.
        owner: the class of the objects, or a subclass that computes the attribute.
        name: the name of the attribute.
        wrap: `wrap_send`, or `wrap_async_send` if the HTTP client is asynchronous.
    """
    cls = next((base for base in owner.__mro__ if name in vars(base)), owner)
    patches.patch_attribute(cls, name, lambda own: HttpClientAttribute(name, wrap, own))


class HttpClientAttribute:
    """A data descriptor in place of the attribute. The objects keep their HTTP clients where they were.

    Args:
        name: the name of the attribute.
        wrap: wraps `send`.
        own: the descriptor of the attribute that the class itself has, if any.
    """

    def __init__(self, name: str, wrap: Wrap, own: Any = None) -> None:
        self._name = name
        self._wrap = wrap
        self._own = own

    def __get__(self, owner: Any, cls: type | None = None) -> Any:
        if owner is None:
            return self
        meter = current.get()
        if meter is not None and meter.owner is owner:
            return meter.stand_in  # the SDKs look here several times for each call
        http = owner.__dict__.get(self._name) if self._own is None else None
        if http is None:
            http = self._own_value(owner, cls)
        if meter is None or http is None or type(http) is HttpClientStandIn:
            return http
        meter.owner, meter.stand_in = owner, HttpClientStandIn(http, self._wrap)
        return meter.stand_in

    def _own_value(self, owner: Any, cls: type | None) -> Any:
        """Return what the attribute would be without us."""
        own = self._own
        if not hasattr(own, "__set__") and self._name in vars(owner):
            return vars(owner)[self._name]
        if hasattr(own, "__get__"):
            return own.__get__(owner, cls)
        raise self._missing(owner)

    def _missing(self, owner: Any) -> AttributeError:
        message = f"{type(owner).__name__!r} object has no attribute {self._name!r}"
        return AttributeError(message, name=self._name, obj=owner)

    def __set__(self, owner: Any, http: Any) -> None:
        http = own_http_client(http)  # a client that is copied within a call has our stand-in
        if (meter := current.get()) is not None:
            meter.owner = None
        if hasattr(self._own, "__set__"):
            self._own.__set__(owner, http)
        else:
            vars(owner)[self._name] = http

    def __delete__(self, owner: Any) -> None:
        if hasattr(self._own, "__delete__"):
            self._own.__delete__(owner)
        elif self._name in vars(owner):
            del vars(owner)[self._name]
        else:
            raise self._missing(owner)


class HttpClientStandIn:
    """An HTTP client as a metered call sees it: the client itself, except that its `send` is wrapped."""

    __slots__ = ("_llm_exporter_http", "_llm_exporter_wrap")

    def __init__(self, http: Any, wrap: Wrap) -> None:
        object.__setattr__(self, "_llm_exporter_http", http)
        object.__setattr__(self, "_llm_exporter_wrap", wrap)

    @property  # type: ignore[misc]  # `object` lets it be set too
    def __class__(self) -> Any:  # `isinstance` asks for it
        return self._llm_exporter_http.__class__

    @property
    def send(self) -> Method:
        """Return the `send` that the client has now, wrapped."""
        send: Method = self._llm_exporter_wrap(self._llm_exporter_http.send)
        return send

    def __getattr__(self, name: str) -> Any:
        return getattr(self._llm_exporter_http, name)

    def __setattr__(self, name: str, value: Any) -> None:
        setattr(self._llm_exporter_http, name, value)

    def __delattr__(self, name: str) -> None:
        delattr(self._llm_exporter_http, name)

    def __eq__(self, other: object) -> bool:
        return bool(self._llm_exporter_http == own_http_client(other))

    def __hash__(self) -> int:
        return hash(self._llm_exporter_http)


def own_http_client(http: Any) -> Any:
    """Return the SDK's own HTTP client, given it or our stand-in for it."""
    return http._llm_exporter_http if type(http) is HttpClientStandIn else http  # noqa: SLF001


def _see_response(response: Any, meter: Meter) -> None:
    """Tap the response of a successful attempt, or note the failure."""
    if response.status_code >= 400:
        meter.attempt_failed(kind_of_status(response.status_code))
        return
    meter.response_started(response.headers)
    tap_response(response, meter)
