"""Work that callers wait for only so long, because the ledger may hang."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Generic, TypeVar

T = TypeVar("T")


class Background(Generic[T]):
    """Runs a function on a thread of its own, one run at a time.

    Args:
        name: The name of the thread.
        function: May take long.
    """

    def __init__(self, name: str, function: Callable[[], T]) -> None:
        self._name = f"llm-exporter-{name}"
        self._function = function
        self._lock = threading.Lock()
        self._run: Future[T] | None = None

    def run(self) -> Future[T]:
        """Return the run in progress, or start one."""
        with self._lock:
            if self._run is None or self._run.done():
                self._run = Future()
                threading.Thread(target=self._work, args=(self._run,), name=self._name, daemon=True).start()
            return self._run

    def _work(self, run: Future[T]) -> None:
        run.set_running_or_notify_cancel()
        try:
            result = self._function()
        except BaseException as error:
            run.set_exception(error)
        else:
            run.set_result(result)
