"""Prunes the ledger and completes upgrades in the background, so that nothing waits for it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Final

from .ledger.base import Ledger

_EVERY_SECONDS: Final = 60.0


class Upkeep:
    """Deletes calls that are older than the retention, a few at a time, on a thread of its own.

    Args:
        ledger: Is pruned once a minute.
        retention: Returns how long calls are kept, in seconds.
        report: Is told of errors.
    """

    def __init__(
        self, ledger: Ledger, retention: Callable[[], float], report: Callable[[str, BaseException], object]
    ) -> None:
        self._ledger = ledger
        self._retention = retention
        self._report = report
        self._wanted = threading.Event()
        self._stopping = False
        self._thread = threading.Thread(target=self._work, name="llm-exporter-upkeep", daemon=True)
        self._thread.start()

    def soon(self) -> None:
        """Prune now, for example because the retention has changed."""
        self._wanted.set()

    def close(self) -> None:
        """Stop after the current slice."""
        self._stopping = True
        self._wanted.set()
        self._thread.join()

    def _work(self) -> None:
        while not self._stopping:
            self._wanted.wait(_EVERY_SECONDS)
            self._wanted.clear()
            try:
                self._exhaust(self._prune)
                self._exhaust(self._ledger.catch_up)
            except BaseException as error:  # whatever it is, it must not end the thread
                if not self._stopping:
                    self._report("prune", error)

    def _prune(self) -> int:
        return self._ledger.prune(time.time() - self._retention())

    def _exhaust(self, work: Callable[[], int]) -> None:
        began = time.monotonic()
        while not self._stopping and work():
            # Let the calls that arrive have half of the time.
            time.sleep(time.monotonic() - began)
            began = time.monotonic()
