"""Taps: how the calls of each SDK are seen."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Mapping
from functools import partial
from importlib import import_module
from types import ModuleType
from typing import Any, Final, Protocol, TypeVar, overload

from ..client import default
from .google import GoogleTap
from .imports import Imported, ImportHook
from .openai import OpenAITap
from .stainless import StainlessTap
from .switch import Switch

Client = TypeVar("Client")

log = logging.getLogger("llm_exporter")


class Tap(Protocol):
    """The tap on one SDK."""

    switch: Switch

    @property
    def modules(self) -> Mapping[str, Imported]:
        """The modules of the SDK that the tap waits for, and what hangs it on each.

        A second time changes nothing. A release of the SDK that is built in another way is an exception.
        """

    def owners(self, client: Any) -> list[object]:
        """Return the objects that say whether a client is metered."""


_TAPS: Final[dict[str, Tap]] = {
    "openai": OpenAITap(),
    "anthropic": StainlessTap("anthropic"),
    "google.genai": GoogleTap(),
}
"""The tap of each SDK, by the name of its package."""

_hook: Final = ImportHook()


@overload
def instrument(client: Client, *, ask_for_usage: bool = True) -> Client: ...
@overload
def instrument(client: None = None, *, ask_for_usage: bool = True) -> None: ...
def instrument(client: Client | None = None, *, ask_for_usage: bool = True) -> Client | None:
    """Meter a client, or every client of the three SDKs in this process, made before or after.

    No SDK is imported for it: one that is imported later is metered from then on. Copies of a client
    (`with_options` …) are metered with it. A second time changes nothing, and a client that is metered by
    itself and with all others is metered once. A release of an SDK that is built in a way that is not known
    stays unmetered, with a warning in the log. With `LLM_EXPORTER_URL` set, the calls are also sent to the
    exporter service there.

    Args:
        client: an `OpenAI`, `Anthropic` or `genai.Client`, of any variant, sync or async; None for all.
        ask_for_usage: set `stream_options.include_usage` on OpenAI chat streams where the caller does not,
            and keep the chunk that answers it from the caller.

    Returns:
        The same client.

    Raises:
        TypeError: for an object that is no client of theirs.
        llm_exporter.ConfigError: when `LLM_EXPORTER_URL` is no URL of a service.
    """
    if url := os.environ.get("LLM_EXPORTER_URL"):
        default.ship_to(url)
    if client is None:
        for sdk, tap in _TAPS.items():
            tap.switch.everything = True
            tap.switch.asks_for_usage = ask_for_usage
            _hang(sdk)
        return None
    sdk = _sdk_of(client)
    tap = _TAPS[sdk]
    if _hang(sdk):
        for owner in tap.owners(client):
            tap.switch.turn(owner, on=True, ask_for_usage=ask_for_usage)
    return client


@overload
def uninstrument(client: Client) -> Client: ...
@overload
def uninstrument(client: None = None) -> None: ...
def uninstrument(client: Client | None = None) -> Client | None:
    """Stop metering a client, or all those that were metered only by `instrument()`.

    Args:
        client: a client, whether it was metered or not; None for all.

    Returns:
        The same client.

    Raises:
        TypeError: for an object that is no client of the three SDKs.
    """
    if client is None:
        for tap in _TAPS.values():
            tap.switch.everything = False
            if not tap.switch.named:
                _hook.forget(tap.modules)
        return None
    tap = _TAPS[_sdk_of(client)]
    for owner in tap.owners(client):
        tap.switch.turn(owner, on=False)
    return client


def _hang(sdk: str) -> bool:
    """Hang the tap on what is imported of an SDK, and on the rest when it is.

    Returns:
        Whether it hangs on all that is imported.
    """
    hangs = True
    for name, install in _TAPS[sdk].modules.items():
        _hook.expect(name, partial(_install, sdk, install))
        if sys.modules.get(name) is not None:
            hangs &= _install_on_imported(sdk, name, install)
    return hangs


def _install_on_imported(sdk: str, name: str, install: Imported) -> bool:
    try:
        module = import_module(name)  # waits for another thread that is about to import it
    except Exception:
        return False  # which is for that thread to say
    return _install(sdk, install, module)


def _install(sdk: str, install: Imported, module: ModuleType) -> bool:
    try:
        install(module)
    except Exception as error:
        log.warning(
            "%s %s is built in a way that is not known: its calls are not metered, or not all",
            sdk,
            getattr(sys.modules.get(sdk), "__version__", "(no version)"),
            exc_info=error,
        )
        return False
    return True


def _sdk_of(client: object) -> str:
    modules = {cls.__module__ for cls in type(client).__mro__}
    for sdk in _TAPS:
        if any(module == sdk or module.startswith(f"{sdk}.") for module in modules):
            return sdk
    raise TypeError(f"not a client of openai, anthropic or google-genai: {type(client).__name__}")
