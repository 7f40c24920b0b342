"""The tap on the google-genai SDK.

Calls go through `_request` of its API client, which makes one or more attempts through `_request_once`
(`_async_…` likewise), whichever HTTP library is underneath: httpx2, httpx, aiohttp or requests. Only files
come through `download_file`, the Interactions go through `do_request` of a second, generated SDK inside it,
on the HTTP client of the first, and Live sessions over a WebSocket.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from functools import partial
from importlib import import_module
from types import ModuleType
from typing import Any, Final

import msgspec

from ..client.default import pipeline
from ..client.meter import Meter, current
from ..wire.error_kinds import kind_of_exception, kind_of_status
from ..wire.live import LiveConversation
from ..wire.routes import reader_for
from .boundary import Method, ametered, hang, metered
from .imports import Imported
from .response import tap
from .send import tap_asend, tap_send
from .switch import Switch
from .websocket import Listener, listen
from .websocket import tap as tap_socket

_MODEL: Final = re.compile(r"/models/([^/:?]+)")


class _Asked(msgspec.Struct):
    model: Any = None
    agent: Any = None


_decode_asked: Final = msgspec.json.Decoder(_Asked).decode


class GoogleTap:
    """The tap on google-genai."""

    def __init__(self) -> None:
        self.switch = Switch()

    @property
    def modules(self) -> Mapping[str, Imported]:
        """See `Tap.modules`; the SDK imports the one inside it when Interactions are first used."""
        return {"google.genai": self.install, "google.genai._gaos.basesdk": self._install_on_interactions}

    def install(self, package: ModuleType) -> None:
        """Hang the tap on the API client of the SDK."""
        cls = import_module(f"{package.__name__}._api_client").BaseApiClient
        hang(
            (cls, "_request", lambda send: metered(send, self._meter)),
            (cls, "_async_request", lambda send: ametered(send, self._meter)),
            (cls, "_request_once", _attempt),
            (cls, "_async_request_once", _aattempt),
        )
        hang(
            (cls, "download_file", lambda get: metered(_fed(get), self._download_meter)),
            (cls, "async_download_file", lambda get: ametered(_afed(get), self._download_meter)),
        )
        self._install_on_live()

    def _install_on_interactions(self, generated: ModuleType) -> None:
        meter_for = partial(self._interaction_meter, "client", tap_send)
        ameter_for = partial(self._interaction_meter, "async_client", tap_asend)
        hang(
            (generated.BaseSDK, "do_request", lambda send: metered(send, meter_for)),
            (generated.AsyncBaseSDK, "do_request_async", lambda send: ametered(send, ameter_for)),
        )

    def _install_on_live(self) -> None:
        try:
            live = import_module("google.genai.live")
        except ImportError:
            return  # its WebSocket library is missing
        hang((live.AsyncLive, "connect", self._connecting))

    def _connecting(self, connect: Method) -> Method:
        @asynccontextmanager
        async def connecting(live: Any, *args: Any, **kwargs: Any) -> AsyncIterator[Any]:
            async with connect(live, *args, **kwargs) as session:
                listen(self._open, live, session, kwargs.get("model", ""))
                yield session

        return connecting

    def _open(self, live: Any, session: Any, model: str) -> None:
        api_client = live._api_client  # noqa: SLF001
        if self.switch.is_on(api_client):
            listener = Listener(LiveConversation(model), "google", partial(self.switch.is_on, api_client))
            tap_socket(session._ws, listener)  # noqa: SLF001

    def _interaction_meter(
        self,
        kind: str,
        tap_http: Callable[[Any], None],
        sdk: Any,
        hook_ctx: Any,
        request: Any,
        *_: Any,
        **__: Any,
    ) -> Meter | None:
        http = getattr(sdk.sdk_configuration, kind)
        if http is None or not self.switch.is_on(http):
            return None
        reader = reader_for(request.method, str(request.url))
        if reader is None:
            return None
        tap_http(http)
        asked = _decode_asked(request.content or b"{}")
        name = _name(asked.model) or _name(asked.agent)
        return Meter(provider=_provider_of(str(request.url)), model=name, reader=reader)

    def owners(self, client: Any) -> list[object]:
        """Return what a client shares with its `aio` side: its API client and HTTP clients."""
        api_client = client._api_client  # noqa: SLF001
        http_clients = (getattr(api_client, name, None) for name in ("_httpx_client", "_async_httpx_client"))
        return [api_client, *(http for http in http_clients if http is not None)]

    def _meter(self, api_client: Any, http_request: Any, *_: Any, **__: Any) -> Meter | None:
        if not self.switch.is_on(api_client):
            return None
        url = str(http_request.url)
        reader = reader_for(http_request.method, url)
        if reader is None:
            return None
        asked = http_request.data
        model = _MODEL.search(url)
        name = model[1] if model else _name(asked.get("model") if isinstance(asked, dict) else None)
        return Meter(provider=_provider_of(url), model=name, reader=reader, request=asked)

    def _download_meter(self, api_client: Any, path: str, *_: Any, **options: Any) -> Meter | None:
        reader = reader_for("GET", path)
        # What is written straight to a file is not seen.
        if reader is None or options.get("destination") is not None or not self.switch.is_on(api_client):
            return None
        return Meter(provider="google", model="", reader=reader, request={"file": path})


def _name(model: object) -> str:
    """Return the name of a model, which may stand behind the path to it."""
    return model.rpartition("/")[2] if isinstance(model, str) else ""


def _provider_of(url: str) -> str:
    return pipeline().providers.of(url, "Client", "google")


def _attempt(send: Method) -> Method:
    def attempt(*args: Any, **kwargs: Any) -> Any:
        meter = current.get()
        if meter is None:
            return send(*args, **kwargs)
        try:
            answer = send(*args, **kwargs)
        except BaseException as error:
            meter.guard(_fail, meter, error)
            raise
        meter.guard(_look_at, answer, meter)
        return answer

    return attempt


def _aattempt(send: Method) -> Method:
    async def attempt(*args: Any, **kwargs: Any) -> Any:
        meter = current.get()
        if meter is None:
            return await send(*args, **kwargs)
        try:
            answer = await send(*args, **kwargs)
        except BaseException as error:
            meter.guard(_fail, meter, error)
            raise
        meter.guard(_look_at, answer, meter)
        return answer

    return attempt


def _fed(get: Method) -> Method:
    def download(*args: Any, **kwargs: Any) -> Any:
        data = get(*args, **kwargs)
        if (meter := current.get()) is not None:
            meter.guard(_look_at_file, data, meter)
        return data

    return download


def _afed(get: Method) -> Method:
    async def download(*args: Any, **kwargs: Any) -> Any:
        data = await get(*args, **kwargs)
        if (meter := current.get()) is not None:
            meter.guard(_look_at_file, data, meter)
        return data

    return download


def _look_at_file(data: bytes, meter: Meter) -> None:
    """Read a file that has come whole."""
    meter.answering({})
    meter.feed(data)


def _fail(meter: Meter, error: BaseException) -> None:
    """Note a failed attempt: the SDK's `APIError` has the HTTP status, others are the HTTP library's."""
    code = getattr(error, "code", None)
    meter.failed(kind_of_status(code) if isinstance(code, int) else kind_of_exception(error))


def _look_at(answer: Any, meter: Meter) -> None:
    """Read an `HttpResponse` that has come whole as `[text]`, or tap the response it holds to be read."""
    body = answer.response_stream
    if isinstance(body, list):
        meter.answering({"content-type": "application/json"})
        meter.feed("".join(body).encode())
    else:
        meter.answering({name.lower(): value for name, value in answer.headers.items()})
        tap(body, meter)
        meter.streaming()
