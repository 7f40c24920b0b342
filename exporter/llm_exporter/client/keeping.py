"""`Keeper` writes calls to files in a directory, where `llm-exporter run` finds them."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import msgspec

from ..call import Call
from ..log import log
from ..metrics.collector import Metrics
from ..metrics.specs import DROPPED
from ..threads import Thread
from .closing import Closing
from .outbox import Line, Outbox
from .spool import Spool

_FILE_SECONDS: Final = 1.0
"""How long a file takes calls before it is left to the reader and the next one is begun."""
_IDLE_SECONDS: Final = 3600.0

_encode: Final = msgspec.json.Encoder().encode


class Keeper:
    """Keeps calls on disk for a process that reads them there. It needs no service.

    Args:
        directory: where the files are.
        metrics: counts what is dropped.
    """

    def __init__(self, directory: Path, metrics: Metrics) -> None:
        self._metrics = metrics
        self._spool = Spool(directory)
        self._outbox = Outbox(self._spool, self._drop, self._failed)
        self._closing = Closing()
        self._thread = Thread(self._run, "llm-exporter-keeper", self._failed)
        self._thread.start()

    def add(self, call: Call) -> None:
        """Add a finished call, and return at once. It will be on disk soon."""
        self._outbox.add(Line(call.id, _encode(call)))

    def flush(self, deadline: float) -> bool:
        """Wait until everything added so far is on disk.

        Args:
            deadline: by the monotonic clock.

        Returns:
            Whether it is.
        """
        return self._outbox.wait_for_disk(self._outbox.added, deadline - time.monotonic())

    def end(self, deadline: float) -> None:
        """Begin to close.

        Args:
            deadline: when everything should be on disk, by the monotonic clock.
        """
        self._closing.request(deadline)
        self._outbox.end()

    def join(self) -> None:
        """Wait after `end` until everything is on disk, or for the deadline."""
        if not self._thread.join(self._closing.seconds_left):
            self._outbox.give_up()

    def after_fork(self) -> None:
        """Let go of the parent's files in a forked process."""
        self._spool.after_fork()

    def _run(self) -> None:
        while not self._closing.is_requested:
            if self._outbox.wait(_IDLE_SECONDS):
                self._closing.wait(_FILE_SECONDS)
                self._leave_file()
        self._outbox.join(self._closing.seconds_left)
        self._outbox.close()

    def _leave_file(self) -> None:
        if (parcel := self._outbox.take()) is not None:
            self._outbox.leave(parcel)
            self._outbox.gone()  # forget the calls of files that have been read

    def _drop(self, ids: Sequence[str]) -> None:
        self._metrics.count(DROPPED, len(ids), "memory")

    def _failed(self, error: BaseException) -> None:
        self._metrics.count_error("keeping")
        log.error("llm-exporter could not keep calls", exc_info=error)
