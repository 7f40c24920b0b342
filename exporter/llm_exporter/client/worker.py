"""`Worker`: one thread that runs what other threads hand to it, in order."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Final

from ..threads import Empty, Event, Lock, SimpleQueue, Thread

Action = Callable[[], object]

_GATHER_SECONDS: Final = 0.025
"""How long actions gather after others have run. The first action after a pause runs at once.

Waking the thread costs more than an action does: other threads lose the processor and its caches to it. But
what gathers is lost if the process is killed, so this is part of the time that docs/shipping.md states.
"""


class Worker:
    """Runs actions one at a time, on a daemon thread that the first action starts.

    A call may end anywhere, even inside a garbage collection that interrupts a thread holding a lock. So
    `put` only appends to a deque and puts into a `SimpleQueue`, which are re-entrant. It never blocks or
    raises.

    Args:
        started: called on the thread that starts the worker's thread, right afterwards.
        failed: called on the worker's thread with each exception of an action, also with `SystemExit` and
            its like. The thread goes on.
    """

    def __init__(self, started: Callable[[], object], failed: Callable[[BaseException], object]) -> None:
        self._started = started
        self._failed = failed
        self.reset()

    def reset(self) -> None:
        """Start over, as in a forked process: drop the thread and the actions that wait for it."""
        self._actions: deque[Action | None] = deque()
        self._wake: SimpleQueue[None] = SimpleQueue()
        self._asleep = False
        """Whether the thread waits to be woken. Only the thread writes this."""
        self._thread: Thread | None = None
        self._starting = Lock()

    @property
    def is_current(self) -> bool:
        """Whether the code that asks runs on the worker's thread."""
        return self._thread is not None and self._thread.is_current

    def put_later(self, action: Action) -> None:
        """Run an action before the next one that is `put`; start and wake nothing for it."""
        self._actions.append(action)

    def put(self, action: Action) -> None:
        """Run an action soon: at once, or together with those of the next milliseconds if others just ran."""
        self._actions.append(action)
        if self._asleep:
            self._wake.put(None)
        # Do not wait for the lock: its holder is starting the thread, and may even be this very thread.
        if self._thread is None and self._starting.acquire(blocking=False):
            try:
                if self._thread is None:
                    self._start()
            finally:
                self._starting.release()

    def _start(self) -> None:
        self._thread = Thread(self._run, "llm-exporter", self._failed)
        try:
            self._thread.start()
            self._started()
        except RuntimeError:
            self._thread = None  # no thread can be started, as at interpreter exit

    def hurry(self) -> Event:
        """Have every action put so far run at once, and return an event that is set afterwards.

        On the worker's own thread it is set already, because nothing can run there meanwhile.
        """
        done = Event()
        if self.is_current:
            done.set()
        else:
            self.put(done.set)
            self._wake.put(None)
        return done

    def flush(self, timeout: float) -> bool:
        """Have every action put so far run at once, and wait for it.

        Args:
            timeout: seconds to wait at most.

        Returns:
            False if the time ran out. On the worker's own thread, which cannot wait for itself, True at once.
        """
        return self.hurry().wait(timeout)

    def close(self, timeout: float) -> bool:
        """Run what was put, then end the thread. A later `put` starts another one.

        Args:
            timeout: seconds to wait at most.

        Returns:
            False if the time ran out.
        """
        if self._thread is None:
            return True
        self._actions.append(None)
        self._wake.put(None)
        is_over = self._thread.join(timeout)
        self._thread = None
        return is_over

    def _run(self) -> None:
        while self._run_actions():
            try:
                self._wake.get(timeout=_GATHER_SECONDS)
            except Empty:
                self._asleep = True
                if not self._actions:  # else one was put before `_asleep` was seen
                    self._wake.get()
                self._asleep = False

    def _run_actions(self) -> bool:
        """Run the actions that wait, and return whether the thread is to go on."""
        while self._actions:
            action = self._actions.popleft()
            if action is None:
                return False
            try:
                action()
            except BaseException as error:  # the thread is ours: no one else is meant to get it
                self._failed(error)
        return True
