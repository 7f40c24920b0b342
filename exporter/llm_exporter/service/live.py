"""The stream of server-sent events for the live page.

https://html.spec.whatwg.org/multipage/server-sent-events.html
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from functools import partial
from typing import Final

import msgspec
from starlette.responses import StreamingResponse
from starlette.types import Receive, Scope, Send
from typing_extensions import override

from ..budgets.events import BudgetReached, Event
from ..call import Call
from ..guard import guarded
from ..log import log
from ..metrics.collector import Metrics
from ..metrics.specs import MISSED_EVENTS, REFUSED
from .alerts import alert_of
from .intake import Listener
from .ledger.base import totals_of
from .requests import Problem
from .schemas import Alert, BudgetList, BudgetRow, CallEvent

MAX_SUBSCRIBERS: Final = 200
_QUEUE_EVENTS: Final = 1000
_QUEUE_BYTES: Final = 4 * 2**20
"""Events that wait for a slow subscriber. Beyond that they are dropped, and a `missed` event says so."""
_PIECE_BYTES: Final = 64 * 1024
"""Events that are written at a time, unless a single one is larger.

Subscribers share what waits for them, but each connection has a copy of what it is writing.
"""
_PING_SECONDS: Final = 15.0
"""Proxies close connections that are silent for longer."""
_RETRY_SECONDS: Final = 30
_WARN_SECONDS: Final = 60.0


class Live(Listener):
    """Publishes events to subscribers. Subscribe on the event loop; publish from any thread.

    Args:
        metrics: Returns what counts errors, missed events and refused subscribers.
    """

    def __init__(self, metrics: Callable[[], Metrics]) -> None:
        self._metrics = metrics
        self._loop: asyncio.AbstractEventLoop | None = None
        self._subscriptions: set[Subscription] = set()
        self._closed = False
        self._warned = -_WARN_SECONDS

    @property
    def subscribers(self) -> int:
        """How many streams are open."""
        return len(self._subscriptions)

    @override
    def calls_added(self, calls: Sequence[Call]) -> None:
        self._publish(lambda: [_event("call", _call_event(call)) for call in calls])

    @override
    def budgets_changed(self, budgets: Sequence[BudgetRow]) -> None:
        if budgets:
            self._publish(lambda: [_event("budgets", BudgetList([*budgets]))])

    @override
    def event_occurred(self, event: Event) -> None:
        kind = "budget" if isinstance(event, BudgetReached) else "threshold"
        self._publish(lambda: [_event(kind, event), _event("alert", alert_of(event))])

    def publish_alert(self, alert: Alert) -> None:
        """Publish an alert that fires or is resolved."""
        self._publish(lambda: [_event("alert", alert)])

    def subscribe(self) -> Subscription:
        """Return a subscription to events from now on. It must be closed.

        Raises:
            Problem: 503 if there are too many.
        """
        self._loop = asyncio.get_running_loop()
        if len(self._subscriptions) >= MAX_SUBSCRIBERS:
            self._metrics().count(REFUSED, 1, "streams")
            if time.monotonic() - self._warned >= _WARN_SECONDS:
                self._warned = time.monotonic()
                log.warning(
                    "llm-exporter: %d event streams are open, which is the maximum: new ones are refused",
                    MAX_SUBSCRIBERS,
                )
            raise Problem(
                503,
                f"{MAX_SUBSCRIBERS} event streams are open, which is the maximum",
                {"retry-after": str(_RETRY_SECONDS)},
            )
        subscription = Subscription(self._subscriptions.discard, self._count_missed)
        self._subscriptions.add(subscription)
        if self._closed:  # the request was in progress when the service began to stop
            subscription.end()
        return subscription

    def close(self) -> None:
        """End all streams, and each that is begun later at once. Browsers connect again by themselves."""
        self._closed = True
        for subscription in self._subscriptions:
            subscription.end()

    def _publish(self, events: Callable[[], list[bytes]]) -> None:
        if self._loop is None or not self._subscriptions:
            return
        distribute = partial(self._distribute, list(_pieces(events())))
        self._loop.call_soon_threadsafe(
            partial(guarded, "live", distribute, report=self._failed, catch=BaseException)
        )

    def _distribute(self, pieces: Sequence[tuple[bytes, int]]) -> None:
        for subscription in self._subscriptions:
            for events, number in pieces:
                subscription.put(events, number)

    def _count_missed(self, number: int) -> None:
        self._metrics().count(MISSED_EVENTS, number)

    def _failed(self, where: str, error: BaseException) -> None:
        log.error("llm-exporter failed in %s, and goes on", where, exc_info=error)
        self._metrics().count_error(where)


class Subscription:
    """The events that wait for one subscriber. Used on the event loop.

    Args:
        closed: Is called when nobody reads the events any more.
        missed: Is called with the number of events that are dropped, because too many wait.
    """

    def __init__(self, closed: Callable[[Subscription], object], missed: Callable[[int], object]) -> None:
        self._closed = closed
        self._missed = missed
        self._queue: asyncio.Queue[tuple[bytes, int] | None] = asyncio.Queue()
        self._waiting = 0
        self._bytes = 0

    def put(self, events: bytes, number: int) -> None:
        """Add events, or drop all that wait if they are too many."""
        if self._waiting + number > _QUEUE_EVENTS or self._bytes + len(events) > _QUEUE_BYTES:
            self._missed(self._waiting + number)
            while not self._queue.empty():
                self._queue.get_nowait()
            self._waiting = self._bytes = 0
            events, number = _event("missed", {}), 0
        self._waiting += number
        self._bytes += len(events)
        self._queue.put_nowait((events, number))

    def end(self) -> None:
        """End the stream after the events that wait."""
        self._queue.put_nowait(None)

    def close(self) -> None:
        """Receive no more events."""
        self._closed(self)

    async def events(self) -> AsyncIterator[bytes]:
        """Yield one or more events at a time, until the service stops."""
        try:
            yield b": listening\n\n"
            while True:
                try:
                    item = await asyncio.wait_for(self._queue.get(), _PING_SECONDS)
                except TimeoutError:
                    yield b": ping\n\n"
                    continue
                if item is None:
                    return
                events, number = item
                self._waiting -= number
                self._bytes -= len(events)
                yield events
        finally:
            self.close()


class EventStream(StreamingResponse):
    """The response to a subscriber."""

    def __init__(self, subscription: Subscription) -> None:
        super().__init__(
            subscription.events(), media_type="text/event-stream", headers={"cache-control": "no-store"}
        )
        self._subscription = subscription

    @override
    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:  # also if the client leaves before the first event
            self._subscription.close()


def _call_event(call: Call) -> CallEvent:
    totals = totals_of(call)
    return CallEvent(
        id=call.id,
        started=call.started,
        provider=call.provider,
        model=call.model,
        operation=call.operation,
        agent=call.agent,
        phase=call.phase,
        labels=call.labels,
        cost_usd=totals.cost_usd,
        input_tokens=totals.input_tokens,
        output_tokens=totals.output_tokens,
        unpriced_tokens=call.unpriced_tokens,
        approximated_tokens=totals.approximated_tokens,
        approximated=call.approximated,
        usage_reported=call.usage_reported,
        route=call.route,
        duration=call.duration,
        error=call.error,
    )


def _pieces(events: Sequence[bytes]) -> Iterator[tuple[bytes, int]]:
    """Join events to pieces, each with the number of its events."""
    piece: list[bytes] = []
    size = 0
    for event in events:
        if piece and size + len(event) > _PIECE_BYTES:
            yield b"".join(piece), len(piece)
            piece, size = [], 0
        piece.append(event)
        size += len(event)
    if piece:
        yield b"".join(piece), len(piece)


def _event(kind: str, data: object) -> bytes:
    return b"event: " + kind.encode() + b"\ndata: " + msgspec.json.encode(data) + b"\n\n"
