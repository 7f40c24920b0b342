"""The tap on the openai SDK: that on any Stainless SDK, and one on its WebSockets.

A connection manager opens a WebSocket in `_connect_ws`, and calls that again to reconnect. Managers that
cannot reconnect open it in `__enter__`.

A client that authenticates with a certificate makes an attempt through `send_api_request`, which uses another
HTTP client.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from types import ModuleType
from typing import Any, Final, NamedTuple

from typing_extensions import override

from ..client.default import pipeline
from ..client.guard import guarded
from ..wire.conversation import Conversation
from ..wire.openai_live import LiveConversation, SidebandConversation, TranslationConversation
from ..wire.realtime import RealtimeConversation, ResponsesConversation
from .imports import Imported
from .patches import Method
from .private_names import ALWAYS, get_mangled
from .send import Wrap, wrap_async_send, wrap_send
from .stainless import StainlessTap, stainless_names
from .websocket import ConnectionMeter, tap_connection


class _Connections(NamedTuple):
    """The WebSockets of one resource."""

    kind: str
    """What the names of the connection manager and of its connection begin with."""
    conversation: type[Conversation]


_CONNECTIONS: Final = {
    "openai.resources.realtime.realtime": _Connections("Realtime", RealtimeConversation),
    "openai.resources.responses.responses": _Connections("Responses", ResponsesConversation),
    "openai.resources.beta.realtime.realtime": _Connections("Realtime", RealtimeConversation),
    "openai.resources.beta.responses.responses": _Connections("Responses", ResponsesConversation),
    "openai.resources.live.live": _Connections("Live", LiveConversation),
    "openai.resources.live.forks": _Connections("Forks", LiveConversation),
    "openai.resources.live.sideband": _Connections("Sideband", SidebandConversation),
    "openai.resources.realtime.translations.translations": _Connections(
        "Translations", TranslationConversation
    ),
}
"""By the module of the resource, which the SDK imports when the resource is first used."""


def _connection_names(module: str, kind: str, *more: str) -> dict[str, str]:
    """Return the private names of a resource with WebSockets that openai 3 has added."""
    names = ("ConnectionManager._connect_ws", "ConnectionManager.__client", "Connection._connection", *more)
    return {f"{module}:{prefix}{kind}{name}": "3.54.0" for prefix in ("", "Async") for name in names}


_CERTIFICATES: Final = "openai.auth._x509"

PRIVATE_NAMES: Final = {
    **stainless_names("openai"),
    f"{_CERTIFICATES}:SyncX509WorkloadIdentityAuth.send_api_request": "3.54.0",
    f"{_CERTIFICATES}:AsyncX509WorkloadIdentityAuth.send_api_request": "3.54.0",
    "openai.lib.azure:AzureOpenAI._api_version": ALWAYS,
    "openai.lib.azure:AsyncAzureOpenAI._api_version": ALWAYS,
    "openai.resources.realtime.realtime:RealtimeConnectionManager._connect_ws": "2.32.0",
    "openai.resources.realtime.realtime:RealtimeConnectionManager.__client": ALWAYS,
    "openai.resources.realtime.realtime:RealtimeConnectionManager.__model": ALWAYS,
    "openai.resources.realtime.realtime:RealtimeConnection._connection": ALWAYS,
    "openai.resources.realtime.realtime:AsyncRealtimeConnectionManager._connect_ws": "2.32.0",
    "openai.resources.realtime.realtime:AsyncRealtimeConnectionManager.__client": ALWAYS,
    "openai.resources.realtime.realtime:AsyncRealtimeConnectionManager.__model": ALWAYS,
    "openai.resources.realtime.realtime:AsyncRealtimeConnection._connection": ALWAYS,
    "openai.resources.responses.responses:ResponsesConnectionManager._connect_ws": "2.32.0",
    "openai.resources.responses.responses:ResponsesConnectionManager.__client": "2.22.0",
    "openai.resources.responses.responses:ResponsesConnection._connection": "2.22.0",
    "openai.resources.responses.responses:AsyncResponsesConnectionManager._connect_ws": "2.32.0",
    "openai.resources.responses.responses:AsyncResponsesConnectionManager.__client": "2.22.0",
    "openai.resources.responses.responses:AsyncResponsesConnection._connection": "2.22.0",
    "openai.resources.beta.realtime.realtime:RealtimeConnectionManager.__client": ALWAYS,
    "openai.resources.beta.realtime.realtime:RealtimeConnectionManager.__model": ALWAYS,
    "openai.resources.beta.realtime.realtime:RealtimeConnection._connection": ALWAYS,
    "openai.resources.beta.realtime.realtime:AsyncRealtimeConnectionManager.__client": ALWAYS,
    "openai.resources.beta.realtime.realtime:AsyncRealtimeConnectionManager.__model": ALWAYS,
    "openai.resources.beta.realtime.realtime:AsyncRealtimeConnection._connection": ALWAYS,
    "openai.resources.beta.responses.responses:ResponsesConnectionManager._connect_ws": "2.45.0",
    "openai.resources.beta.responses.responses:ResponsesConnectionManager.__client": "2.45.0",
    "openai.resources.beta.responses.responses:ResponsesConnection._connection": "2.45.0",
    "openai.resources.beta.responses.responses:AsyncResponsesConnectionManager._connect_ws": "2.45.0",
    "openai.resources.beta.responses.responses:AsyncResponsesConnectionManager.__client": "2.45.0",
    "openai.resources.beta.responses.responses:AsyncResponsesConnection._connection": "2.45.0",
    **_connection_names("openai.resources.live.live", "Live"),
    **_connection_names("openai.resources.live.forks", "Forks"),
    **_connection_names("openai.resources.live.sideband", "Sideband"),
    **_connection_names(
        "openai.resources.realtime.translations.translations", "Translations", "ConnectionManager.__model"
    ),
}
"""The private names of openai that the tap relies on; see `taps/private_names.py`."""


class OpenAITap(StainlessTap):
    """The tap on openai."""

    package = "openai"

    @property
    @override
    def modules(self) -> Mapping[str, Imported]:
        return {
            **super().modules,
            _CERTIFICATES: self._patch_certificates,
            **dict.fromkeys(_CONNECTIONS, self._patch_managers),
        }

    def _patch_certificates(self, _: ModuleType) -> None:
        self._patches.patch(
            (
                f"{_CERTIFICATES}:SyncX509WorkloadIdentityAuth.send_api_request",
                partial(_sending, wrap_send),
            ),
            (
                f"{_CERTIFICATES}:AsyncX509WorkloadIdentityAuth.send_api_request",
                partial(_sending, wrap_async_send),
            ),
        )

    def _patch_managers(self, module: ModuleType) -> None:
        kind, conversation = _CONNECTIONS[module.__name__]
        for manager, enter, wrap in (
            (f"{kind}ConnectionManager", "__enter__", _opening),
            (f"Async{kind}ConnectionManager", "__aenter__", _aopening),
        ):
            if cls := getattr(module, manager, None):  # old releases have no responses over WebSockets
                opened = partial(self._opened, conversation)
                for name in ("_connect_ws",) if hasattr(cls, "_connect_ws") else (enter, "enter"):
                    target = f"{module.__name__}:{manager}.{name}"
                    self._patches.patch((target, partial(wrap, opened)))

    def _opened(self, conversation: type[Conversation], manager: Any, connection: Any) -> None:
        """Meter a connection that was opened: the WebSocket, or the SDK's object around it."""
        client = get_mangled(manager, "__client")
        http = client._client  # noqa: SLF001
        if not self._switch.is_on(http):
            return
        model = get_mangled(manager, "__model")
        endpoint = pipeline().providers.of(str(client.base_url), type(client).__name__, "openai")
        meter = ConnectionMeter(
            conversation(model if isinstance(model, str) else ""), endpoint, partial(self._switch.is_on, http)
        )
        tap_connection(getattr(connection, "_connection", connection), meter)


def _sending(wrap: Wrap, method: Method) -> Method:
    def send(identity: Any, request: Any, /, **kwargs: Any) -> Any:
        return wrap(partial(method, identity))(request, **kwargs)

    return send


def _opening(opened: Callable[..., None], method: Method) -> Method:
    def opening(manager: Any, *args: Any, **kwargs: Any) -> Any:
        connection = method(manager, *args, **kwargs)
        guarded("tap", opened, manager, connection)
        return connection

    return opening


def _aopening(opened: Callable[..., None], method: Method) -> Method:
    async def opening(manager: Any, *args: Any, **kwargs: Any) -> Any:
        connection = await method(manager, *args, **kwargs)
        guarded("tap", opened, manager, connection)
        return connection

    return opening
