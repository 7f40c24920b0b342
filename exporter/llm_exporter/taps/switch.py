"""Which clients are metered: those named, or all of them."""

from __future__ import annotations

from typing import Any, Final

_MARK: Final = "_llm_exporter_metered"
_ASKS: Final = "_llm_exporter_asks_for_usage"


class Switch:
    """One for each SDK."""

    def __init__(self) -> None:
        self.everything = False
        self.named = False
        """Whether any client has been named."""
        self.asks_for_usage = True

    def turn(self, owner: object, *, on: bool, ask_for_usage: bool = True) -> None:
        """Meter, or no longer meter, what goes through one object, whatever is said of everything."""
        self.named |= on
        setattr(owner, _MARK, on)
        setattr(owner, _ASKS, ask_for_usage)

    def asks(self, owner: Any) -> bool:
        """Whether streams are asked for their usage where the caller does not ask."""
        mark: bool | None = vars(owner).get(_ASKS)
        return self.asks_for_usage if mark is None else mark

    def is_on(self, owner: Any) -> bool:
        """Whether what goes through an object is metered."""
        mark: bool | None = vars(owner).get(_MARK)
        return self.everything if mark is None else mark
