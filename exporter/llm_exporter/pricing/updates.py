"""How current the price table is: the one of `genai-prices`, or newer ones where they are asked for."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import genai_prices.data
from genai_prices import UpdatePrices, data_snapshot

from ..config.model import Prices

_INSTALLED: Final = Path(genai_prices.data.__file__ or "").stat().st_mtime


def table_timestamp() -> float:
    """Return when the price table in use was fetched, or installed, in seconds since the epoch."""
    snapshot = data_snapshot.get_snapshot()
    return snapshot.timestamp.timestamp() if snapshot.from_auto_update else _INSTALLED


class PriceUpdates:
    """Fetches newer price tables every hour, while they are asked for.

    A fetch that fails changes nothing: the table in use just gets older, which its metric shows.
    """

    def __init__(self) -> None:
        self._running: UpdatePrices | None = None

    def follow(self, config: Prices) -> None:
        """Start or stop as configured."""
        self.stop()
        if config.update:
            self._running = UpdatePrices(url=config.update_url) if config.update_url else UpdatePrices()
            self._running.start()

    def stop(self) -> None:
        """Fetch no more; what was fetched stays in use."""
        if self._running is not None:
            self._running.stop()  # type: ignore[no-untyped-call]
            self._running = None
