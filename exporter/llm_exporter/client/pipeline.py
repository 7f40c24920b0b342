"""Where finished calls go: priced once, then to every sink, on a thread of our own."""

from __future__ import annotations

import logging
import os
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from queue import Empty, SimpleQueue
from typing import Any, Final, TypeVar
from weakref import WeakSet

from prometheus_client import CollectorRegistry
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector
from prometheus_client.samples import Sample

from ..budgets.enforcement import Budgets
from ..budgets.events import Event
from ..budgets.gauges import gauges
from ..budgets.thresholds import Thresholds
from ..call import Call
from ..config.model import Config
from ..errors import ConfigError
from ..metrics.collector import Metrics
from ..metrics.multiprocess import processes
from ..pricing.prices import PriceList
from ..pricing.providers import Providers
from ..pricing.updates import PriceUpdates
from .at_exit import close_at_exit
from .lease_renewal import Renewal
from .retrieval import Outcome, Retrievals
from .shipping import Shipper
from .transport import check_url

log = logging.getLogger("llm_exporter")

T = TypeVar("T")
_Action = Callable[[], None]

_FLUSH_SECONDS: Final = 5.0
_LINGER_SECONDS: Final = 0.005
"""How long the worker lets calls gather once it has recorded some: waking it costs more than a call does."""


