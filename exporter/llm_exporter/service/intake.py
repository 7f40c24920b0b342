"""Ingestion, on one worker thread: price calls, store them, count them, notify listeners."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future
from contextlib import suppress
from queue import Empty, Queue
from typing import Final, NamedTuple, Protocol, TypeVar

from ..budgets.events import Event
from ..call import Call
from ..config.model import Config
from ..errors import ConfigError
from ..guard import guarded
from ..log import log
from ..metrics.collector import Metrics
from ..metrics.registry import GaugeSample
from ..metrics.specs import DUPLICATES, RECEIVED
from ..metrics.storage import Storage
from ..metrics.zero_first import SeriesKey, ZeroFirst
from ..pricing.prices import PriceList
from ..pricing.updates import PriceUpdates
from .accounts import Accounts
from .background import Background
from .ledger.base import Charge, Ledger, LedgerError, no_charges
from .schemas import BudgetRow, Receipt
from .upkeep import Upkeep

R = TypeVar("R")

_BATCH_CALLS: Final = 2_000
"""Calls in one transaction. Batches that arrive during a transaction share the next one."""
_CHECKPOINT_SECONDS: Final = 60.0
_SCRAPE_WAIT_SECONDS: Final = 0.1
"""How long a scrape waits for the ledger."""
_RESTART_SECONDS: Final = 1.0
_CATCH_UP_SECONDS: Final = 2.0
"""How long a start or a reload waits until new budgets include earlier calls."""


class Listener(Protocol):
    """Is notified on the worker thread. An exception is logged and counted, and stops nothing."""

    def calls_added(self, calls: Sequence[Call]) -> None:
        """Handle new calls. They are in the ledger."""

    def budgets_changed(self, budgets: Sequence[BudgetRow]) -> None:
        """Handle the state of the budgets that new calls were charged to."""

    def event_occurred(self, event: Event) -> None:
        """Handle a threshold that was crossed or a budget that was reached."""


class _Batch(NamedTuple):
    calls: Sequence[Call]
    receipt: Future[Receipt]


class Intake:
    """Ingests calls. A call is counted once, however often it is submitted.

    Args:
        config: The prices, labels, budgets and series.
        ledger: Stores the calls. The metrics resume from its last checkpoint.
        listeners: Are notified of new calls and of events.

    Raises:
        LedgerError: The ledger cannot be read.
    """

    def __init__(self, config: Config, ledger: Ledger, listeners: Sequence[Listener] = ()) -> None:
        self._ledger = ledger
        self._listeners = tuple(listeners)
        self._store = config.store
        self._retention = config.retention
        self._prices = PriceList(config.prices)
        zero_first = ZeroFirst(config.scrape_interval, self._release)
        self.metrics = Metrics(config, Storage(zero_first), self._gauges)
        self._updates = PriceUpdates(lambda: self.metrics.count_error("prices"))
        self._updates.configure(config.prices)
        ledger.report_unreadable(lambda: self.metrics.count_error("ledger"))
        counted, calls = ledger.after_checkpoint()
        self.metrics.restore(counted)
        for call in calls:
            self._guard("metrics", self.metrics.record, call)
            self.metrics.count(RECEIVED, 1)
        self.metrics.resume(ledger.released())
        self.accounts = Accounts(config, ledger, self._emit)
        self._refreshing = Background("accounts", self._refresh_accounts)
        self._releasing = Background("released", self._save_released)
        self._due: frozenset[SeriesKey] = frozenset()
        self.accounts.register()
        self._upkeep = Upkeep(
            {
                "accounts": lambda: self.accounts.catch_up(),  # noqa: PLW0108  # of the current configuration
                "prune": lambda: ledger.prune(time.time() - self._retention),
                "shrink": ledger.shrink,
                "upgrade": ledger.catch_up,
            },
            self._report,
        )
        self._queue: Queue[_Batch | None] = Queue()
        self._dirty = True
        self._ingesting = threading.Lock()
        self._thread = threading.Thread(target=self._work, name="llm-exporter-intake", daemon=True)
        self._thread.start()
        self._catch_up()

    def submit(self, calls: Sequence[Call]) -> Future[Receipt]:
        """Queue calls for ingestion.

        Args:
            calls: Calls without a `mistake`, and with clean texts; see `bounds`.

        Returns:
            A future. It resolves once the calls are stored durably, or raises LedgerError.
        """
        receipt: Future[Receipt] = Future()
        receipt.set_running_or_notify_cancel()  # a request that gives up must not cancel the ingestion
        self._queue.put(_Batch(calls, receipt))
        return receipt

    def reconfigure(self, config: Config) -> None:
        """Apply a new configuration to the calls that are ingested from now on.

        Raises:
            ConfigError: A setting changed that requires a restart. The old configuration stays in effect.
            LedgerError: The ledger cannot be read. The old configuration stays in effect.
        """
        if config.store != self._store:
            raise ConfigError("store: cannot change while the service runs: restart it")
        if changed := self.metrics.fixed_setting(config):
            raise ConfigError(f"{changed}: cannot change while the service runs: restart it")
        accounts = Accounts(config, self._ledger, self._emit)
        with self._ingesting:
            accounts.register()
            self.accounts = accounts
            self._prices = PriceList(config.prices)
            self._updates.configure(config.prices)
            self.metrics.configure(config)
            self._retention = config.retention
        self._catch_up()

    def _catch_up(self) -> None:
        """Charge earlier calls to new budgets. Unless there are very many, wait until it is done."""
        self._upkeep.soon()
        self.accounts.complete.wait(_CATCH_UP_SECONDS)

    def close(self) -> None:
        """Ingest the queued calls, write a checkpoint and stop the worker thread."""
        self._updates.stop()
        self._queue.put(None)
        self._thread.join()
        self._upkeep.close()

    def _emit(self, event: Event) -> None:
        log.warning("llm-exporter: %s", event)
        for listener in self._listeners:
            self._guard("listener", listener.event_occurred, event)

    def _gauges(self) -> Iterable[GaugeSample]:
        self._guard("accounts", self._refresh)
        return self.accounts.samples()

    def _refresh_accounts(self) -> None:
        self.accounts.refresh()

    def _refresh(self) -> None:
        # If the ledger hangs, the last known amounts are shown.
        with suppress(TimeoutError):
            self._refreshing.run().result(_SCRAPE_WAIT_SECONDS)

    def _release(self, series: Iterable[SeriesKey]) -> None:
        self._due = frozenset(series)
        if not self._due <= self._releasing.run().result(_SCRAPE_WAIT_SECONDS):
            raise LedgerError("the ledger was slow to store which series were shown")

    def _save_released(self) -> frozenset[SeriesKey]:
        due = self._due
        self._ledger.release(due)
        return due

    def _charges(self, call: Call) -> Iterable[Charge]:
        return self._guard("accounts", lambda: list(self.accounts.charges(call))) or ()

    def _work(self) -> None:
        while not self._guard("intake", self._run):
            time.sleep(_RESTART_SECONDS)

    def _run(self) -> bool:
        """Ingest until the intake is closed, then return True."""
        checkpoint_at = time.monotonic() + _CHECKPOINT_SECONDS
        running = True
        while running:
            batches, running = self._queued(max(checkpoint_at - time.monotonic(), 0))
            if batches:
                self._guard("intake", self._ingest, batches)
                for batch in batches:
                    if not batch.receipt.done():
                        batch.receipt.set_exception(LedgerError("the calls could not be acknowledged"))
            if not running or time.monotonic() >= checkpoint_at:
                self._guard("intake", self._checkpoint)
                checkpoint_at = time.monotonic() + _CHECKPOINT_SECONDS
        return True

    def _queued(self, timeout: float) -> tuple[list[_Batch], bool]:
        """Return the queued batches, and whether the intake is still open."""
        batches: list[_Batch] = []
        try:
            item = self._queue.get(timeout=timeout)
            while item is not None:
                batches.append(item)
                if sum(len(batch.calls) for batch in batches) >= _BATCH_CALLS:
                    return batches, True
                item = self._queue.get_nowait()
        except Empty:
            return batches, True
        return batches, False

    def _ingest(self, batches: list[_Batch]) -> None:
        with self._ingesting:
            calls = [call for batch in batches for call in batch.calls]
            try:
                self._price(calls)
                new = self._ledger.add(calls, self._charges if self.accounts.rules else no_charges)
            except BaseException as error:  # whatever it is, it must not end the service
                self._report("ledger", error)
                for batch in batches:
                    batch.receipt.set_exception(
                        error if isinstance(error, Exception) else LedgerError(repr(error))
                    )
                return
            self._dirty = self._dirty or bool(calls or new)
            self._count(new)
            self._acknowledge(batches, {call.id for call in new})
            if new:
                self._notify(new)

    def _price(self, calls: list[Call]) -> None:
        for call in calls:
            if not call.cost:
                self._guard("prices", self._prices.price, call)

    def _count(self, calls: Sequence[Call]) -> None:
        for call in calls:
            try:  # as `_guard` does, which takes longer
                self.metrics.add(call)
            except BaseException as error:
                self._report("metrics", error)
        self._guard("metrics", self.metrics.count_received, calls)

    def _acknowledge(self, batches: list[_Batch], new: set[str]) -> None:
        for batch in batches:
            accepted = {call.id for call in batch.calls} & new
            new -= accepted  # the same call in a later batch is a duplicate
            duplicates = len(batch.calls) - len(accepted)
            self.metrics.count(DUPLICATES, duplicates)
            batch.receipt.set_result(Receipt(accepted=len(accepted), duplicates=duplicates))

    def _notify(self, calls: list[Call]) -> None:
        budgets = self._guard("accounts", self.accounts.settle, calls) or []
        for listener in self._listeners:
            self._guard("listener", listener.calls_added, calls)
            self._guard("listener", listener.budgets_changed, budgets)

    def _checkpoint(self) -> None:
        self._ingest([])  # counts calls that were stored although the ledger's reply was lost
        if self._dirty:
            self._guard("checkpoint", self._save)

    def _save(self) -> None:
        self._ledger.checkpoint(self.metrics.snapshot())
        self._dirty = False

    def _guard(self, where: str, function: Callable[..., R], *arguments: object) -> R | None:
        return guarded(where, function, *arguments, report=self._report, catch=BaseException)

    def _report(self, where: str, error: BaseException) -> None:
        log.error("llm-exporter: %s: %s", where, error, exc_info=not isinstance(error, LedgerError))
        self.metrics.count_error(where)
