"""Subscribers receive server-sent events."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

import msgspec

from llm_exporter.service.live import Live
from llm_exporter.service.schemas import Alert
from support.calls import a_call
from support.served import Served

JSON = {"content-type": "application/json"}
ALERT = Alert(key="f", title="too much", detail="", severity="critical", resolved=False)


def parsed(event: bytes) -> tuple[str, Any]:
    """Return the kind of an event and its data."""
    kind, data = event.decode().removesuffix("\n\n").split("\n")
    return kind.removeprefix("event: "), json.loads(data.removeprefix("data: "))


async def subscribed(live: Live) -> AsyncIterator[bytes]:
    """Return a subscription that has started."""
    events = live.subscribe()
    assert await anext(events) == b": listening\n\n"
    return events


def test_every_subscriber_receives_calls_and_alerts_in_order() -> None:
    async def scenario() -> None:
        live = Live()
        subscribers = [await subscribed(live), await subscribed(live)]
        live.calls_added([a_call(id="c-1"), a_call(id="c-2", error="timeout")])
        live.publish_alert(ALERT)
        for subscriber in subscribers:
            events = [parsed(await anext(subscriber)) for _ in range(3)]
            assert [kind for kind, _ in events] == ["call", "call", "alert"]
            assert [(call["id"], call["error"]) for _, call in events[:2]] == [
                ("c-1", None),
                ("c-2", "timeout"),
            ]
            assert events[2][1] == msgspec.to_builtins(ALERT)

    asyncio.run(scenario())


def test_a_call_event_has_the_numbers_and_labels() -> None:
    async def scenario() -> None:
        live = Live()
        subscriber = await subscribed(live)
        labels = {"agent": "coder", "tier": "gold"}
        live.calls_added([a_call(id="c-1", started=5.0, labels=labels, approximated={"tier": 120})])
        assert parsed(await anext(subscriber)) == (
            "call",
            {
                "id": "c-1",
                "started": 5.0,
                "provider": "openai",
                "model": "gpt-5",
                "operation": "chat",
                "agent": "coder",
                "phase": "unattributed",
                "labels": {"agent": "coder", "tier": "gold"},
                "cost_usd": 0.75,
                "input_tokens": 100,
                "output_tokens": 20,
                "unpriced_tokens": 0,
                "approximated_tokens": 120,
                "approximated": {"tier": 120},
                "usage_reported": True,
                "route": "",
                "duration": 1.5,
                "error": None,
            },
        )

    asyncio.run(scenario())


def test_a_slow_subscriber_receives_a_missed_event() -> None:
    """Up to 1,000 events wait. Then they are dropped, and a `missed` event replaces them."""

    async def scenario() -> None:
        live = Live()
        subscriber = await subscribed(live)
        live.calls_added([a_call(id=f"c-{number}") for number in range(1001)])
        assert parsed(await anext(subscriber)) == ("missed", {})
        kind, call = parsed(await anext(subscriber))
        assert (kind, call["id"]) == ("call", "c-1000")

    asyncio.run(scenario())


def test_a_closed_subscription_is_removed_and_closing_ends_the_others() -> None:
    async def scenario() -> None:
        live = Live()
        closed, open_ = await subscribed(live), await subscribed(live)
        await closed.aclose()  # type: ignore[attr-defined]
        assert len(live._subscribers) == 1
        live.close()
        assert [event async for event in open_] == []
        assert live._subscribers == set()

    asyncio.run(scenario())


def test_the_stream_has_new_calls_and_alerts(tmp_path: Path) -> None:
    """Over HTTP, from a real service. A duplicate call causes no event."""
    with Served(tmp_path) as served, urlopen(f"{served.url}/api/v1/events", timeout=30) as stream:

        def post(path: str, body: object) -> None:
            with urlopen(Request(served.url + path, msgspec.json.encode(body), JSON)):
                pass

        def event() -> tuple[str, Any]:
            return parsed(stream.readline() + stream.readline() + stream.readline())

        assert stream.headers["content-type"].startswith("text/event-stream")
        assert stream.headers["cache-control"] == "no-store"
        assert (stream.readline(), stream.readline()) == (b": listening\n", b"\n")
        call = a_call(id="c-1")
        post("/api/v1/calls", [call])
        post("/api/v1/calls", [call, a_call(id="c-2")])
        assert [event()[1]["id"] for _ in range(2)] == ["c-1", "c-2"]
        sent = {"labels": {"alertname": "LLMCostHigh"}, "annotations": {"description": "$12 an hour"}}
        for status in ("firing", "resolved"):
            post("/api/v1/alerts", {"alerts": [{**sent, "status": status, "fingerprint": "f"}]})
        alert = {"key": "f", "title": "LLMCostHigh", "detail": "$12 an hour", "severity": "warning"}
        assert event() == ("alert", {**alert, "resolved": False})
        assert event() == ("alert", {**alert, "resolved": True})
