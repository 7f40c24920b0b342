"""The tap on the openai and anthropic SDKs, whose base clients come from the same Stainless templates.

Every call goes through `request` of the base client, which makes one or more attempts through `send` of its
HTTP client. `request` shows where a call begins and ends, what `send` returns shows its bytes.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from types import ModuleType
from typing import Any, ClassVar, Final

from ..client.default import pipeline
from ..client.meter import Meter
from ..pricing.endpoint import Endpoint
from ..wire.fields import text
from ..wire.openai import ChatReader
from ..wire.routes import reader_for
from ..wire.unread import UnreadReader, route_of
from .boundary import ametered, metered
from .imports import Imported
from .patches import Patches
from .private_names import ALWAYS, resolve
from .send import HttpClientAttribute, Wrap, own_http_client, patch_http_client, wrap_async_send, wrap_send
from .switch import Switch
from .usage_chunk import UsageChunkFilter, may_ask, usage_request

_ENDPOINT: Final = "_llm_exporter_endpoint"
"""A client's endpoint, with the table and the URL that it was looked up by."""


def stainless_names(package: str) -> dict[str, str]:
    """Return the private names that the tap relies on in one SDK."""
    return {
        f"{package}._base_client:SyncAPIClient.request": ALWAYS,
        f"{package}._base_client:AsyncAPIClient.request": ALWAYS,
        f"{package}._base_client:SyncAPIClient._client": ALWAYS,
        f"{package}._base_client:AsyncAPIClient._client": ALWAYS,
        f"{package}._base_client:BaseClient._base_url": ALWAYS,
        f"{package}._models:FinalRequestOptions.method": ALWAYS,
        f"{package}._models:FinalRequestOptions.url": ALWAYS,
        f"{package}._models:FinalRequestOptions.json_data": ALWAYS,
        f"{package}._models:FinalRequestOptions.extra_json": ALWAYS,
    }


class StainlessTap:
    """The tap on one SDK.

    Args:
        switch: says which clients are metered.
    """

    package: ClassVar[str]
    """The SDK's package, which is also the id of the provider whose SDK it is."""

    def __init__(self, switch: Switch) -> None:
        self._switch = switch
        self._patches = Patches()

    @property
    def modules(self) -> Mapping[str, Imported]:
        """The modules to patch, and the function that patches each."""
        return {self.package: self._patch_clients}

    def owners(self, client: Any) -> list[object]:
        """Return what a client shares with its copies (`with_options` …): its HTTP client."""
        return [own_http_client(client._client)]  # noqa: SLF001

    def restore(self) -> None:
        """Put the SDK's own methods back."""
        self._patches.restore()

    def _patch_clients(self, _: ModuleType) -> None:
        base = f"{self.package}._base_client"
        meter_for = partial(self._meter, wrap_send)
        ameter_for = partial(self._meter, wrap_async_send)
        self._patches.patch(
            (f"{base}:SyncAPIClient.request", lambda request: metered(request, meter_for)),
            (f"{base}:AsyncAPIClient.request", lambda request: ametered(request, ameter_for)),
        )
        patch_http_client(self._patches, *resolve(f"{base}:SyncAPIClient._client"), wrap_send)
        patch_http_client(self._patches, *resolve(f"{base}:AsyncAPIClient._client"), wrap_async_send)

    def _meter(self, wrap: Wrap, client: Any, cast_to: Any, options: Any, **_: Any) -> Meter | None:
        http = vars(client).get("_client") or own_http_client(client._client)  # noqa: SLF001
        if not self._switch.is_on(http):
            return None
        url = str(options.url)
        reader = reader_for(options.method, url)
        if reader is None:
            return None
        endpoint = _endpoint(client, self.package)
        body = options.json_data
        fields = body if isinstance(body, dict) else {}
        if reader is UnreadReader and not endpoint.is_known:
            return None
        route = route_of(options.method, _absolute(client, url)) if reader is UnreadReader else ""
        if not isinstance(getattr(type(client), "_client", None), HttpClientAttribute):
            # A subclass computes it, as that of `openai.chat` does.
            patch_http_client(self._patches, type(client), "_client", wrap)
        added = None
        if (
            reader is ChatReader
            and fields.get("stream") is True
            and may_ask(endpoint, self._switch.asks_for_usage(http))
        ):
            api_version = getattr(client, "_api_version", None)
            added = usage_request(body, options.extra_json, client.base_url, api_version)
        model = text(fields.get("model"))
        meter = Meter(endpoint=endpoint, model=model, reader=reader, request=body, url=url, route=route)
        if added is not None:
            options.json_data = added.body  # the SDK makes new options for each call
            meter.usage_request, meter.filter = added, UsageChunkFilter()
        return meter


def _endpoint(client: Any, sdk: str) -> Endpoint:
    """Return the endpoint of a client. It is kept in the client: formatting its URL for each call is slow."""
    providers, own = pipeline().providers, vars(client)
    url = own.get("_base_url")
    known: tuple[object, object, Endpoint] | None = own.get(_ENDPOINT)
    if known is not None and known[0] is providers and known[1] is url:
        return known[2]
    endpoint = providers.of(str(client.base_url), type(client).__name__, sdk)
    if url is not None:
        own[_ENDPOINT] = providers, url, endpoint
    return endpoint


def _absolute(client: Any, url: str) -> str:
    """Return the URL of a request, which is usually relative to that of the client."""
    return url if "://" in url else f"{client.base_url}{url.lstrip('/')}"
