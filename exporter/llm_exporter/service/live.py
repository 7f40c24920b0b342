"""The stream of server-sent events for the live page.

https://html.spec.whatwg.org/multipage/server-sent-events.html
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from typing import Final

import msgspec
from typing_extensions import override

from ..budgets.events import BudgetReached, Event
from ..call import Call
from .alerts import alert_of
from .intake import Listener
from .ledger.base import totals_of
from .schemas import Alert, BudgetList, BudgetRow, CallEvent

_QUEUE_EVENTS: Final = 1000
"""Events that wait for a slow subscriber. Beyond that they are dropped, and a `missed` event says so."""
_PING_SECONDS: Final = 15.0
"""Proxies close connections that are silent for longer."""


class Live(Listener):
    """Publishes events to subscribers. Subscribe on the event loop; publish from any thread."""

    def __init__(self) -> None:
        self._loop: asyncio.AbstractEventLoop | None = None
        self._subscribers: set[asyncio.Queue[bytes | None]] = set()

    @override
    def calls_added(self, calls: Sequence[Call]) -> None:
        self._publish([_event("call", _call_event(call)) for call in calls])

    @override
    def budgets_changed(self, budgets: Sequence[BudgetRow]) -> None:
        if budgets:
            self._publish([_event("budgets", BudgetList([*budgets]))])

    @override
    def event_occurred(self, event: Event) -> None:
        kind = "budget" if isinstance(event, BudgetReached) else "threshold"
        self._publish([_event(kind, event), _event("alert", alert_of(event))])

    def publish_alert(self, alert: Alert) -> None:
        """Publish an alert that fires or is resolved."""
        self._publish([_event("alert", alert)])

    def close(self) -> None:
        """End all streams."""
        for queue in self._subscribers:
            self._put(queue, None)

    def _publish(self, events: list[bytes]) -> None:
        if self._loop is not None and self._subscribers:
            self._loop.call_soon_threadsafe(self._distribute, events)

    def _distribute(self, events: list[bytes]) -> None:
        for queue in self._subscribers:
            for event in events:
                self._put(queue, event)

    def _put(self, queue: asyncio.Queue[bytes | None], event: bytes | None) -> None:
        if queue.full():
            while not queue.empty():
                queue.get_nowait()
            queue.put_nowait(_event("missed", {}))
        queue.put_nowait(event)

    async def subscribe(self) -> AsyncIterator[bytes]:
        """Yield events from now on, until the service stops."""
        self._loop = asyncio.get_running_loop()
        queue: asyncio.Queue[bytes | None] = asyncio.Queue(_QUEUE_EVENTS)
        self._subscribers.add(queue)
        try:
            yield b": listening\n\n"
            while True:
                try:
                    event = await asyncio.wait_for(queue.get(), _PING_SECONDS)
                except TimeoutError:
                    event = b": ping\n\n"
                if event is None:
                    return
                yield event
        finally:
            self._subscribers.discard(queue)


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


def _event(kind: str, data: object) -> bytes:
    return b"event: " + kind.encode() + b"\ndata: " + msgspec.json.encode(data) + b"\n\n"
