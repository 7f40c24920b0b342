"""Who listens to what happens now, as server-sent events.

https://html.spec.whatwg.org/multipage/server-sent-events.html
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from typing import Any, Final

import msgspec

from ..budgets.events import BudgetReached, Event
from ..call import Call
from .alerts import Alert, alert_of
from .ledger.base import totals_of

_WAITING: Final = 1000
"""Events kept for a listener that is slow; then it is told to look anew instead."""
_PING_SECONDS: Final = 15.0
"""So that what stands between does not take a silent connection for a dead one."""


class Live:
    """Tells listeners of events. Made and listened to on the event loop; told from any thread."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._listeners: set[asyncio.Queue[bytes | None]] = set()

    def calls(self, calls: Sequence[Call]) -> None:
        """Tell of calls."""
        self._tell([_event("call", _shown(call)) for call in calls])

    def alert(self, alert: Alert) -> None:
        """Tell of an alert, or that it is over."""
        self._tell([_event("alert", alert)])

    def budgets(self, budgets: Sequence[dict[str, Any]]) -> None:
        """Tell how the budgets stand."""
        if budgets:
            self._tell([_event("budgets", {"budgets": budgets})])

    def event(self, event: Event) -> None:
        """Tell of what has happened to a budget or threshold, and show it as an alert."""
        kind = "budget" if isinstance(event, BudgetReached) else "threshold"
        self._tell([_event(kind, event), _event("alert", alert_of(event))])

    def close(self) -> None:
        """End every listener's stream."""
        for queue in self._listeners:
            self._put(queue, None)

    def _tell(self, events: list[bytes]) -> None:
        if self._listeners:
            self._loop.call_soon_threadsafe(self._spread, events)

    def _spread(self, events: list[bytes]) -> None:
        for queue in self._listeners:
            for event in events:
                self._put(queue, event)

    def _put(self, queue: asyncio.Queue[bytes | None], event: bytes | None) -> None:
        if queue.full():
            while not queue.empty():
                queue.get_nowait()
            queue.put_nowait(_event("missed", {}))
        queue.put_nowait(event)

    async def listen(self) -> AsyncIterator[bytes]:
        """Yield events from now on, until the service ends."""
        queue: asyncio.Queue[bytes | None] = asyncio.Queue(_WAITING)
        self._listeners.add(queue)
        try:
            yield b": listening\n\n"
            while True:
                try:
                    event = await asyncio.wait_for(queue.get(), _PING_SECONDS)
                except TimeoutError:
                    event = b": still here\n\n"
                if event is None:
                    return
                yield event
        finally:
            self._listeners.discard(queue)


def _shown(call: Call) -> dict[str, Any]:
    sums = totals_of(call)
    return {
        "id": call.id,
        "started": call.started,
        "provider": call.provider,
        "model": call.model,
        "operation": call.operation,
        "agent": call.agent,
        "phase": call.phase,
        "labels": call.labels,
        "cost_usd": sums.cost_usd,
        "input_tokens": sums.input_tokens,
        "output_tokens": sums.output_tokens,
        "unpriced_tokens": call.unpriced_tokens,
        "duration": call.duration,
        "error": call.error,
    }


def _event(kind: str, data: object) -> bytes:
    return b"event: " + kind.encode() + b"\ndata: " + msgspec.json.encode(data) + b"\n\n"
