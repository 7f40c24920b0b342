"""`Outbox`: calls on their way to the service, written to disk as they arrive and before they are sent.

A thread of its own writes them, so that neither a service nor a disk that hangs holds up the other one, or
the worker. What is written together is sent together, as a `Parcel`: the calls in one file. Meanwhile the
next calls go into another file. If the disk fails, calls stay in memory.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final, NamedTuple

from ..log import log
from ..threads import Condition, Event, Thread
from .spool import Spool
from .spool_file import SpoolFile

BATCH_CALLS: Final = 1000
_MAX_IN_MEMORY: Final = 20_000
"""The most calls kept in memory when the disk cannot take them."""
_MAX_REMEMBERED: Final = 2 * BATCH_CALLS
"""The most calls in a file that are also kept in memory. If there are more, the file is read instead."""
_RETRY_SECONDS: Final = 1.0
"""How often to try again to write when the disk has failed."""
_IDLE_SECONDS: Final = 3600.0


class Line(NamedTuple):
    """A call as JSON."""

    id: str
    json: bytes


class Parcel:
    """Calls that are acknowledged together: those in a file, or some that are only in memory."""

    def __init__(self, lines: Iterable[Line] = ()) -> None:
        self.file: SpoolFile | None = None
        self.lines = list(lines)
        """The calls; none if they are too many to be remembered."""
        self.ids = [line.id for line in self.lines]

    def add(self, lines: Sequence[Line]) -> None:
        """Add calls that are in the file."""
        is_whole = len(self.lines) == len(self.ids)
        self.ids += [line.id for line in lines]
        if is_whole and len(self.ids) <= _MAX_REMEMBERED:
            self.lines += lines
        else:
            self.lines.clear()


class Outbox:
    """Takes calls from one thread, and hands them to another one.

    Args:
        spool: where the files are.
        dropped: called with the ids of calls that are dropped since neither memory nor disk can take them.
        failed: called with each unexpected exception of the thread that writes. The thread goes on.
    """

    def __init__(
        self,
        spool: Spool,
        dropped: Callable[[Sequence[str]], object],
        failed: Callable[[BaseException], object],
    ) -> None:
        self._spool = spool
        self._dropped = dropped
        self._changed = Condition()
        self.added = 0
        """The number of calls added so far. They leave in this order: sent, left in the spool, or dropped."""
        self._arrived: deque[Line] = deque()
        """Calls that are only in memory."""
        self._arrival = Event()
        self._writing: list[Line] = []
        """The calls that the thread is writing just now."""
        self._filling = Parcel()
        self._sending: Parcel | None = None
        self._spares: list[SpoolFile] = []
        """Empty files for the next parcels: two, if calls arrive while others are sent."""
        self._left: dict[Path, list[str]] = {}
        """The ids of the calls in files that were left in the spool."""
        self._disk_fails = False
        self._ends = Event()
        self._thread = Thread(self._write, "llm-exporter-spool", failed)
        self._thread.start()

    def add(self, line: Line) -> None:
        """Add a call, and return at once."""
        with self._changed:
            self.added += 1
            self._arrived.append(line)
            excess = self._excess()
            if self._disk_fails:
                self._changed.notify()
        self._arrival.set()
        self._drop(excess)

    def wait(self, timeout: float) -> bool:
        """Wait until there is a parcel to send, or no more call will be added.

        Args:
            timeout: seconds to wait at most.

        Returns:
            Whether there is a parcel to send.
        """
        with self._changed:
            self._changed.wait_for(lambda: self._has_parcel or self._ends.is_set(), timeout)
            return self._has_parcel

    def wait_for_disk(self, number: int, timeout: float) -> bool:
        """Wait until the first calls that were added are on disk, or the disk fails.

        Args:
            number: how many.
            timeout: seconds to wait at most.

        Returns:
            Whether none of them is only in memory.
        """

        def is_written() -> bool:
            return self.added - len(self._arrived) - len(self._writing) >= number

        with self._changed:
            self._changed.wait_for(lambda: is_written() or self._disk_fails, timeout)
            return is_written()

    def has_sent(self, number: int) -> bool:
        """Return whether the first calls that were added are gone, and nothing is left in the spool."""
        with self._changed:
            sending = self._sending.ids if self._sending is not None else ()
            here = sum(map(len, (self._arrived, self._writing, self._filling.ids, sending)))
            return self.added - here >= number and not self._left

    @property
    def has_batch(self) -> bool:
        """Whether there is no need to wait for more calls."""
        return len(self._filling.ids) >= BATCH_CALLS

    @property
    def _has_parcel(self) -> bool:
        return not self._writing and bool(self._filling.ids or (self._disk_fails and self._arrived))

    def take(self) -> Parcel | None:
        """Return calls to send; None if there are none. Either `done` or `leave` follows."""
        with self._changed:
            if not self._has_parcel:
                return None
            if self._filling.ids:
                parcel, self._filling = self._filling, Parcel()
            else:
                number = min(len(self._arrived), BATCH_CALLS)
                parcel = Parcel(self._arrived.popleft() for _ in range(number))
            self._sending = parcel
        return parcel

    def done(self, parcel: Parcel) -> None:
        """Forget the calls of a parcel, which are acknowledged.

        Raises:
            OSError: if the disk fails. Then `leave` it: its calls are sent again, and recognized.
        """
        if parcel.file is not None:
            parcel.file.empty()
            self._spares.append(parcel.file)
        self._sending = None

    def leave(self, parcel: Parcel) -> None:
        """Leave a parcel that was not acknowledged in the spool, for whoever looks there next."""
        with self._changed:
            self._sending = None
            if parcel.file is None:
                self._arrived.extendleft(reversed(parcel.lines))
            excess = self._excess()
        if parcel.file is not None:
            self._left[parcel.file.path] = parcel.ids
            parcel.file.close()
        self._drop(excess)

    def gone(self) -> list[str]:
        """Return the ids of calls that were left in the spool and are there no more: somebody sent them."""
        gone = [path for path in self._left if not path.exists()]
        return [call_id for path in gone for call_id in self._left.pop(path)]

    def end(self) -> None:
        """Write what has arrived, and end the thread."""
        self._ends.set()
        self._arrival.set()
        with self._changed:
            self._changed.notify()

    def join(self, timeout: float) -> bool:
        """Wait until everything is written after `end`, and return whether it is."""
        return self._thread.join(timeout)

    def close(self) -> None:
        """Leave the files to others, and drop what is in no file. The thread has ended."""
        if (file := self._filling.file) is not None:
            _leave_or_remove(file, leave=bool(self._filling.ids))
        for file in self._spares:
            _leave_or_remove(file, leave=False)
        self.give_up()

    def give_up(self) -> None:
        """Drop what is in no file."""
        with self._changed:
            in_memory = [*self._arrived, *self._writing]
            self._arrived.clear()
            if self._sending is not None and self._sending.file is None:
                in_memory += self._sending.lines
        self._drop(in_memory)

    def _excess(self) -> list[Line]:
        """Take what is too much for memory. The lock must be held."""
        number = max(len(self._arrived) - _MAX_IN_MEMORY, 0)
        return [self._arrived.popleft() for _ in range(number)]

    def _drop(self, lines: Sequence[Line]) -> None:
        if lines:
            self._dropped([line.id for line in lines])

    def _write(self) -> None:
        """Write calls to disk as they arrive, until the end."""
        is_last = False
        while not is_last:
            if self._disk_fails:
                self._ends.wait(_RETRY_SECONDS)
            else:
                self._arrival.wait(_IDLE_SECONDS)
            is_last = self._ends.is_set()
            self._arrival.clear()
            self._write_arrived()

    def _write_arrived(self) -> None:
        with self._changed:
            self._writing += self._arrived
            self._arrived.clear()
            lines, parcel = self._writing, self._filling
            if lines and parcel.file is None and self._spares:
                parcel.file = self._spares.pop()
        if not lines:
            return
        try:
            if parcel.file is None or (not parcel.ids and not parcel.file.exists):
                parcel.file = self._spool.new_file()
            parcel.file.append(line.json for line in lines)
        except OSError as error:
            self._keep(error)
        else:
            with self._changed:
                self._writing = []
                self._disk_fails = False
                parcel.add(lines)
                self._changed.notify()

    def _keep(self, error: OSError) -> None:
        """Keep the calls in memory that could not be written."""
        if not self._disk_fails:
            log.warning("llm-exporter: cannot keep calls on disk: %s", error)
        with self._changed:
            self._disk_fails = True
            self._arrived.extendleft(reversed(self._writing))
            self._writing = []
            excess = self._excess()
            self._changed.notify()
        self._drop(excess)


def _leave_or_remove(file: SpoolFile, *, leave: bool) -> None:
    if not leave:
        with suppress(OSError):  # whoever finds it removes it
            file.remove()
    file.close()
