"""`Shipper` sends calls to an exporter service: in batches, on a separate thread, each arriving once.

What has not been acknowledged is on disk before it is sent. So nothing is lost if the process is killed or
time runs out meanwhile. A call whose acknowledgement is lost is sent again, and the service recognizes it by
its id.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Final

import msgspec

from ..call import Call
from ..log import log
from ..metrics.collector import Metrics
from ..metrics.specs import DROPPED, SHIPPED
from ..threads import Condition, Event, Thread
from .closing import Closing
from .outbox import BATCH_CALLS, Line, Outbox, Parcel
from .spool import Spool, spool_for
from .transport import NotTheService, Rejected, ServiceClient, Unavailable

_LINGER_SECONDS: Final = 0.1
"""How long to wait for more calls, so that a busy process sends few batches. They are on disk meanwhile."""
_TIMEOUT_SECONDS: Final = 10.0
_MIN_RETRY_SECONDS: Final = 0.25
_MAX_RETRY_SECONDS: Final = 30.0
_SPOOL_CHECK_SECONDS: Final = 30.0
"""How often to check the spool for calls that other processes left behind."""

_encode: Final = msgspec.json.Encoder().encode


class Shipper:
    """Ships calls. Until they are acknowledged they are on disk; if the disk fails, in memory.

    Args:
        url: the service's URL.
        metrics: counts what is shipped and dropped.
        directory: where calls are on disk; by default the spool for this service.
        shipped: called with the ids of calls that the service has acknowledged, or that are dropped.
    """

    def __init__(
        self,
        url: str,
        metrics: Metrics,
        directory: Path | None = None,
        shipped: Callable[[Iterable[str]], object] = lambda _: None,
    ) -> None:
        self._service = ServiceClient(url)
        self._shipped = shipped
        self._metrics = metrics
        self._spool = Spool(
            directory or spool_for(self._service.url.host, self._service.url.port),
            lambda number: metrics.count(DROPPED, number, "unreadable"),
        )
        self._outbox = Outbox(self._spool, lambda ids: self._drop("memory", ids), self._failed)
        self._closing = Closing()
        self._hurry = Event()
        """Ship without waiting for more calls, or for the time to try again."""
        self._progress = Condition()
        self._attempts = 0
        self._failed_attempt = 0
        """The last attempt to ship that found the service unavailable."""
        self._has_dropped = False
        self._unavailable = False
        self._said: type[Unavailable] | None = None
        """The kind of problem that was logged last."""
        self._retry_seconds = _MIN_RETRY_SECONDS
        self._check_spool_at = time.monotonic()
        self._set_aside: set[str] = set()
        """The ids of rejected calls in files that are read again, since a later call in them was not sent."""
        self._thread = Thread(self._run, "llm-exporter-shipper", self._failed)
        self._thread.start()

    def add(self, call: Call) -> None:
        """Add a finished call, and return at once. It will be on disk soon."""
        self._outbox.add(Line(call.id, _encode(call)))

    def flush(self, deadline: float) -> bool:
        """Ship what was added so far at once, even if it is not yet time to try an unavailable service again.

        Returns as soon as all of it is acknowledged, or on disk while the service is unavailable.

        Args:
            deadline: by the monotonic clock.

        Returns:
            Whether everything has reached the service: nothing is left, and nothing was dropped since the
            last flush.
        """
        number = self._outbox.added
        self._outbox.wait_for_disk(number, deadline - time.monotonic())
        with self._progress:
            begun = self._attempts
            self._hurry.set()
            self._progress.wait_for(
                lambda: self._outbox.has_sent(number) or self._failed_attempt > begun,
                deadline - time.monotonic(),
            )
        has_dropped, self._has_dropped = self._has_dropped, False
        return self._outbox.has_sent(number) and not has_dropped

    def end(self, deadline: float) -> None:
        """Begin to close: ship what was added until a deadline, and leave the rest on disk.

        Args:
            deadline: by the monotonic clock.
        """
        self._closing.request(deadline)
        self._hurry.set()
        self._outbox.end()

    def join(self) -> None:
        """Wait until everything is shipped after `end`, or for the deadline."""
        if not self._thread.join(self._closing.seconds_left):
            self._outbox.give_up()

    def after_fork(self) -> None:
        """Let go of the parent's files in a forked process."""
        self._spool.after_fork()

    def _run(self) -> None:
        while not self._wait():
            self._attempt()
        self._outbox.join(self._closing.seconds_left)
        if not self._unavailable:
            self._ship()
        self._outbox.close()
        self._service.close()

    def _failed(self, error: BaseException) -> None:
        self._metrics.count_error("shipping")
        log.error("llm-exporter could not ship calls", exc_info=error)
        self._check_spool_at = time.monotonic()  # calls may have been left there

    def _wait(self) -> bool:
        """Wait for calls and a little longer, or until it is time to try again or to check the spool.

        Returns:
            Whether the process wants to end.
        """
        seconds = max(self._check_spool_at - time.monotonic(), 0.0)
        if self._closing.is_requested:
            return True
        if self._unavailable:
            self._hurry.wait(seconds)
        elif self._outbox.wait(seconds) and not self._outbox.has_batch:
            self._hurry.wait(_LINGER_SECONDS)
        return self._closing.is_requested

    def _attempt(self) -> None:
        self._hurry.clear()  # before the attempt is counted: who sets it afterwards waits for the next one
        self._attempts += 1
        self._ship()
        with self._progress:
            if self._unavailable:
                self._failed_attempt = self._attempts
            self._progress.notify()

    def _ship(self) -> None:
        """Ship what waits. While the service is unavailable, begin with the spool, whose calls are older."""
        if self._unavailable and not self._ship_spool():
            return
        while parcel := self._outbox.take():
            if not self._ship_parcel(parcel):
                return
        self._unavailable = False  # nothing is left that could not be sent
        if time.monotonic() >= self._check_spool_at:
            self._ship_spool()

    def _ship_parcel(self, parcel: Parcel) -> bool:
        """Ship a parcel, and return whether the service is available."""
        if len(parcel.lines) < len(parcel.ids):  # they are in the file only
            self._outbox.leave(parcel)
            self._check_spool_at = time.monotonic()
            return True
        is_done = False
        try:
            if all(self._send(batch) for batch in _batches(parcel.lines)):
                self._outbox.done(parcel)
                is_done = True
                with self._progress:
                    self._progress.notify()
        finally:
            if not is_done:
                self._outbox.leave(parcel)
        return is_done

    def _ship_spool(self) -> bool:
        """Ship the calls that wait on disk, and return whether the service is available."""
        self._check_spool_at = time.monotonic() + _SPOOL_CHECK_SECONDS
        for calls in self._spool.waiting(BATCH_CALLS):
            if not self._send([Line(call.id, _encode(call)) for call in calls]):
                return False
        self._set_aside.clear()
        self._shipped(self._outbox.gone())
        return True

    def _send(self, lines: Sequence[Line]) -> bool:
        """Send calls, and return whether they are done with: acknowledged or rejected."""
        try:
            rejected = self._rejected(lines)
        except Unavailable as reason:
            self._back_off(reason)
            return False
        self._unavailable = False
        self._retry_seconds = _MIN_RETRY_SECONDS
        self._metrics.count(SHIPPED, len(lines) - len(rejected))
        if rejected:
            self._put_aside(rejected)
        self._shipped([line.id for line in lines])
        return True

    def _rejected(self, lines: Sequence[Line]) -> list[tuple[Line, Rejected]]:
        """Send calls, and return those that the service rejects, found by sending ever smaller parts.

        Raises:
            Unavailable: if the service cannot be reached. Then nothing is known of any of the calls.
        """
        try:
            self._service.send([msgspec.Raw(line.json) for line in lines], self._timeout())
        except Rejected as reason:
            if len(lines) == 1:
                return [(lines[0], reason)]
            middle = len(lines) // 2
            return self._rejected(lines[:middle]) + self._rejected(lines[middle:])
        return []

    def _timeout(self) -> float:
        return min(_TIMEOUT_SECONDS, self._closing.seconds_left)

    def _back_off(self, reason: Unavailable) -> None:
        if not self._unavailable or type(reason) is not self._said:
            self._said = type(reason)
            if isinstance(reason, NotTheService):
                log.error("llm-exporter: LLM_EXPORTER_URL seems wrong; calls wait on disk: %s", reason)
            else:
                log.warning("llm-exporter: the service is unavailable; calls wait on disk: %s", reason)
        self._unavailable = True
        # Half of the delay is random, so that many processes do not all come back at once.
        jittered = self._retry_seconds * random.uniform(0.5, 1)  # noqa: S311
        self._check_spool_at = time.monotonic() + jittered
        self._retry_seconds = min(self._retry_seconds * 2, _MAX_RETRY_SECONDS)

    def _put_aside(self, rejected: Sequence[tuple[Line, Rejected]]) -> None:
        new = [(line, reason) for line, reason in rejected if line.id not in self._set_aside]
        if not new:
            return
        lines, (reason, *_) = zip(*new, strict=True)
        try:
            path = self._spool.set_aside([line.json for line in lines])
            log.error("llm-exporter: %d calls were rejected and are in %s: %s", len(lines), path, reason)
        except OSError:
            log.exception("llm-exporter: %d calls were rejected and are lost: %s", len(lines), reason)
        self._set_aside.update(line.id for line in lines)
        self._drop("refused", [line.id for line in lines])

    def _drop(self, reason: str, ids: Sequence[str]) -> None:
        self._has_dropped = True
        self._metrics.count(DROPPED, len(ids), reason)
        self._shipped(ids)


def _batches(lines: Sequence[Line]) -> Iterable[Sequence[Line]]:
    return (lines[start : start + BATCH_CALLS] for start in range(0, len(lines), BATCH_CALLS))
