"""`Pipeline`: the way of finished calls, priced once and then given to every sink."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar
from weakref import WeakSet

from ..bounds import clean_call
from ..budgets.enforcement import Budgets
from ..budgets.events import Event
from ..budgets.gauges import gauges
from ..budgets.thresholds import Thresholds
from ..call import Call
from ..config.model import Budget, Config
from ..errors import ConfigError
from ..forking import late_import
from ..guard import guarded
from ..log import log
from ..metrics.collector import Metrics
from ..metrics.multiprocess import storage_from_environment
from ..metrics.registry import GaugeSample
from ..pricing.prices import PriceList
from ..pricing.providers import Providers
from ..pricing.updates import PriceUpdates
from .at_exit import close_at_exit
from .credentials import authorization
from .keeping import Keeper
from .lease_renewal import LeaseRenewal
from .retrieval import Outcome, Retrievals
from .running_totals import RunningTotals
from .service_url import check_url
from .shipping import Shipper
from .worker import Worker

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry, Metric

T = TypeVar("T")

_MAX_UNREAD: Final = 16 * 1024 * 1024
"""The bytes of bodies that may wait for the worker thread. Further ones are read on the caller's thread."""

_FLUSH_SECONDS: Final = 5.0
_WORK_SECONDS: Final = 30.0
"""How long closing waits for the worker. Its work takes milliseconds, but the machine may be busy."""
_CLOSE_SECONDS: Final = 5.0
"""How long closing waits for the service and the disk, once everything is recorded."""


