"""Runs the long tasks of the service in the background, a part at a time, so that nothing waits for them."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from typing import Final

_EVERY_SECONDS: Final = 60.0


class Upkeep:
    """Runs tasks once a minute, in turn, on a thread of its own.

    Args:
        tasks: By name. Each does a part of its work, and returns whether more is left.
        report: Is told of errors.
    """

    def __init__(
        self, tasks: Mapping[str, Callable[[], object]], report: Callable[[str, BaseException], object]
    ) -> None:
        self._tasks = tasks
        self._report = report
        self._wanted = threading.Event()
        self._stopping = False
        self._thread = threading.Thread(target=self._work, name="llm-exporter-upkeep", daemon=True)
        self._thread.start()

    def soon(self) -> None:
        """Run the tasks now, for example because the configuration has changed."""
        self._wanted.set()

    def close(self) -> None:
        """Stop after the current part."""
        self._stopping = True
        self._wanted.set()
        self._thread.join()

    def _work(self) -> None:
        unfinished: list[str] = []
        while not self._stopping:
            if not unfinished:
                self._wanted.wait(_EVERY_SECONDS)
            if not unfinished or self._wanted.is_set():
                self._wanted.clear()
                unfinished = list(self._tasks)
            unfinished = [name for name in unfinished if not self._stopping and self._more(name)]

    def _more(self, name: str) -> bool:
        began = time.monotonic()
        try:
            more = self._tasks[name]()
        except BaseException as error:  # whatever it is, it must not end the thread
            if not self._stopping:
                self._report(name, error)
            return False
        if more:
            # Let the calls that arrive have half of the time.
            time.sleep(time.monotonic() - began)
        return bool(more)
