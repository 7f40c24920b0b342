"""Following the configuration file: on SIGHUP, on `POST /-/reload` and when it changes, by one path."""

from __future__ import annotations

import asyncio
import logging
import signal
import threading
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Final

from ..config.model import Config
from ..errors import ConfigError
from .intake import Intake
from .ledger.base import LedgerError

log = logging.getLogger("llm_exporter")

_LOOK_SECONDS: Final = 2.0


class Reloading:
    """Has the intake follow a file. A mistake in it is told of, and what was configured before goes on.

    Args:
        intake: follows it.
        file: the configuration; None when there is none.
        load: returns what is in it now, and raises `ConfigError`.
    """

    def __init__(self, intake: Intake, file: Path | None, load: Callable[[], Config]) -> None:
        self._intake = intake
        self._file = file
        self._load = load
        self._seen = self._stamp()
        self._one_at_a_time = threading.Lock()
        intake.metrics.set_reloaded(time.time())

    def reload(self) -> None:
        """Follow the file as it is now.

        Raises:
            ConfigError: for a mistake in it, or what cannot change at runtime; all stays as it was.
            LedgerError: when the ledger cannot be used.
        """
        with self._one_at_a_time:
            self._seen = self._stamp()
            try:
                self._intake.follow(self._load())
            except (ConfigError, LedgerError) as error:
                self._intake.metrics.set_reloaded(None)
                log.error("llm-exporter: the configuration stays as it was: %s", error)  # noqa: TRY400 - a user's
                raise
            self._intake.metrics.set_reloaded(time.time())
            log.info("llm-exporter: %s is followed", self._file)

    @asynccontextmanager
    async def watching(self) -> AsyncIterator[None]:
        """Follow the file on SIGHUP and when it changes."""
        if self._file is None:
            yield
            return
        changed = asyncio.Event()
        loop = asyncio.get_running_loop()
        with suppress(
            ValueError, RuntimeError, NotImplementedError, AttributeError
        ):  # not in the main thread
            loop.add_signal_handler(signal.SIGHUP, changed.set)
        task = asyncio.create_task(self._watch(changed))
        try:
            yield
        finally:
            task.cancel()

    async def _watch(self, asked: asyncio.Event) -> None:
        while True:
            with suppress(TimeoutError):
                await asyncio.wait_for(asked.wait(), _LOOK_SECONDS)
            if asked.is_set() or await asyncio.to_thread(self._stamp) != self._seen:
                asked.clear()
                with suppress(ConfigError, LedgerError):  # which the log says
                    await asyncio.to_thread(self.reload)

    def _stamp(self) -> tuple[int, int, int] | None:
        """Return what changes with the file, also when another one takes its place."""
        if self._file is None:
            return None
        try:
            status = self._file.stat()
        except OSError:
            return None
        return status.st_mtime_ns, status.st_size, status.st_ino
