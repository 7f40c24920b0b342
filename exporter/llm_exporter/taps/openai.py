"""The tap on the openai SDK: as on any Stainless SDK, and on its WebSockets.

A WebSocket is opened, and opened again when it broke, by `_connect_ws` of a connection manager. The beta
Realtime API's manager opens it where it is entered.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import partial
from importlib import import_module
from types import ModuleType
from typing import Any, Final

from ..client.default import pipeline
from ..wire.conversation import Conversation
from ..wire.realtime import RealtimeConversation, ResponsesConversation
from .boundary import Method, hang
from .stainless import StainlessTap
from .websocket import Listener, listen, tap

_CONVERSATIONS: Final[dict[str, type[Conversation]]] = {
    "openai.resources.realtime.realtime": RealtimeConversation,
    "openai.resources.responses.responses": ResponsesConversation,
    "openai.resources.beta.realtime.realtime": RealtimeConversation,
    "openai.resources.beta.responses.responses": ResponsesConversation,
}
"""The modules that have connection managers, and what goes over their connections."""


class OpenAITap(StainlessTap):
    """The tap on openai."""

    def __init__(self) -> None:
        super().__init__("openai")

    def install(self, package: ModuleType) -> None:
        """Hang the tap on the base clients, and on the connection managers as soon as they are there.

        The SDK imports the module of a resource when the resource is first used: importing them all here
        would take as long as importing the SDK.
        """
        super().install(package)
        resource = import_module("openai._resource")
        hang(
            (resource.SyncAPIResource, "__init__", self._first_used),
            (resource.AsyncAPIResource, "__init__", self._first_used),
        )
        self._install_on_managers()

    def _first_used(self, init: Method) -> Method:
        def first_used(*args: Any, **kwargs: Any) -> None:
            init(*args, **kwargs)
            listen(self._install_on_managers)

        return first_used

    def _install_on_managers(self) -> None:
        for name, conversation in _CONVERSATIONS.items():
            module = sys.modules.get(name)
            for kind in ("Realtime", "Responses"):
                if manager := getattr(module, f"{kind}ConnectionManager", None):
                    self._hang(manager, conversation, "__enter__", _opening)
                if manager := getattr(module, f"Async{kind}ConnectionManager", None):
                    self._hang(manager, conversation, "__aenter__", _aopening)

    def _hang(
        self, manager: Any, conversation: type[Conversation], enter: str, wrap: Callable[..., Method]
    ) -> None:
        opened = partial(self._opened, manager.__name__, conversation)
        if hasattr(manager, "_connect_ws"):
            hang((manager, "_connect_ws", lambda method: wrap(method, opened)))
        else:
            for name in (enter, "enter"):
                hang((manager, name, lambda method: wrap(method, opened)))

    def _opened(self, name: str, conversation: type[Conversation], manager: Any, connection: Any) -> None:
        """Listen to a connection that was opened: of the SDK, or what that wraps."""
        client = getattr(manager, f"_{name}__client")
        http = client._client  # noqa: SLF001
        if not self.switch.is_on(http):
            return
        model = getattr(manager, f"_{name}__model", "")
        provider = pipeline().providers.of(str(client.base_url), type(client).__name__, "openai")
        asked = model if isinstance(model, str) else ""
        listener = Listener(conversation(asked), provider, partial(self.switch.is_on, http))
        tap(getattr(connection, "_connection", connection), listener)


def _opening(method: Method, opened: Callable[..., None]) -> Method:
    def opening(manager: Any, *args: Any, **kwargs: Any) -> Any:
        connection = method(manager, *args, **kwargs)
        listen(opened, manager, connection)
        return connection

    return opening


def _aopening(method: Method, opened: Callable[..., None]) -> Method:
    async def opening(manager: Any, *args: Any, **kwargs: Any) -> Any:
        connection = await method(manager, *args, **kwargs)
        listen(opened, manager, connection)
        return connection

    return opening
