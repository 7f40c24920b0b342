"""The age of the price table, and fetching newer ones."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..config.model import Prices
from ..forking import late_import

if TYPE_CHECKING:
    from .genai import Updater


def table_timestamp() -> float:
    """Return when the current price table was fetched or installed, as a Unix timestamp in seconds."""
    with late_import:
        from . import genai  # noqa: PLC0415  # takes 0.1 s

    return genai.table_timestamp()


class PriceUpdates:
    """Fetches newer price tables every hour, if configured.

    A failed fetch changes nothing: the current table only gets older, which its metric shows.
    """

    def __init__(self) -> None:
        self._updater: Updater | None = None

    def configure(self, config: Prices) -> None:
        """Start or stop fetching, as configured."""
        self.stop()
        if config.update:
            with late_import:
                from . import genai  # noqa: PLC0415  # takes 0.1 s

            self._updater = genai.start_updates(config.update_url)

    def stop(self) -> None:
        """Stop fetching. The last fetched table stays in use."""
        if self._updater is not None:
            self._updater.stop()
            self._updater = None
