"""Which clients are metered: those named, or all of them."""

from __future__ import annotations

from typing import Any, Final

_MARK: Final = "_llm_exporter_metered"


class Switch:
    """One for each SDK."""

    def __init__(self) -> None:
        self.everything = False

    def turn(self, owner: object, *, on: bool) -> None:
        """Meter, or no longer meter, what goes through one object, whatever is said of everything."""
        setattr(owner, _MARK, on)

    def is_on(self, owner: Any) -> bool:
        """Whether what goes through an object is metered."""
        mark: bool | None = vars(owner).get(_MARK)
        return self.everything if mark is None else mark
