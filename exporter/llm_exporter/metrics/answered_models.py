"""Remembers which model answers to a requested name, to count failed calls with successful ones."""

from __future__ import annotations

from typing import Final

from ..call import Call

_REMEMBERED: Final = 1000
"""The maximum number of requested names: they come from outside."""


class AnsweredModels:
    """The model that last answered to each requested name of a provider. Not thread-safe.

    A response names the exact model (`gpt-4o-mini-2024-07-18`), while a failed call has only the requested
    name (`gpt-4o-mini`). Counted under both names, one model would never fail and the other always.

    Args:
        remembered: the maximum number of requested names; beyond it, the oldest is forgotten.
    """

    def __init__(self, remembered: int = _REMEMBERED) -> None:
        self._remembered = remembered
        self._models: dict[tuple[str, str], str] = {}

    def learn(self, call: Call) -> None:
        """Remember the model of a finished call, if it was answered and its response was read."""
        requested = (call.provider, call.requested_model)
        unread = call.error or call.route or not call.requested_model
        if unread or self._models.get(requested) == call.model:
            return
        if requested not in self._models and len(self._models) >= self._remembered:
            del self._models[next(iter(self._models))]
        self._models[requested] = call.model

    def of(self, call: Call) -> str:
        """Return the model to count a finished call under: the one that answered, else the expected one."""
        if call.model != call.requested_model or not call.error:
            return call.model
        return self.expected(call)

    def expected(self, call: Call) -> str:
        """Return the model that will probably answer: the last one that did, else the requested one."""
        return self._models.get((call.provider, call.requested_model), call.requested_model)
