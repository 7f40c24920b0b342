"""The tap on the google-genai SDK.

A call goes through `_request` of the API client, which makes one or more attempts through `_request_once`
(`_async_…` likewise), whichever HTTP library is underneath: httpx2, httpx, aiohttp or requests.

Three kinds of call take another way. Files come through `download_file`. Interactions go through `do_request`
of a second, generated SDK inside the first one, over the first one's HTTP client. Live sessions and
sessions of music use WebSockets.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from importlib import import_module
from types import ModuleType
from typing import Any, Final

import msgspec

from ..client.default import pipeline
from ..client.guard import guarded, report_error
from ..client.meter import Meter, current
from ..client.waiting import asleep_through
from ..pricing.endpoint import Endpoint
from ..wire.error_kinds import kind_of_exception, kind_of_status
from ..wire.live import LiveConversation
from ..wire.routes import reader_for
from ..wire.unread import UnreadReader, route_of
from .boundary import ametered, begin, metered
from .imports import Imported
from .patches import Method, Patches
from .private_names import ALWAYS, resolve
from .response import tap_response
from .send import own_http_client, patch_http_client, wrap_async_send, wrap_send
from .switch import Switch
from .websocket import ConnectionMeter, tap_connection

_API_CLIENT: Final = "google.genai._api_client:BaseApiClient"
_INTERACTIONS: Final = "google.genai._gaos.basesdk"
_CONFIGURATION: Final = "google.genai._gaos.sdkconfiguration:SDKConfiguration"

PRIVATE_NAMES: Final = {
    f"{_API_CLIENT}._request": ALWAYS,
    f"{_API_CLIENT}._async_request": ALWAYS,
    f"{_API_CLIENT}._request_once": ALWAYS,
    f"{_API_CLIENT}._async_request_once": ALWAYS,
    f"{_API_CLIENT}.download_file": ALWAYS,
    f"{_API_CLIENT}.async_download_file": ALWAYS,
    f"{_API_CLIENT}._httpx_client": ALWAYS,
    f"{_API_CLIENT}._async_httpx_client": ALWAYS,
    f"{_API_CLIENT}._http_options": ALWAYS,
    "google.genai._api_client:HttpRequest.method": ALWAYS,
    "google.genai._api_client:HttpRequest.url": ALWAYS,
    "google.genai._api_client:HttpRequest.data": ALWAYS,
    "google.genai._api_client:HttpResponse.headers": ALWAYS,
    "google.genai._api_client:HttpResponse.response_stream": ALWAYS,
    "google.genai.client:Client._api_client": ALWAYS,
    "google.genai.live:AsyncLive._api_client": ALWAYS,
    "google.genai.live:AsyncSession._ws": ALWAYS,
    "google.genai.live_music:AsyncLiveMusic._api_client": ALWAYS,
    f"{_INTERACTIONS}:BaseSDK.do_request": "2.9.0",
    f"{_INTERACTIONS}:BaseSDK.sdk_configuration": "2.9.0",
    f"{_INTERACTIONS}:AsyncBaseSDK.do_request_async": "2.9.0",
    f"{_INTERACTIONS}:AsyncBaseSDK.sdk_configuration": "2.9.0",
    f"{_CONFIGURATION}.client": "2.9.0",
    f"{_CONFIGURATION}.async_client": "2.9.0",
}
"""The private names of google-genai that the tap relies on; see `taps/private_names.py`."""

_GOOGLE: Final = Endpoint("google", is_known=True)
_MODEL: Final = re.compile(r"/models/([^/:?]+)")


class _Interaction(msgspec.Struct):
    """The fields of an Interactions request that name what answers it, and in which tier."""

    model: Any = None
    agent: Any = None
    service_tier: Any = None


_decode_interaction: Final = msgspec.json.Decoder(_Interaction).decode


class GoogleTap:
    """The tap on google-genai.

    Args:
        switch: says which clients are metered.
    """

    def __init__(self, switch: Switch) -> None:
        self._switch = switch
        self._patches = Patches()

    @property
    def modules(self) -> Mapping[str, Imported]:
        """The modules to patch. The SDK imports the one for Interactions when they are first used."""
        return {"google.genai": self._patch_client, _INTERACTIONS: self._patch_interactions}

    def owners(self, client: Any) -> list[object]:
        """Return what a client shares with its `aio` side: its API client and HTTP clients."""
        api_client = client._api_client  # noqa: SLF001
        http_clients = (getattr(api_client, name, None) for name in ("_httpx_client", "_async_httpx_client"))
        return [api_client, *(http for http in http_clients if http is not None)]

    def restore(self) -> None:
        """Put the SDK's own methods back."""
        self._patches.restore()

    def _patch_client(self, _: ModuleType) -> None:
        self._patches.patch(
            (f"{_API_CLIENT}._request", lambda send: metered(send, self._meter)),
            (f"{_API_CLIENT}._async_request", lambda send: ametered(send, self._meter)),
            (f"{_API_CLIENT}._request_once", _attempt),
            (f"{_API_CLIENT}._async_request_once", _aattempt),
        )
        self._patches.patch(
            (f"{_API_CLIENT}.download_file", lambda get: metered(_download(get), self._download_meter)),
            (
                f"{_API_CLIENT}.async_download_file",
                lambda get: ametered(_adownload(get), self._download_meter),
            ),
        )
        self._patch_live()

    def _patch_interactions(self, _: ModuleType) -> None:
        meter_for = partial(self._interaction_meter, "client")
        ameter_for = partial(self._interaction_meter, "async_client")
        self._patches.patch(
            (f"{_INTERACTIONS}:BaseSDK.do_request", lambda send: metered(send, meter_for)),
            (f"{_INTERACTIONS}:AsyncBaseSDK.do_request_async", lambda send: ametered(send, ameter_for)),
        )
        patch_http_client(self._patches, *resolve(f"{_CONFIGURATION}.client"), wrap_send)
        patch_http_client(self._patches, *resolve(f"{_CONFIGURATION}.async_client"), wrap_async_send)

    def _patch_live(self) -> None:
        try:
            import_module("google.genai.live")
        except ImportError:
            return  # its WebSocket library is not installed
        self._patches.patch(("google.genai.live:AsyncLive.connect", self._connecting))
        self._patches.patch(("google.genai.live_music:AsyncLiveMusic.connect", self._connecting_music))

    def _connecting(self, connect: Method) -> Method:
        @asynccontextmanager
        async def connecting(live: Any, *args: Any, **kwargs: Any) -> AsyncIterator[Any]:
            async with connect(live, *args, **kwargs) as session:
                guarded("tap", self._opened, live, session, kwargs.get("model", ""))
                yield session

        return connecting

    def _opened(self, live: Any, session: Any, model: str) -> None:
        api_client = live._api_client  # noqa: SLF001
        if self._switch.is_on(api_client):
            is_on = partial(self._switch.is_on, api_client)
            tap_connection(session._ws, ConnectionMeter(LiveConversation(model), _GOOGLE, is_on))  # noqa: SLF001

    def _connecting_music(self, connect: Method) -> Method:
        @asynccontextmanager
        async def connecting(music: Any, *args: Any, **kwargs: Any) -> AsyncIterator[Any]:
            meter = begin(self._music_meter, music, **kwargs)
            async with AsyncExitStack() as stack:
                try:
                    if meter is not None:
                        await asleep_through(meter.hold_budget())
                    session = await stack.enter_async_context(connect(music, *args, **kwargs))
                except BaseException as error:
                    if meter is not None:
                        meter.raised(error)
                    raise
                if meter is not None:
                    meter.returned()
                yield session

        return connecting

    def _music_meter(self, music: Any, model: str = "") -> Meter | None:
        """Return a meter for a session of music, whose messages do not say what was used."""
        api_client = music._api_client  # noqa: SLF001
        if not self._switch.is_on(api_client):
            return None
        version = api_client._http_options.api_version  # noqa: SLF001
        route = route_of(
            "WS", f"/ws/google.ai.generativelanguage.{version}.GenerativeService.BidiGenerateMusic"
        )
        return Meter(endpoint=_GOOGLE, model=_name(model), reader=UnreadReader, route=route)

    def _meter(self, api_client: Any, http_request: Any, *_: Any, **__: Any) -> Meter | None:
        if not self._switch.is_on(api_client):
            return None
        url = str(http_request.url)
        reader = reader_for(http_request.method, url)
        if reader is None:
            return None
        body = http_request.data
        in_path = _MODEL.search(url)
        model = in_path[1] if in_path else _name(body.get("model") if isinstance(body, dict) else None)
        endpoint = _endpoint_of(url)
        if reader is UnreadReader and not endpoint.is_known:
            return None
        route = route_of(http_request.method, url) if reader is UnreadReader else ""
        return Meter(endpoint=endpoint, model=model, reader=reader, request=body, route=route)

    def _interaction_meter(
        self, http_name: str, sdk: Any, hook_ctx: Any, request: Any, *_: Any, **__: Any
    ) -> Meter | None:
        http = getattr(sdk.sdk_configuration, http_name)
        if http is None or not self._switch.is_on(own_http_client(http)):
            return None
        url = str(request.url)
        reader = reader_for(request.method, url)
        endpoint = _endpoint_of(url)
        if reader is None or (reader is UnreadReader and not endpoint.is_known):
            return None
        body = _decode_interaction(request.content or b"{}")
        model = _name(body.model) or _name(body.agent)
        route = route_of(request.method, url) if reader is UnreadReader else ""
        requested = {"service_tier": body.service_tier} if body.service_tier else None
        return Meter(endpoint=endpoint, model=model, reader=reader, request=requested, route=route)

    def _download_meter(self, api_client: Any, path: str, *_: Any, **options: Any) -> Meter | None:
        reader = reader_for("GET", path)
        # The content of a file that the SDK writes straight to disk never passes here.
        if reader is None or options.get("destination") is not None or not self._switch.is_on(api_client):
            return None
        return Meter(endpoint=_GOOGLE, model="", reader=reader, request={"file": path})


