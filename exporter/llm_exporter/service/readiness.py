"""Whether calls could be stored now."""

from __future__ import annotations

import asyncio
import time
from typing import Final

from .background import Background
from .ledger.base import Ledger, LedgerError

_FRESH_SECONDS: Final = 2.0
"""How long a success is believed. A check writes to the disk, and anybody may ask."""
_WAIT_SECONDS: Final = 0.15
_PATIENCE_SECONDS: Final = 5.0
"""A check may take this long, for example behind a large transaction."""


class Readiness:
    """Checks the ledger, but never waits for it long.

    Args:
        ledger: Is checked on a separate thread. It has just been opened.
    """

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._succeeded = time.monotonic()
        self._checking = Background("readiness", self._check)

    def _check(self) -> None:
        if time.monotonic() - self._succeeded > _FRESH_SECONDS:
            self._ledger.check()
            self._succeeded = time.monotonic()

    async def check(self) -> None:
        """Check the ledger.

        Raises:
            LedgerError: Calls cannot be stored, or there has been no answer for seconds.
        """
        run = asyncio.wrap_future(self._checking.run())
        try:
            await asyncio.wait_for(asyncio.shield(run), _WAIT_SECONDS)
        except TimeoutError:
            waited = time.monotonic() - self._succeeded
            if waited > _PATIENCE_SECONDS:
                raise LedgerError(f"no answer from the store, last checked {waited:.0f} s ago") from None

    def doubt(self) -> None:
        """Check again, because an operation failed."""
        self._succeeded = min(self._succeeded, time.monotonic() - _FRESH_SECONDS)