class Pipeline:
    """Takes calls from any thread, prices them and feeds the sinks.

    A call may end anywhere, even inside a garbage collection that interrupts a thread holding a lock. So what
    runs there is no more than an append to a deque and a `SimpleQueue.put`, which are re-entrant, and one
    worker thread does the rest: nothing slow, nothing that locks and nothing of a subscriber's runs inside a
    user's call.
    """

    def __init__(self) -> None:
        self.metrics = Metrics(processes=processes())
        self.prices = PriceList()
        self.budgets = Budgets((), self.prices, self.tell)
        self.thresholds = Thresholds((), self.tell)
        self.metrics.more = self._gauges
        self.providers = Providers()
        self._updates = PriceUpdates()
        self._retrievals = Retrievals()
        self.registry = CollectorRegistry()
        """What `/metrics` shows. Not the default registry: other packages use `llm_*` names there."""
        self.registry.register(_Flushed(self))
        self._subscribers: tuple[tuple[type[Any], Callable[[Any], object]], ...] = ()
        self._service = ""
        self._begin()
        _pipelines.add(self)

    def _gauges(self) -> Iterable[Sample]:
        return gauges(self.budgets.accounts(), self.thresholds.accounts())

    def _begin(self) -> None:
        self._actions: deque[_Action | None] = deque()
        self._bell: SimpleQueue[None] = SimpleQueue()
        self._resting = False
        """Whether the worker waits for the bell; only it writes this."""
        self._worker: threading.Thread | None = None
        self._shipper: Shipper | None = None
        self._leases: Renewal | None = None
        self._starting = threading.Lock()
        self.budgets.forked()

    def started(self, call: Call) -> None:
        """Count a call as under way."""
        if self.metrics.seen_by_others:
            self._put(lambda: self.metrics.started(call))
        else:
            self._actions.append(lambda: self.metrics.started(call))  # in time for whoever flushes

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

    def tell(self, event: Event) -> None:
        """Tell the log and whoever subscribed to such events."""
        log.warning("llm-exporter: %s", event)
        self._call_back(event)

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
            self.metrics = Metrics(config, processes=processes())
            self.metrics.more = self._gauges
        else:
            self.metrics.configure(config)
        self.prices = PriceList(config.prices)
        budgets = Budgets(config.budgets, self.prices, self.tell)
        budgets.adopt(self.budgets)
        thresholds = Thresholds(config.thresholds, self.tell)
        thresholds.adopt(self.thresholds)
        self.budgets, self.thresholds = budgets, thresholds
        self._updates.configure(config.prices)
        self.providers = Providers(config.providers)

    def ship_to(self, url: str) -> None:
        """Send every call to the service at a URL as well, from now on and in processes forked from here.

        Raises:
            llm_exporter.ConfigError: for what is no URL of a service.
        """
        check_url(url)
        if not self._service:
            close_at_exit(self)
        self._service = url
        self._lease().wait()

    def _lease(self) -> Renewal:
        if self._leases is None:
            self._leases = Renewal(
                self._service, self.budgets.shared, self.budgets.lock, self._store_answered
            )
        return self._leases

    def _store_answered(self, up: bool) -> None:
        self.metrics.budget_store(up)

    def subscribe(self, callback: Callable[[Any], object], to: type[Any] = Call) -> None:
        """Call back with everything of a type: calls or events; on the worker thread, one at a time."""
        self._subscribers = (*self._subscribers, (to, callback))

    def unsubscribe(self, callback: Callable[[Any], object]) -> None:
        """Stop calling back; a callback that never subscribed is no error."""
        self._subscribers = tuple(known for known in self._subscribers if known[1] != callback)

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
        self._bell.put(None)
        return done.wait(timeout)

    def flushed(self) -> Metrics:
        """Return the metrics when every call is in them that has ended."""
        self.flush()
        return self.metrics

    def close(self) -> None:
        """Let the worker finish what is recorded, ship it, and end. A later call starts anew."""
        if self._worker is not None:
            self._actions.append(None)
            self._bell.put(None)
            self._worker.join(_FLUSH_SECONDS)
            self._worker = None
        if self._shipper is not None:
            self._shipper.close(_FLUSH_SECONDS)
            self._shipper = None
        if self._leases is not None:
            self._leases.close()
            self._leases = None

    def _put(self, action: _Action) -> None:
        self._actions.append(action)
        if self._resting:
            self._bell.put(None)
        # Not waiting for the lock: whoever holds it is starting the worker, perhaps this very thread.
        if self._worker is None and self._starting.acquire(blocking=False):
            try:
                if self._worker is None:
                    self._worker = threading.Thread(target=self._work, name="llm-exporter", daemon=True)
                    self._worker.start()
                    if self._service:
                        self._lease()
            except RuntimeError:
                self._worker = None  # no thread can be started, as at interpreter exit
            finally:
                self._starting.release()

    def _work(self) -> None:
        while self._act():
            try:
                self._bell.get(timeout=_LINGER_SECONDS)  # rung now by who does not want to wait
            except Empty:
                self._resting = True
                if not self._actions:  # else one came before it was known that the bell must be rung
                    self._bell.get()
                self._resting = False

    def _act(self) -> bool:
        """Do what there is to do, and return whether there may be more."""
        while self._actions:
            action = self._actions.popleft()
            if action is None:
                return False
            try:
                action()
            except Exception:
                log.exception("llm-exporter could not take a call")
        return True

    def _record(self, call: Call) -> None:
        self._guarded("prices", self.prices.price, call)
        self._guarded("budgets", self.budgets.settle, call)
        self._guarded("thresholds", self.thresholds.settle, call)
        self._guarded("metrics", self.metrics.record, call)
        if self._service:
            self._guarded("shipping", self._ship, call)
        self._call_back(call)

    def _call_back(self, told: Call | Event) -> None:
        for to, callback in self._subscribers:
            if isinstance(told, to):
                self._guarded("subscriber", callback, told)

    def _ship(self, call: Call) -> None:
        if self._shipper is None:
            self._shipper = Shipper(self._service, self.metrics, shipped=self._shipped)
        self._shipper.take(call)

    def _shipped(self, call_ids: Iterable[str]) -> None:
        self.budgets.shipped(call_ids)

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

    def __init__(self, pipeline: Pipeline) -> None:
        self._pipeline = pipeline

    def collect(self) -> Iterator[Metric]:
        return self._pipeline.flushed().collect()

    def describe(self) -> Iterator[Metric]:
        return self._pipeline.metrics.describe()


_pipelines: WeakSet[Pipeline] = WeakSet()


def _after_fork() -> None:
    # The child has none of the parent's threads, and what waits in the queue is the parent's to record.
    for pipeline in _pipelines:
        pipeline.metrics = pipeline.metrics.forked()
        pipeline._begin()  # noqa: SLF001


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
