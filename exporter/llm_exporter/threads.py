"""Threads, locks, events and queues of the operating system, whatever gevent or eventlet has replaced.

`monkey.patch_all()` replaces the functions of `_thread`, `threading` and `queue`, before this package is
imported, afterwards, or after the first call. A greenlet in the place of our thread would run on the caller's
thread, and a patched queue that a real thread waits for would block the event loop. So this module gets the
functions from a copy of the built-in module `_thread` that nobody else has, and from `_queue`, which neither
library patches.

Locks of this module do not let other greenlets run while they are waited for: hold them briefly, and do
nothing meanwhile that may switch greenlets, such as logging.
"""

from __future__ import annotations

import threading
import time
from _queue import Empty, SimpleQueue
from collections.abc import Callable
from contextlib import suppress
from importlib.machinery import BuiltinImporter
from importlib.util import module_from_spec
from types import TracebackType
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    import _thread
else:
    _spec = BuiltinImporter.find_spec("_thread")
    _thread = module_from_spec(_spec)
    _spec.loader.exec_module(_thread)

__all__ = ["Condition", "Empty", "Event", "Lock", "RLock", "SimpleQueue", "Thread", "run_once"]

Lock: Final = _thread.allocate_lock
RLock: Final = _thread.RLock

_RESTART_SECONDS: Final = 1.0
"""How long a thread rests after an error, so that one that always fails does not use up a processor."""
_POLL_SECONDS: Final = 0.002


class _Here(_thread._local):  # noqa: SLF001
    is_ours = False
    """Whether the code that asks runs on a thread of ours."""


_here: Final = _Here()


def _in_greenlets() -> bool:
    """Return whether the code that asks may run on a thread that it shares with other greenlets."""
    return not _here.is_ours and time.sleep.__module__ != "time"


class Event:
    """As `threading.Event`, but `set` never waits and is re-entrant: signal handlers may call it."""

    def __init__(self) -> None:
        self._is_set = False
        self._wake: SimpleQueue[None] = SimpleQueue()

    def is_set(self) -> bool:
        """Return whether it is set."""
        return self._is_set

    def set(self) -> None:
        """Wake all that wait."""
        if not self._is_set:
            self._is_set = True
            self._wake.put(None)

    def clear(self) -> None:
        """Have the next `wait` wait again."""
        self._is_set = False

    def wait(self, timeout: float) -> bool:
        """Wait until it is set. Greenlets that share the caller's thread go on meanwhile.

        Args:
            timeout: seconds to wait at most.

        Returns:
            Whether it is set.
        """
        ends = time.monotonic() + timeout
        while not self._is_set and (left := ends - time.monotonic()) > 0:
            if _in_greenlets():
                time.sleep(min(_POLL_SECONDS, left))
                continue
            try:
                self._wake.get(timeout=left)
            except Empty:
                break
            if self._is_set:
                self._wake.put(None)  # for the next one that waits
        return self._is_set


class Condition:
    """As `threading.Condition` with a lock that is not re-entrant, of which `notify` wakes all that wait."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._waiting: list[Event] = []

    def __enter__(self) -> None:
        self._lock.acquire()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._lock.release()

    def notify(self) -> None:
        """Have all that wait look again. The lock must be held."""
        for event in self._waiting:
            event.set()

    def wait_for(self, predicate: Callable[[], object], timeout: float) -> bool:
        """Wait until a predicate is true. The lock must be held; it is released while waiting.

        Args:
            predicate: what to wait for; called with the lock held.
            timeout: seconds to wait at most.

        Returns:
            Whether it is true.
        """
        ends = time.monotonic() + timeout
        while not predicate():
            if (left := ends - time.monotonic()) <= 0:
                return False
            event = Event()
            self._waiting.append(event)
            self._lock.release()
            try:
                event.wait(left)
            finally:
                self._lock.acquire()
                self._waiting.remove(event)
        return True


class Thread:
    """A daemon thread. An error does not end it: `target` is called again, until it returns.

    Args:
        target: runs on the thread.
        name: the thread's name, in the log and in debuggers.
        failed: called on the thread with each exception of `target`, also with `SystemExit` and its like.
    """

    def __init__(
        self, target: Callable[[], object], name: str, failed: Callable[[BaseException], object]
    ) -> None:
        self._target = target
        self._name = name
        self._failed = failed
        self._ident: int | None = None
        self._over = Event()

    def start(self) -> None:
        """Start it.

        Raises:
            RuntimeError: if no thread can be started, as at interpreter exit.
        """
        _thread.start_new_thread(self._run, ())

    @property
    def is_current(self) -> bool:
        """Whether the code that asks runs on this thread."""
        return _thread.get_ident() == self._ident

    def join(self, timeout: float) -> bool:
        """Wait until it ends, for this many seconds at most, and return whether it has."""
        return self._over.wait(timeout)

    def _run(self) -> None:
        self._ident = _thread.get_ident()
        _here.is_ours = True
        threading.current_thread().name = self._name
        while not self._ran():
            self._over.wait(_RESTART_SECONDS)
        self._ident = None
        self._over.set()

    def _ran(self) -> bool:
        try:
            self._target()
        except BaseException as error:  # the thread is ours, so nobody is meant to get it
            with suppress(BaseException):
                self._failed(error)
            return False
        return True


def run_once(function: Callable[[], object]) -> None:
    """Call a function that never raises on a daemon thread, which ends with it.

    Raises:
        RuntimeError: if no thread can be started.
    """

    def run() -> None:
        _here.is_ours = True
        function()

    _thread.start_new_thread(run, ())
