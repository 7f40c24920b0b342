"""`Shipper` sends calls to an exporter service: in batches, on a separate thread, each arriving once.

A call whose acknowledgement is lost is sent again, and the service recognizes it by its id.
"""

from __future__ import annotations

import random
import time
from collections import deque
from collections.abc import Callable, Collection, Iterable
from typing import Final

from ..call import Call
from ..log import log
from ..metrics.collector import Metrics
from ..metrics.specs import DROPPED, SHIPPED
from ..threads import Condition, Thread
from .spool import Spool, spool_for
from .transport import Rejected, ServiceClient, TooLarge, Unavailable

_BATCH_SIZE: Final = 1000
_LINGER_SECONDS: Final = 0.1
"""How long to wait for more calls, so that a busy process sends few batches."""
_MAX_PENDING: Final = 20_000
"""The most calls kept in memory when the disk cannot take them."""
_TIMEOUT_SECONDS: Final = 10.0
_MIN_RETRY_SECONDS: Final = 0.25
_MAX_RETRY_SECONDS: Final = 30.0
_SPOOL_CHECK_SECONDS: Final = 30.0
"""How often to check the spool for calls that other processes left behind."""


class Shipper:
    """Ships calls. While the service is unavailable they wait on disk; if the disk fails too, in memory.

    Args:
        url: the service's URL.
        metrics: counts what is shipped and dropped.
        spool: keeps calls on disk; by default the one for this service.
        clock: a monotonic clock, in seconds.
        shipped: called with the ids of calls that the service has acknowledged, or that are dropped.
    """

    def __init__(
        self,
        url: str,
        metrics: Metrics,
        spool: Spool | None = None,
        clock: Callable[[], float] = time.monotonic,
        shipped: Callable[[Iterable[str]], object] = lambda _: None,
    ) -> None:
        self._service = ServiceClient(url)
        self._shipped = shipped
        self._metrics = metrics
        self._spool = spool or Spool(spool_for(self._service.url.host, self._service.url.port))
        self._clock = clock
        self._pending: deque[Call] = deque()
        self._on_disk: list[str] = []
        """The ids of this process's calls in the spool."""
        self._changed = Condition()
        self._closing_at: float | None = None
        self._unavailable = False
        self._stuck = False
        """Whether service and disk both fail, so that calls stay in memory until the next try."""
        self._retry_seconds = _MIN_RETRY_SECONDS
        self._check_spool_at = self._clock()
        self._thread = Thread(self._run, "llm-exporter-shipper", self._failed)
        self._thread.start()

    def add(self, call: Call) -> None:
        """Add a finished call, and return at once."""
        with self._changed:
            self._pending.append(call)
            if len(self._pending) > _MAX_PENDING:
                self._drop("memory", [self._pending.popleft()])
            self._changed.notify()

    def close(self, timeout: float) -> None:
        """Ship what is pending, for this many seconds at most, and leave the rest on disk."""
        with self._changed:
            self._closing_at = self._clock() + timeout
            self._changed.notify()
        self._thread.join(timeout + 1)

    def _run(self) -> None:
        while True:
            calls = self._next_batch()
            try:
                self._ship(calls)
            except BaseException as error:
                self._failed(error)
                self._keep(calls)
            if self._closing_at is not None and (self._stuck or not self._pending):
                break
        self._drop("memory", self._pending)
        self._spool.release()
        self._service.close()

    def _failed(self, error: BaseException) -> None:
        self._metrics.count_error("shipping")
        log.error("llm-exporter could not ship calls", exc_info=error)

    def _next_batch(self) -> list[Call]:
        """Return the calls to ship next; none if it is time to check the spool."""
        with self._changed:
            idle = max(self._check_spool_at - self._clock(), 0.0)
            self._changed.wait_for(
                lambda: self._closing_at is not None or (self._pending and not self._stuck), idle
            )
            self._stuck = False
            if len(self._pending) < _BATCH_SIZE and self._closing_at is None:
                self._changed.wait_for(lambda: self._closing_at is not None, _LINGER_SECONDS)
            return [self._pending.popleft() for _ in range(min(_BATCH_SIZE, len(self._pending)))]

    def _ship(self, calls: list[Call]) -> None:
        backing_off = self._unavailable and self._clock() < self._check_spool_at
        if calls and (backing_off or not self._send(calls)):
            self._keep(calls)
        if self._clock() >= self._check_spool_at and not (self._unavailable and self._closing_at is not None):
            self._ship_spool()

    def _send(self, calls: list[Call]) -> bool:
        """Send calls, and return whether they are done with: acknowledged or rejected."""
        try:
            self._service.send(calls, self._timeout())
        except Unavailable as reason:
            self._back_off(reason)
            return False
        except TooLarge as reason:
            if len(calls) > 1:
                half = len(calls) // 2
                return self._send(calls[:half]) and self._send(calls[half:])
            self._set_aside(calls, reason)
        except Rejected as reason:
            self._set_aside(calls, reason)
        else:
            self._metrics.count(SHIPPED, len(calls))
            self._shipped([call.id for call in calls])
            if self._unavailable:
                self._unavailable = False
                self._check_spool_at = self._clock()
                self._retry_seconds = _MIN_RETRY_SECONDS
        return True

    def _timeout(self) -> float:
        if self._closing_at is None:
            return _TIMEOUT_SECONDS
        return max(self._closing_at - self._clock(), 0.1)

    def _back_off(self, reason: Unavailable) -> None:
        if not self._unavailable:
            log.warning("llm-exporter: the service is unavailable; calls wait on disk: %s", reason)
        self._unavailable = True
        # Half of the delay is random, so that many processes do not all come back at once.
        jittered = self._retry_seconds * random.uniform(0.5, 1)  # noqa: S311
        self._check_spool_at = self._clock() + jittered
        self._retry_seconds = min(self._retry_seconds * 2, _MAX_RETRY_SECONDS)

    def _ship_spool(self) -> None:
        """Ship the calls that wait on disk."""
        self._check_spool_at = self._clock() + _SPOOL_CHECK_SECONDS
        for calls in self._spool.waiting(_BATCH_SIZE):
            if not self._send(calls):
                return
        # Calls that are in no file any more were found, and sent, by another process.
        self._shipped(self._on_disk)
        self._on_disk.clear()

    def _keep(self, calls: list[Call]) -> None:
        try:
            self._spool.add(calls)
            self._on_disk += [call.id for call in calls]
        except OSError as error:
            self._stuck = True
            with self._changed:
                room = _MAX_PENDING - len(self._pending)
                self._pending.extendleft(reversed(calls[-room:] if room else []))
            if room < len(calls):
                self._drop("memory", calls[: len(calls) - room])
            log.warning("llm-exporter: cannot keep calls on disk: %s", error)

    def _set_aside(self, calls: list[Call], reason: Rejected) -> None:
        try:
            path = self._spool.set_aside(calls)
            log.error("llm-exporter: %d calls were rejected and are in %s: %s", len(calls), path, reason)
        except OSError:
            log.exception("llm-exporter: %d calls were rejected and are lost: %s", len(calls), reason)
        self._drop("refused", calls)

    def _drop(self, reason: str, calls: Collection[Call]) -> None:
        if calls:
            self._metrics.count(DROPPED, len(calls), reason)
            self._shipped([call.id for call in calls])
