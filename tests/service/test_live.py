"""Listeners hear what happens."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

import msgspec

from llm_exporter.service.alerts import Alert
from llm_exporter.service.live import Live
from support.calls import a_call
from support.served import Served

ALERT = Alert(key="f", title="too much", detail="", severity="critical", resolved=False)


def heard(event: bytes) -> tuple[str, Any]:
    """The kind of an event, and what it says."""
    kind, data = event.decode().removesuffix("\n\n").split("\n")
    return kind.removeprefix("event: "), json.loads(data.removeprefix("data: "))


async def listening(live: Live) -> AsyncIterator[bytes]:
    """A listener that is heard of already."""
    events = live.listen()
    assert await anext(events) == b": listening\n\n"
    return events


def test_calls_and_alerts_are_told_to_every_listener_in_order() -> None:
    async def scenario() -> None:
        live = Live()
        listeners = [await listening(live), await listening(live)]
        live.calls([a_call(id="c-1"), a_call(id="c-2", error="timeout")])
        live.alert(ALERT)
        for listener in listeners:
            events = [heard(await anext(listener)) for _ in range(3)]
            assert [kind for kind, _ in events] == ["call", "call", "alert"]
            assert [(call["id"], call["error"]) for _, call in events[:2]] == [
                ("c-1", None),
                ("c-2", "timeout"),
            ]
            assert events[2][1] == msgspec.to_builtins(ALERT)

    asyncio.run(scenario())


def test_an_event_of_a_call_has_its_numbers_and_labels() -> None:
    async def scenario() -> None:
        live = Live()
        listener = await listening(live)
        live.calls([a_call(id="c-1", started=5.0, labels={"agent": "coder", "tier": "gold"})])
        assert heard(await anext(listener)) == (
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
                "duration": 1.5,
                "error": None,
            },
        )

    asyncio.run(scenario())


def test_a_listener_that_is_slow_is_told_that_it_missed_some() -> None:
    """A thousand events wait for it; then they make way for the news that there were some."""

    async def scenario() -> None:
        live = Live()
        listener = await listening(live)
        live.calls([a_call(id=f"c-{number}") for number in range(1001)])
        assert heard(await anext(listener)) == ("missed", {})
        kind, call = heard(await anext(listener))
        assert (kind, call["id"]) == ("call", "c-1000")

    asyncio.run(scenario())


def test_a_listener_that_has_gone_is_forgotten_and_the_end_ends_the_others() -> None:
    async def scenario() -> None:
        live = Live()
        gone, stays = await listening(live), await listening(live)
        await gone.aclose()  # type: ignore[attr-defined]
        assert len(live._listeners) == 1
        live.close()
        assert [event async for event in stays] == []
        assert live._listeners == set()

    asyncio.run(scenario())


def test_the_stream_tells_of_new_calls_and_of_alerts(tmp_path: Path) -> None:
    """Over HTTP, from a real service; a call that comes again is no news."""
    with Served(tmp_path) as served, urlopen(f"{served.url}/api/v1/events", timeout=30) as stream:

        def post(path: str, body: object) -> None:
            with urlopen(Request(served.url + path, msgspec.json.encode(body))):
                pass

        def event() -> tuple[str, Any]:
            return heard(stream.readline() + stream.readline() + stream.readline())

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
        told = {"key": "f", "title": "LLMCostHigh", "detail": "$12 an hour", "severity": "warning"}
        assert event() == ("alert", {**told, "resolved": False})
        assert event() == ("alert", {**told, "resolved": True})
