"""Reload the configuration file: on SIGHUP, on `POST /-/reload` and when the file changes."""

from __future__ import annotations

import asyncio
import signal
import threading
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Final

from ..config.model import Config
from ..errors import ConfigError
from ..log import log
from ..metrics.collector import Metrics
from .ledger.base import LedgerError
from .repeating import repeat

_POLL_SECONDS: Final = 2.0


class Reloading:
    """Reloads the configuration. If that fails, the old configuration stays in effect.

    Args:
        metrics: Say whether the last reload was successful.
        reconfigure: Applies a configuration, or raises `ConfigError` or `LedgerError` and changes nothing.
        file: The configuration file; None if there is none.
        load: Returns the current configuration, or raises `ConfigError`.
    """

    def __init__(
        self,
        metrics: Metrics,
        reconfigure: Callable[[Config], object],
        file: Path | None,
        load: Callable[[], Config],
    ) -> None:
        self._metrics = metrics
        self._reconfigure = reconfigure
        self._file = file
        self._load = load
        self._loaded = self._fingerprint()
        self._lock = threading.Lock()
        metrics.set_reloaded(time.time())

    def reload(self) -> None:
        """Load the file and apply it.

        Raises:
            ConfigError: The file is invalid, or a setting changed that requires a restart.
            LedgerError: The ledger is unavailable.
        """
        with self._lock:
            self._loaded = self._fingerprint()
            try:
                self._reconfigure(self._load())
            except (ConfigError, LedgerError) as error:
                self._metrics.set_reloaded(None)
                # The cause is the file, so a traceback would not help.
                log.error("llm-exporter: configuration not reloaded: %s", error)
                raise
            self._metrics.set_reloaded(time.time())
            log.info("llm-exporter: reloaded %s", self._file)

    @asynccontextmanager
    async def watching(self) -> AsyncIterator[None]:
        """Reload on SIGHUP and when the file changes."""
        if self._file is None:
            yield
            return
        requested = asyncio.Event()
        loop = asyncio.get_running_loop()
        with suppress(
            ValueError, RuntimeError, NotImplementedError, AttributeError
        ):  # not in the main thread, or on Windows
            loop.add_signal_handler(signal.SIGHUP, requested.set)
        task = asyncio.create_task(repeat("reloading", partial(self._watch, requested), self._metrics))
        try:
            yield
        finally:
            task.cancel()

    async def _watch(self, requested: asyncio.Event) -> None:
        with suppress(TimeoutError):
            await asyncio.wait_for(requested.wait(), _POLL_SECONDS)
        if requested.is_set() or await asyncio.to_thread(self._fingerprint) != self._loaded:
            requested.clear()
            with suppress(ConfigError, LedgerError):  # `reload` logs them
                await asyncio.to_thread(self.reload)

    def _fingerprint(self) -> tuple[int, int, int] | None:
        """Return values that change when the file is edited or replaced; None if there is no file."""
        if self._file is None:
            return None
        try:
            status = self._file.stat()
        except OSError:
            return None
        return status.st_mtime_ns, status.st_size, status.st_ino
