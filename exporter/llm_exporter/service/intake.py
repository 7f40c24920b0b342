"""Calls in: kept in the ledger, then counted and told to whoever listens, on one thread of its own."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future
from queue import Empty, Queue
from typing import Final, NamedTuple

from prometheus_client.samples import Sample

from ..budgets.events import Event
from ..call import Call
from ..config.model import Config
from ..errors import ConfigError
from ..metrics.collector import Metrics
from ..metrics.specs import DUPLICATES, RECEIVED
from ..metrics.storage import Storage
from ..metrics.zero_first import ZeroFirst
from ..pricing.prices import PriceList
from ..pricing.updates import PriceUpdates
from .accounts import Accounts
from .ledger.base import Ledger, LedgerError

log = logging.getLogger("llm_exporter")

Listener = Callable[[Sequence[Call]], object]
EventListener = Callable[[Event], object]

_CALLS_AT_ONCE: Final = 10_000
"""In one transaction: those that wait while another is written share the next one's trip to the disk."""
_CHECKPOINT_SECONDS: Final = 60.0


class Receipt(NamedTuple):
    """What became of calls that were sent in."""

    accepted: int
    duplicates: int


class _Batch(NamedTuple):
    calls: Sequence[Call]
    receipt: Future[Receipt]


class Intake:
    """Takes calls in, each once.

    Args:
        config: prices, labels and series.
        ledger: where calls are kept, and where the metrics go on from.

    Raises:
        LedgerError: when the ledger cannot be read.
    """

    def __init__(self, config: Config, ledger: Ledger) -> None:
        self._ledger = ledger
        self._store = config.store
        self._retention = config.retention
        self._prices = PriceList(config.prices)
        self._updates = PriceUpdates()
        self._updates.configure(config.prices)
        zero_first = ZeroFirst(config.scrape_interval, ledger.release)
        self.metrics = Metrics(config, Storage(zero_first), self._gauges)
        counted, calls = ledger.after_checkpoint()
        self.metrics.restore(counted)
        for call in calls:
            self.metrics.record(call)
            self.metrics.count(RECEIVED, 1)
        zero_first.release(ledger.released())
        self.accounts = Accounts(config, ledger, self._told)
        self._event_listeners: tuple[EventListener, ...] = ()
        self._listeners: tuple[Listener, ...] = ()
        self._queue: Queue[_Batch | None] = Queue()
        self._dirty = True
        self._taking = threading.Lock()
        self._thread = threading.Thread(target=self._work, name="llm-exporter-intake", daemon=True)
        self._thread.start()

    def take(self, calls: Sequence[Call]) -> Future[Receipt]:
        """Take calls in; the result comes when they are safe in the ledger, LedgerError when they are not."""
        receipt: Future[Receipt] = Future()
        self._queue.put(_Batch(calls, receipt))
        return receipt

    def follow(self, config: Config) -> None:
        """Follow another configuration with the calls that are taken from now on.

        Raises:
            ConfigError: for what cannot change while the service runs; nothing has changed.
            LedgerError: when the ledger cannot be read; nothing has changed.
        """
        if config.store != self._store:
            raise ConfigError("store: cannot change while the service runs: restart it")
        if config.labels != self.metrics.declared_labels:
            raise ConfigError("labels: cannot change while the service runs: restart it")
        with self._taking:
            charges = self._ledger.charges
            try:
                self.accounts = Accounts(config, self._ledger, self._told)
            except LedgerError:
                self._ledger.charges = charges
                raise
            self._prices = PriceList(config.prices)
            self._updates.configure(config.prices)
            self.metrics.configure(config)
            self._retention = config.retention

    def listen(self, listener: Listener) -> None:
        """Tell of all new calls, on the intake's thread, once they are in the ledger."""
        self._listeners = (*self._listeners, listener)

    def listen_to_events(self, listener: EventListener) -> None:
        """Tell of what happens to budgets and thresholds, on the intake's thread."""
        self._event_listeners = (*self._event_listeners, listener)

    def _told(self, event: Event) -> None:
        log.warning("llm-exporter: %s", event)
        for listener in self._event_listeners:
            self._guarded("listener", listener, event)

    def _gauges(self) -> Iterable[Sample]:
        self._guarded("accounts", self.accounts.refresh)
        return self.accounts.samples()

    def close(self) -> None:
        """Take in what waits, and checkpoint."""
        self._updates.stop()
        self._queue.put(None)
        self._thread.join()

    def _work(self) -> None:
        checkpoint_at = time.monotonic() + _CHECKPOINT_SECONDS
        running = True
        while running:
            batches, running = self._waiting(max(checkpoint_at - time.monotonic(), 0))
            if batches:
                self._take(batches)
            if not running or time.monotonic() >= checkpoint_at:
                self._checkpoint()
                checkpoint_at = time.monotonic() + _CHECKPOINT_SECONDS

    def _waiting(self, timeout: float) -> tuple[list[_Batch], bool]:
        """Return the batches that wait, and whether there will be more."""
        batches: list[_Batch] = []
        try:
            item = self._queue.get(timeout=timeout)
            while item is not None:
                batches.append(item)
                if sum(len(batch.calls) for batch in batches) >= _CALLS_AT_ONCE:
                    return batches, True
                item = self._queue.get_nowait()
        except Empty:
            return batches, True
        return batches, False

    def _take(self, batches: list[_Batch]) -> None:
        with self._taking:
            self._take_in(batches)

    def _take_in(self, batches: list[_Batch]) -> None:
        calls = [call for batch in batches for call in batch.calls]
        try:
            self._price(calls)
            new = self._ledger.add(calls)
        except Exception as error:
            self._failed("ledger", error)
            for batch in batches:
                batch.receipt.set_exception(error)
            return
        self._dirty = self._dirty or bool(calls or new)
        for call in new:
            self.metrics.record(call)
            self.metrics.count_received(call)
        self._acknowledge(batches, {call.id for call in new})
        if new:
            self._guarded("accounts", self.accounts.settle, new)
            for listener in self._listeners:
                self._guarded("listener", listener, new)

    def _price(self, calls: list[Call]) -> None:
        for call in calls:
            if not call.cost:
                self._prices.price(call)

    def _acknowledge(self, batches: list[_Batch], new: set[str]) -> None:
        for batch in batches:
            accepted = {call.id for call in batch.calls} & new
            new -= accepted  # whoever sent one of them too has sent a duplicate
            duplicates = len(batch.calls) - len(accepted)
            self.metrics.count(DUPLICATES, duplicates)
            batch.receipt.set_result(Receipt(len(accepted), duplicates))

    def _checkpoint(self) -> None:
        self._take([])  # calls of which the ledger's answer was lost
        try:
            if self._dirty:
                self._ledger.checkpoint(self.metrics.snapshot())
                self._dirty = False
            self._ledger.prune(time.time() - self._retention)
        except LedgerError as error:
            self._failed("checkpoint", error)

    def _guarded(self, where: str, tell: Callable[..., object], *told: object) -> None:
        try:
            tell(*told)
        except Exception as error:
            self._failed(where, error)

    def _failed(self, where: str, error: Exception) -> None:
        log.error("llm-exporter: %s: %s", where, error, exc_info=not isinstance(error, LedgerError))
        self.metrics.count_error(where)
