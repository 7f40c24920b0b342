"""Where finished calls go: priced once, then to every sink, on a thread of our own."""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable, Iterator
from queue import SimpleQueue
from typing import Final, TypeVar
from weakref import WeakSet

from prometheus_client import CollectorRegistry
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from .call import Call
from .config import Config, ConfigError
from .endings import close_at_exit
from .metrics import Metrics
from .price_updates import PriceUpdates
from .prices import PriceList
from .providers import Providers
from .retrieval import Outcome, Retrievals
from .shipping import Service, Shipper

log = logging.getLogger("llm_exporter")

T = TypeVar("T")
Subscriber = Callable[[Call], object]
_Action = Callable[[], None]

_FLUSH_SECONDS: Final = 5.0


class Exporter:
    """Takes calls from any thread, prices them and feeds the sinks.

    A call may end anywhere, even inside a garbage collection that interrupts a thread holding a lock. So what
    runs there is no more than a `SimpleQueue.put`, which is re-entrant, and one worker thread does the rest:
    nothing slow, nothing that locks and nothing of a subscriber's runs inside a user's call.
    """

    def __init__(self) -> None:
        self.metrics = Metrics()
        self.prices = PriceList()
        self.providers = Providers()
        self._updates = PriceUpdates()
        self._retrievals = Retrievals()
        self.registry = CollectorRegistry()
        """What `/metrics` shows. Not the default registry: other packages use `llm_*` names there."""
        self.registry.register(_Flushed(self))
        self._subscribers: tuple[Subscriber, ...] = ()
        self._service = ""
        self._begin()
        _exporters.add(self)

    def _begin(self) -> None:
        self._queue: SimpleQueue[_Action | None] = SimpleQueue()
        self._worker: threading.Thread | None = None
        self._shipper: Shipper | None = None
        self._starting = threading.Lock()

    def started(self, call: Call) -> None:
        """Count a call as under way."""
        self._put(lambda: self.metrics.started(call))

    def finished(self, outcome: Outcome) -> None:
        """Record a call that had `started`, and the calls that the provider made on its way."""

        def take() -> None:
            self._guarded("metrics", self.metrics.ended, outcome)
            for call in self._retrievals.settle(outcome):
                self._record(call)

        self._put(take)

    def record(self, call: Call) -> None:
        """Record a finished call."""
        self._put(lambda: self._record(call))

    def error(self, where: str, error: BaseException) -> None:
        """Log and count an error of our own code. Never raises."""
        self._put(lambda: self._note(where, error))

    def configure(self, config: Config) -> None:
        """Follow a configuration from now on.

        Raises:
            llm_exporter.ConfigError: for other labels than those of the series that are there already.
        """
        if config.labels != self.metrics.declared:
            if self.metrics.used:
                raise ConfigError("labels: calls are counted already: labels are set before the first call")
            self.metrics = Metrics(config)
        else:
            self.metrics.configure(config)
        self.prices = PriceList(config.prices)
        self._updates.follow(config.prices)
        self.providers = Providers(config.providers)

    def ship_to(self, url: str) -> None:
        """Send every call to the service at a URL as well, from now on and in processes forked from here.

        Raises:
            llm_exporter.ConfigError: for what is no URL of a service.
        """
        Service(url)
        if not self._service:
            close_at_exit(self)
        self._service = url

    def subscribe(self, callback: Subscriber) -> None:
        """Call back with every finished call, on the worker thread, one call at a time."""
        self._subscribers = (*self._subscribers, callback)

    def unsubscribe(self, callback: Subscriber) -> None:
        """Stop calling back; a callback that never subscribed is no error."""
        self._subscribers = tuple(known for known in self._subscribers if known != callback)

    def flush(self, timeout: float = _FLUSH_SECONDS) -> bool:
        """Wait until everything recorded so far has reached the sinks.

        Args:
            timeout: seconds to wait at most.

        Returns:
            False when time ran out.
        """
        if threading.current_thread() is self._worker:
            return True  # asked by a subscriber, which cannot wait for itself
        done = threading.Event()
        self._put(done.set)
        return done.wait(timeout)

    def flushed(self) -> Metrics:
        """Return the metrics when every call is in them that has ended."""
        self.flush()
        return self.metrics

    def close(self) -> None:
        """Let the worker finish what is recorded, ship it, and end. A later call starts anew."""
        if self._worker is not None:
            self._queue.put(None)
            self._worker.join(_FLUSH_SECONDS)
            self._worker = None
        if self._shipper is not None:
            self._shipper.close(_FLUSH_SECONDS)
            self._shipper = None

    def _put(self, action: _Action) -> None:
        self._queue.put(action)
        # Not waiting for the lock: whoever holds it is starting the worker, perhaps this very thread.
        if self._worker is None and self._starting.acquire(blocking=False):
            try:
                if self._worker is None:
                    self._worker = threading.Thread(target=self._work, name="llm-exporter", daemon=True)
                    self._worker.start()
            except RuntimeError:
                self._worker = None  # no thread can be started, as at interpreter exit
            finally:
                self._starting.release()

    def _work(self) -> None:
        while (action := self._queue.get()) is not None:
            try:
                action()
            except Exception:
                log.exception("llm-exporter could not take a call")

    def _record(self, call: Call) -> None:
        self._guarded("prices", self.prices.price, call)
        self._guarded("metrics", self.metrics.record, call)
        if self._service:
            self._guarded("shipping", self._ship, call)
        for subscriber in self._subscribers:
            self._guarded("subscriber", subscriber, call)

    def _ship(self, call: Call) -> None:
        if self._shipper is None:
            self._shipper = Shipper(self._service, self.metrics)
        self._shipper.take(call)

    def _guarded(self, where: str, sink: Callable[[T], object], taken: T) -> None:
        try:
            sink(taken)
        except Exception as error:
            self._note(where, error)

    def _note(self, where: str, error: BaseException) -> None:
        log.error("llm-exporter failed in %s; the call itself is not affected", where, exc_info=error)
        self.metrics.error(where)


class _Flushed(Collector):
    """The exporter's metrics, with every call in them that ended before they were asked for."""

    def __init__(self, exporter: Exporter) -> None:
        self._exporter = exporter

    def collect(self) -> Iterator[Metric]:
        return self._exporter.flushed().collect()

    def describe(self) -> Iterator[Metric]:
        return self._exporter.metrics.describe()


_exporters: WeakSet[Exporter] = WeakSet()


def _after_fork() -> None:
    # The child has none of the parent's threads, and what waits in the queue is the parent's to record.
    for exporter in _exporters:
        exporter._begin()  # noqa: SLF001


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)

default = Exporter()
"""The one that the public functions and the taps use."""