def _name(model: object) -> str:
    """Return the name of a model or agent without the path in front of it."""
    return model.rpartition("/")[2] if isinstance(model, str) else ""


def _endpoint_of(url: str) -> Endpoint:
    return pipeline().providers.of(url, "Client", "google")


def _attempt(send: Method) -> Method:
    def attempt(*args: Any, **kwargs: Any) -> Any:
        meter = current.get()
        if meter is None:
            return send(*args, **kwargs)
        try:
            response = send(*args, **kwargs)
        except BaseException as error:
            guarded("tap", _attempt_failed, error, meter)
            raise
        try:
            _see_response(response, meter)
        except Exception as error:
            report_error("tap", error)
        return response

    return attempt


def _aattempt(send: Method) -> Method:
    async def attempt(*args: Any, **kwargs: Any) -> Any:
        meter = current.get()
        if meter is None:
            return await send(*args, **kwargs)
        try:
            response = await send(*args, **kwargs)
        except BaseException as error:
            guarded("tap", _attempt_failed, error, meter)
            raise
        try:
            _see_response(response, meter)
        except Exception as error:
            report_error("tap", error)
        return response

    return attempt


def _download(get: Method) -> Method:
    def download(*args: Any, **kwargs: Any) -> Any:
        data = get(*args, **kwargs)
        if (meter := current.get()) is not None:
            guarded("tap", _see_file, data, meter)
        return data

    return download


def _adownload(get: Method) -> Method:
    async def download(*args: Any, **kwargs: Any) -> Any:
        data = await get(*args, **kwargs)
        if (meter := current.get()) is not None:
            guarded("tap", _see_file, data, meter)
        return data

    return download


def _see_file(data: bytes, meter: Meter) -> None:
    """Read a file that was downloaded as a whole."""
    meter.response_started({})
    meter.received(data)


def _attempt_failed(error: BaseException, meter: Meter) -> None:
    """Note a failed attempt. `APIError` is the SDK's own and has the HTTP status as its `code`."""
    code = getattr(error, "code", None)
    meter.attempt_failed(kind_of_status(code) if isinstance(code, int) else kind_of_exception(error))


def _see_response(response: Any, meter: Meter) -> None:
    """Read an `HttpResponse` whose body is complete, as `[text]`, or tap one whose body is yet to be read."""
    body = response.response_stream
    if isinstance(body, list):
        meter.response_started({"content-type": "application/json"})
        meter.received("".join(body))
    else:
        meter.response_started({name.lower(): value for name, value in response.headers.items()})
        tap_response(body, meter)