class Pipeline:
    """Takes calls from any thread, prices them and gives them to the sinks, all on one worker thread.

    Inside a user's call nothing runs that is slow, that locks or that belongs to a subscriber.
    """

    def __init__(self) -> None:
        self.metrics = Metrics(storage=storage_from_environment(), gauges=self._gauges)
        self.prices = PriceList()
        self._worker = Worker(self._worker_started, partial(self._count_error, "worker"))
        self.budgets = self._budgets(())
        self.thresholds = Thresholds((), self.emit)
        self.providers = Providers()
        self._updates = PriceUpdates(lambda: self.metrics.count_error("prices"))
        self._retrievals = Retrievals()
        self._subscribers: tuple[tuple[type[Any], Callable[[Any], object]], ...] = ()
        self.totals = RunningTotals()
        self._service = ""
        self._directory: Path | None = None
        """Where calls are kept if they are shipped to no service."""
        self._closes_at_exit = False
        self._unread = 0
        """The bytes of bodies that wait for the worker."""
        self._shipper: Shipper | Keeper | None = None
        self._renewal: LeaseRenewal | None = None
        _pipelines.add(self)
        if self.metrics.shared:
            self._close_at_exit()

    @cached_property
    def registry(self) -> CollectorRegistry:
        """A registry for `/metrics` alone: other packages use `llm_*` names on the default one."""
        with late_import:
            from prometheus_client import CollectorRegistry  # noqa: PLC0415  # only some programs need it

        registry = CollectorRegistry()
        registry.register(_Flushed(self))
        return registry

    def __repr__(self) -> str:
        """Name where calls are shipped to, if anywhere."""
        return f"<Pipeline shipping to {check_url(self._service)}>" if self._service else "<Pipeline>"

    def after_fork(self) -> None:
        """Start over in a forked process, which has none of the parent's threads.

        What waits for the worker is left to the parent.
        """
        self.metrics = self.metrics.after_fork()
        self._worker.reset()
        self._unread = 0
        if self._shipper is not None:
            self._shipper.after_fork()
            self._shipper = None
        self._renewal = None
        self.totals = RunningTotals()
        self._retrievals.after_fork()
        self.budgets.after_fork()

    def started(self, call: Callable[[], Call]) -> None:
        """Count a call as in flight.

        Args:
            call: returns it. It is called on the worker thread.
        """
        # Others can only see it once it is counted. In this process a flush before a scrape is enough.
        put = self._worker.put if self.metrics.shared else self._worker.put_later
        put(partial(self._started, call))

    def _started(self, call: Callable[[], Call]) -> None:
        self.metrics.started(call())

    def finished(self, conclude: Callable[[], Outcome], size: int = 0) -> None:
        """Record a call that had `started`, and its sub-calls.

        Args:
            conclude: reads what is left of the response, and returns the outcome. It is called on the worker
                thread, unless that is far behind.
            size: the bytes that wait to be read.
        """
        if self._unread + size > _MAX_UNREAD:
            outcome = conclude()
            conclude, size = lambda: outcome, 0
        self._unread += size
        self._worker.put(partial(self._settle, conclude, size))

    def _settle(self, conclude: Callable[[], Outcome], size: int) -> None:
        outcome = conclude()
        self._unread -= size
        self._guarded("metrics", self._ended, outcome)
        if outcome.pending:
            self._close_at_exit()
        for call in self._retrievals.settle(outcome):
            self._record(call)

    def _ended(self, outcome: Outcome) -> None:
        self.metrics.ended(outcome.call, outcome.headers, retrieved=outcome.retrieved)

    def record(self, call: Call) -> None:
        """Record a finished call."""
        self._worker.put(lambda: self._record(call))

    def emit(self, event: Event) -> None:
        """Log an event and pass it to its subscribers."""
        log.warning("llm-exporter: %s", event)
        self._notify(event)

    def error(self, where: str, error: BaseException) -> None:
        """Log and count an error inside llm-exporter. Never raises."""
        if self._worker.is_current:
            self._count_error(where, error)  # at once, so that `flush` waits for it
        else:
            self._worker.put(lambda: self._count_error(where, error))

    def configure(self, config: Config) -> None:
        """Use a configuration from now on.

        Raises:
            llm_exporter.ConfigError: if it changes what series have that exist already.
        """
        if changed := self.metrics.fixed_setting(config):
            if self.metrics.has_calls:
                raise ConfigError(f"{changed}: cannot change after the first call: configure before it")
            self.metrics = Metrics(config, storage_from_environment(), self._gauges)
        else:
            self.metrics.configure(config)
        self.prices = PriceList(config.prices)
        budgets = self._budgets(config.budgets)
        budgets.carry_over(self.budgets)
        thresholds = Thresholds(config.thresholds, self.emit)
        thresholds.carry_over(self.thresholds)
        self.budgets, self.thresholds = budgets, thresholds
        self._updates.configure(config.prices)
        priced = [factor.host for factor in config.prices.factors if factor.host]
        self.providers = Providers(config.providers, priced)

    def _budgets(self, configured: Sequence[Budget]) -> Budgets:
        return Budgets(configured, self.prices, self.emit, settle_soon=self._worker.hurry)

    @property
    def ships(self) -> bool:
        """Whether calls are sent to a service."""
        return bool(self._service)

    def ship_to(self, url: str) -> None:
        """Also send every call to the service at a URL, from this process and those forked from it.

        Raises:
            llm_exporter.ConfigError: if it is not the URL of a service, or the token for it is not one.
        """
        authorization(check_url(url))
        self._close_at_exit()
        self._service = url
        self._renew_leases()

    def keep_in(self, directory: Path) -> None:
        """Write every call to files in a directory from now on, unless calls are shipped to a service."""
        self._close_at_exit()
        self._directory = directory

    def _close_at_exit(self) -> None:
        if not self._closes_at_exit:
            self._closes_at_exit = True
            close_at_exit(self)

    def _worker_started(self) -> None:
        if self._service:
            self._renew_leases()

    def _renew_leases(self) -> LeaseRenewal:
        if self._renewal is None:
            self._renewal = LeaseRenewal(
                self._service,
                self.budgets.shared,
                self.budgets.lock,
                self._store_answered,
                partial(self._count_error, "leases"),
            )
        return self._renewal

    def _store_answered(self, up: bool) -> None:
        self.metrics.set_budget_store_up(up=up)

    def subscribe(self, callback: Callable[[Any], object], to: type[Any] = Call) -> None:
        """Call back with every call or event of a type, on the worker thread."""
        self._subscribers = (*self._subscribers, (to, callback))

    def unsubscribe(self, callback: Callable[[Any], object]) -> None:
        """Stop calling back. Unknown callbacks are ignored."""
        self._subscribers = tuple(known for known in self._subscribers if known[1] != callback)

    def flush(self, timeout: float = _FLUSH_SECONDS) -> bool:
        """Wait until everything recorded so far has reached the sinks.

        Args:
            timeout: seconds to wait at most.

        Returns:
            False if the time ran out.
        """
        return self._worker.flush(timeout)

    def deliver(self, timeout: float) -> bool:
        """Wait until everything recorded so far has reached the sinks, and the service or the disk.

        Args:
            timeout: seconds to wait at most.

        Returns:
            Whether it has reached the service; without one, the disk that calls are kept on, if any.
        """
        deadline = time.monotonic() + timeout
        if not self.flush(timeout):
            return False
        shipper = self._shipper
        return shipper is None or shipper.flush(deadline)

    def flushed(self) -> Metrics:
        """Return the metrics, with every call in them that has ended."""
        self.flush()
        return self.metrics

    def flushed_totals(self) -> RunningTotals:
        """Return the totals, with every call in them that has ended."""
        self.flush()
        return self.totals

    def close(self) -> None:
        """Record and ship what waits, then stop all threads. A later call starts them again.

        Calls whose responses were generated in the background and not retrieved are recorded without usage.
        """
        self._worker.put_later(self._give_up_retrievals)
        if not self._worker.close(_WORK_SECONDS):
            log.warning(
                "llm-exporter: the last calls are not counted: a subscriber or the machine is too slow"
            )
        deadline = time.monotonic() + _CLOSE_SECONDS
        closing = [each for each in (self._shipper, self._renewal) if each is not None]
        self._shipper = self._renewal = None
        for each in closing:
            each.end(deadline)
        for each in closing:
            each.join()

    def _give_up_retrievals(self) -> None:
        for call in self._retrievals.close():
            self._record(call)

    def _gauges(self) -> Iterable[GaugeSample]:
        return gauges(self.budgets.accounts(), self.thresholds.accounts())

    def _record(self, call: Call) -> None:
        for where, sink in (
            ("call", clean_call),
            ("prices", self.prices.price),
            ("budgets", self.budgets.settle),
            ("thresholds", self.thresholds.settle),
            ("metrics", self.metrics.record),
            ("totals", self.totals.add),
            ("shipping", self._ship),
        ):
            try:
                sink(call)
            except BaseException as error:  # as in `_guarded`, which would cost each call more than a sink
                self._count_error(where, error)
        self._notify(call)

    def _notify(self, item: Call | Event) -> None:
        for to, callback in self._subscribers:
            if isinstance(item, to):
                self._guarded("subscriber", callback, item)

    def _ship(self, call: Call) -> None:
        if self._shipper is None:
            if self._service:
                self._shipper = Shipper(self._service, self.metrics, shipped=self._shipped)
            elif self._directory is not None:
                self._shipper = Keeper(self._directory, self.metrics)
            else:
                return
        self._shipper.add(call)

    def _shipped(self, call_ids: Iterable[str]) -> None:
        self.budgets.acknowledge(call_ids)

    def _guarded(self, where: str, sink: Callable[[T], object], item: T) -> None:
        guarded(where, sink, item, report=self._count_error, catch=BaseException)

    def _count_error(self, where: str, error: BaseException) -> None:
        self.metrics.count_error(where)
        log.error("llm-exporter failed in %s; the call is not affected", where, exc_info=error)


class _Flushed:
    """The metrics of a pipeline, flushed before they are collected."""

    def __init__(self, pipeline: Pipeline) -> None:
        self._pipeline = pipeline

    def collect(self) -> Iterator[Metric]:
        return self._pipeline.flushed().collect()

    def describe(self) -> Iterator[Metric]:
        return self._pipeline.metrics.describe()


_pipelines: WeakSet[Pipeline] = WeakSet()


def _after_fork() -> None:
    for pipeline in _pipelines:
        pipeline.after_fork()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
