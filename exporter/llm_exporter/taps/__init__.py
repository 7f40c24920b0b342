"""Taps: how the calls of each SDK are seen."""

from __future__ import annotations

import logging
import os
import sys
from importlib import import_module
from typing import Any, Final, Protocol, TypeVar, overload

from .. import exporter as exporters
from .google import GoogleTap
from .openai import OpenAITap
from .stainless import StainlessTap
from .switch import Switch

Client = TypeVar("Client")

log = logging.getLogger("llm_exporter")


class Tap(Protocol):
    """The tap on one SDK."""

    switch: Switch

    def install(self, module: Any, /) -> None:
        """Hang the tap on the SDK's classes; a second time changes nothing.

        Raises:
            AttributeError: for a release of the SDK that is built in another way.
        """

    def owners(self, client: Any) -> list[object]:
        """Return the objects that say whether a client is metered."""


_TAPS: Final[dict[str, tuple[Tap, str]]] = {
    "openai": (OpenAITap(), "openai._base_client"),
    "anthropic": (StainlessTap("anthropic"), "anthropic._base_client"),
    "google.genai": (GoogleTap(), "google.genai._api_client"),
}
"""The tap of each SDK, and the module it hangs on."""


@overload
def instrument(client: Client, *, ask_for_usage: bool = True) -> Client: ...
@overload
def instrument(client: None = None, *, ask_for_usage: bool = True) -> None: ...
def instrument(client: Client | None = None, *, ask_for_usage: bool = True) -> Client | None:
    """Meter a client, or every client of the installed SDKs in this process, made before or after.

    Copies of a client (`with_options` …) are metered with it. A second time changes nothing, and a client
    that is metered by itself and with all others is metered once. A release of an SDK that is built in a way
    that is not known stays unmetered, with a warning in the log. With `LLM_EXPORTER_URL` set, the calls are
    also sent to the exporter service there.

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
        exporters.default.ship_to(url)
    if client is None:
        for sdk, (tap, _) in _TAPS.items():
            tap.switch.everything = True
            tap.switch.asks_for_usage = ask_for_usage
            _install(sdk)
        return None
    sdk = _sdk_of(client)
    tap, _ = _TAPS[sdk]
    if _install(sdk):
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
        for tap, _ in _TAPS.values():
            tap.switch.everything = False
        return None
    tap, _ = _TAPS[_sdk_of(client)]
    for owner in tap.owners(client):
        tap.switch.turn(owner, on=False)
    return client


def _install(sdk: str) -> bool:
    """Hang the tap on an SDK, and return whether all of it hangs."""
    tap, module = _TAPS[sdk]
    try:
        tap.install(import_module(module))
    except Exception as error:
        if (package := sys.modules.get(sdk)) is not None:  # else it is not installed, or nobody can import it
            log.warning(
                "%s %s is built in a way that is not known: its calls are not metered, or not all",
                sdk,
                getattr(package, "__version__", "(no version)"),
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
