"""Calls out to an exporter service elsewhere: in batches, on a thread of its own, each arriving once.

A call whose acknowledgement is lost is sent again, and the service knows it by its id.
"""

from __future__ import annotations

import logging
import random
import threading
import time
from collections import deque
from collections.abc import Callable, Collection, Iterable
from typing import Final

from ..call import Call
from ..metrics.collector import Metrics
from ..metrics.specs import DROPPED, SHIPPED
from .spool import Spool, spool_for
from .transport import Away, Refused, ServiceClient

log = logging.getLogger("llm_exporter")

_AT_ONCE: Final = 1000
_LINGER_SECONDS: Final = 0.1
"""Calls are waited for this long, so that those of a busy process go together."""
_MOST_HELD: Final = 20_000
"""Calls in memory at most, when the disk cannot take them."""
_TIMEOUT_SECONDS: Final = 10.0
_FIRST_RETRY_SECONDS: Final = 0.25
_LAST_RETRY_SECONDS: Final = 30.0
_LOOK_SECONDS: Final = 30.0
"""How often the disk is looked at for what other processes left behind."""


class Shipper:
    """Ships calls. While the service is away they wait on disk; while the disk is away too, in memory.

    Args:
        url: of the service.
        metrics: of this process, where it counts what it ships and drops.
        spool: where calls wait on disk.
        clock: seconds that only go forward.
        shipped: called with the ids of calls that the service has, or that will not come there.
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
        self._spool = spool or Spool(spool_for(self._service.host, self._service.port))
        self._clock = clock
        self._held: deque[Call] = deque()
        self._on_disk: list[str] = []
        """The ids of the calls of this process that wait there."""
        self._changed = threading.Condition()
        self._closing_at: float | None = None
        self._away = False
        self._stuck = False
        """Whether the service and the disk are both away, so that calls stay in memory until the next try."""
        self._retry_seconds = _FIRST_RETRY_SECONDS
        self._look_at = self._clock()
        self._thread = threading.Thread(target=self._work, name="llm-exporter-shipper", daemon=True)
        self._thread.start()

    def take(self, call: Call) -> None:
        """Take a finished call; it is never waited for."""
        with self._changed:
            self._held.append(call)
            if len(self._held) > _MOST_HELD:
                self._dropped("memory", [self._held.popleft()])
            self._changed.notify()

    def close(self, timeout: float) -> None:
        """Ship what there is, for so many seconds at most, and leave the rest on disk."""
        with self._changed:
            self._closing_at = self._clock() + timeout
            self._changed.notify()
        self._thread.join(timeout + 1)

    def _work(self) -> None:
        while True:
            calls = self._next()
            try:
                self._ship(calls)
            except Exception:
                log.exception("llm-exporter could not ship calls")
                self._keep(calls)
            if self._closing_at is not None and (self._stuck or not self._held):
                break
        self._dropped("memory", self._held)
        self._spool.release()
        self._service.close()

    def _next(self) -> list[Call]:
        """Return the calls to ship next, none when it is time to look at the disk."""
        with self._changed:
            idle = max(self._look_at - self._clock(), 0.0)
            self._changed.wait_for(
                lambda: self._closing_at is not None or (self._held and not self._stuck), idle
            )
            self._stuck = False
            if len(self._held) < _AT_ONCE and self._closing_at is None:
                self._changed.wait_for(lambda: self._closing_at is not None, _LINGER_SECONDS)
            return [self._held.popleft() for _ in range(min(_AT_ONCE, len(self._held)))]

    def _ship(self, calls: list[Call]) -> None:
        waits = self._away and self._clock() < self._look_at
        if calls and (waits or not self._sent(calls)):
            self._keep(calls)
        if self._clock() >= self._look_at and not (self._away and self._closing_at is not None):
            self._look()

    def _sent(self, calls: list[Call]) -> bool:
        """Send calls, and return whether they are off our hands."""
        try:
            self._service.send(calls, self._timeout())
        except Away as reason:
            self._gone(reason)
            return False
        except Refused as reason:
            self._set_aside(calls, reason)
        else:
            self._metrics.count(SHIPPED, len(calls))
            self._shipped([call.id for call in calls])
            if self._away:
                self._away = False
                self._look_at = self._clock()
                self._retry_seconds = _FIRST_RETRY_SECONDS
        return True

    def _timeout(self) -> float:
        if self._closing_at is None:
            return _TIMEOUT_SECONDS
        return max(self._closing_at - self._clock(), 0.1)

    def _gone(self, reason: Away) -> None:
        if not self._away:
            log.warning("llm-exporter: the service is away, calls wait on disk: %s", reason)
        self._away = True
        # Half of it by chance, so that many processes do not all come back at once.
        self._look_at = self._clock() + self._retry_seconds * random.uniform(0.5, 1)  # noqa: S311
        self._retry_seconds = min(self._retry_seconds * 2, _LAST_RETRY_SECONDS)

    def _look(self) -> None:
        """Ship what waits on disk."""
        self._look_at = self._clock() + _LOOK_SECONDS
        for calls in self._spool.waiting(_AT_ONCE):
            if not self._sent(calls):
                return
        # Those that are in no file any longer were found, and sent, by another process.
        self._shipped(self._on_disk)
        self._on_disk.clear()

    def _keep(self, calls: list[Call]) -> None:
        try:
            self._spool.add(calls)
            self._on_disk += [call.id for call in calls]
        except OSError as error:
            self._stuck = True
            with self._changed:
                room = _MOST_HELD - len(self._held)
                self._held.extendleft(reversed(calls[-room:] if room else []))
            if room < len(calls):
                self._dropped("memory", calls[: len(calls) - room])
            log.warning("llm-exporter: calls cannot wait on disk: %s", error)

    def _set_aside(self, calls: list[Call], reason: Refused) -> None:
        try:
            where = self._spool.set_aside(calls)
            log.error("llm-exporter: %d calls are refused, and kept in %s: %s", len(calls), where, reason)
        except OSError:
            log.exception("llm-exporter: %d calls are refused, and lost: %s", len(calls), reason)
        self._dropped("refused", calls)

    def _dropped(self, reason: str, calls: Collection[Call]) -> None:
        if calls:
            self._metrics.count(DROPPED, len(calls), reason)
            self._shipped([call.id for call in calls])
