"""Which clients of one SDK are metered: those that were named, or all of them."""

from __future__ import annotations

from typing import Any, Final
from weakref import WeakValueDictionary

from .. import environment
from ..errors import ConfigError

_METERED: Final = "_llm_exporter_metered"
_ASK_FOR_USAGE: Final = "_llm_exporter_ask_for_usage"


class Switch:
    """Turns metering on and off, for all clients of an SDK and for single ones.

    A client is known here by its owner: the object that it shares with its copies.
    """

    def __init__(self) -> None:
        self.everything = False
        self.ask_for_usage: bool | None = None
        self._named: WeakValueDictionary[int, object] = WeakValueDictionary()
        self._has_chosen = False
        """Whether any client was named, to be metered or left out."""

    @property
    def in_use(self) -> bool:
        """Whether any client is metered."""
        return self.everything or bool(self._named)

    def set(self, owner: object, *, on: bool, ask_for_usage: bool | None = None) -> None:
        """Meter one client or leave it out, whatever holds for all the others."""
        self._has_chosen = True
        # `vars` also lays out the dictionary before threads share the client. CPython 3.11 crashes if two
        # threads do so at once: see `is_on`.
        vars(owner).update({_METERED: on, _ASK_FOR_USAGE: ask_for_usage})
        if on:
            self._named[id(owner)] = owner
        else:
            self._named.pop(id(owner), None)

    def is_on(self, owner: Any) -> bool:
        """Return whether a client is metered."""
        if not self._has_chosen:  # do not touch the dictionary of a client without need
            return self.everything
        on: bool | None = vars(owner).get(_METERED)
        return self.everything if on is None else on

    def asks_for_usage(self, owner: Any) -> bool | None:
        """Return whether to request usage for a client's streams if the caller does not.

        Returns:
            None for the default: from services that are known to accept it.
        """
        if not self._has_chosen:
            return self.ask_for_usage
        asks: bool | None = vars(owner).get(_ASK_FOR_USAGE)
        return self.ask_for_usage if asks is None else asks


def asks_by_environment() -> bool | None:
    """Return what `LLM_EXPORTER_ASK_FOR_USAGE` says; None if it is not set.

    Raises:
        llm_exporter.ConfigError: if it is neither `true` nor `false`.
    """
    value = environment.ASK_FOR_USAGE.value.strip().lower()
    if value not in ("", "true", "false"):
        raise ConfigError(f"LLM_EXPORTER_ASK_FOR_USAGE must be true or false, not {value!r}")
    return value == "true" if value else None
