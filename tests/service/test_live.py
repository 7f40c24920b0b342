"""Subscribers receive server-sent events."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

import msgspec
import pytest

from llm_exporter.metrics.collector import Metrics
from llm_exporter.service.live import EventStream, Live
from llm_exporter.service.requests import Problem
from llm_exporter.service.schemas import Alert
from support.awaiting import DEADLINE
from support.calls import a_call
from support.served import Served

JSON = {"content-type": "application/json"}
PATIENT = """\
from llm_exporter.cli.main import main
from llm_exporter.service import run

run._GRACE_SECONDS = 3600
main()
"""
"""The command line, with a service that lets requests go on for an hour when it stops."""
ALERT = Alert(key="f", title="too much", detail="", severity="critical", resolved=False)


def parsed(event: bytes) -> tuple[str, Any]:
    """Return the kind of an event and its data."""
    kind, data = event.decode().removesuffix("\n\n").split("\n")
    return kind.removeprefix("event: "), json.loads(data.removeprefix("data: "))


@pytest.fixture
def metrics() -> Metrics:
    return Metrics()


@pytest.fixture
def live(metrics: Metrics) -> Live:
    return Live(lambda: metrics)


async def subscribed(live: Live) -> AsyncIterator[bytes]:
    """Return a subscription that has started."""
    events = live.subscribe().events()
    assert await anext(events) == b": listening\n\n"
    return events


def test_every_subscriber_receives_calls_and_alerts_in_order(live: Live) -> None:
    async def scenario() -> None:
        subscribers = [await subscribed(live), await subscribed(live)]
        live.calls_added([a_call(id="c-1"), a_call(id="c-2", error="timeout")])
        live.publish_alert(ALERT)
        for subscriber in subscribers:
            calls, alert = (await anext(subscriber)).split(b"\n\n"), await anext(subscriber)
            assert calls.pop() == b""
            events = [parsed(event) for event in (*calls, alert)]
            assert [kind for kind, _ in events] == ["call", "call", "alert"]
            assert [(call["id"], call["error"]) for _, call in events[:2]] == [
                ("c-1", None),
                ("c-2", "timeout"),
            ]
            assert events[2][1] == msgspec.to_builtins(ALERT)

    asyncio.run(scenario())


def test_a_call_event_has_the_numbers_and_labels(live: Live) -> None:
    async def scenario() -> None:
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


def test_a_slow_subscriber_receives_a_missed_event(live: Live, metrics: Metrics) -> None:
    """Up to 1,000 events wait. Then they are dropped and counted, and a `missed` event replaces them."""

    async def scenario() -> None:
        subscriber = await subscribed(live)
        live.calls_added([a_call() for _ in range(1000)])
        live.calls_added([a_call(id="c-1000")])
        live.calls_added([a_call(id="c-1001")])
        assert parsed(await anext(subscriber)) == ("missed", {})
        kind, call = parsed(await anext(subscriber))
        assert (kind, call["id"]) == ("call", "c-1001")

        live.calls_added([a_call() for _ in range(999)])
        live.publish_alert(ALERT)
        calls = 0
        while calls < 999:
            calls += (await anext(subscriber)).count(b"event: call")
        assert calls == 999
        assert parsed(await anext(subscriber))[0] == "alert"

    asyncio.run(scenario())
    assert value(metrics, "llm_exporter_missed_events_total") == 1001


def test_large_events_are_missed_by_their_size_and_sent_in_pieces(live: Live, metrics: Metrics) -> None:
    """At most 4 MB wait, and at most 64 KB are sent at a time, unless a single event is larger."""

    async def scenario() -> None:
        subscriber = await subscribed(live)
        labels = {f"label-{number}": "x" * 250 for number in range(40)}  # more than 10 kB
        live.calls_added([a_call(id=f"c-{number}", labels=labels) for number in range(100)])
        seen = 0
        while seen < 100:
            piece = await anext(subscriber)
            assert len(piece) <= 64 * 1024
            assert piece.endswith(b"\n\n")
            seen += piece.count(b"event: call")
        huge = {f"label-{number}": "x" * 250 for number in range(400)}
        live.calls_added([a_call(id="huge", labels=huge)])
        assert parsed(await anext(subscriber))[1]["id"] == "huge"
        for _ in range(5):
            live.calls_added([a_call(labels=labels) for _ in range(100)])
        waiting = b"".join([await anext(subscriber) for _ in range(2)])
        assert waiting.startswith(b"event: missed\ndata: {}\n\nevent: call")

    asyncio.run(scenario())
    assert value(metrics, "llm_exporter_missed_events_total") > 0


def test_pages_that_are_left_open_do_not_take_much_memory(
    tmp_path: Path, figure: Callable[[str], None]
) -> None:
    """200 pages that read nothing, and 88 MB of events. Each connection buffers some of them, not all."""
    labels = {f"label-{number}": "x" * 250 for number in range(40)}
    with Served(tmp_path) as served, ExitStack() as stack:

        def send_batch() -> None:
            with urlopen(Request(f"{served.url}/api/v1/calls", batch(), JSON), timeout=600):
                pass

        def batch() -> bytes:
            return msgspec.json.encode([a_call(labels=labels) for _ in range(200)])

        for _ in range(5):
            send_batch()
        for _ in range(200):
            page = stack.enter_context(socket.create_connection(("127.0.0.1", served.port), timeout=600))
            page.sendall(b"GET /api/v1/events HTTP/1.1\r\nhost: 127.0.0.1\r\n\r\n")
            assert page.recv(12) == b"HTTP/1.1 200"
        before = resident(served.pid)
        for _ in range(40):
            send_batch()
        grown = (resident(served.pid) - before) / 2**20
        figure(f"{grown:.0f} MB more after 88 MB of events that 200 pages did not read")
        assert grown < 60
        lines = served.get_text("/metrics").splitlines()
        (missed,) = (line for line in lines if line.startswith("llm_exporter_missed_events_total "))
        assert float(missed.split()[-1]) > 100_000


def resident(pid: int) -> int:
    """Return the memory of a process in bytes."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def value(metrics: Metrics, name: str, **labels: str) -> float:
    return sum(
        sample.value
        for family in metrics.collect()
        for sample in family.samples
        if sample.name == name and sample.labels.items() >= labels.items()
    )


def test_there_are_so_many_streams_at_most(
    live: Live, metrics: Metrics, caplog: pytest.LogCaptureFixture
) -> None:
    async def scenario() -> None:
        open_ = [live.subscribe() for _ in range(200)]
        for _ in range(2):
            with pytest.raises(Problem, match="200 event streams are open") as caught:
                live.subscribe()
            assert (caught.value.status, caught.value.headers) == (503, {"retry-after": "30"})
        open_[0].close()
        live.subscribe()

    asyncio.run(scenario())
    assert value(metrics, "llm_exporter_refused_requests_total", reason="streams") == 2
    assert [record.getMessage() for record in caplog.records] == [
        "llm-exporter: 200 event streams are open, which is the maximum: new ones are refused"
    ]


def test_a_stream_whose_client_leaves_at_once_is_closed(live: Live) -> None:
    async def leave() -> dict[str, Any]:
        return {"type": "http.disconnect"}

    async def send(_: object) -> None:
        raise ConnectionResetError

    async def scenario() -> None:
        stream = EventStream(live.subscribe())
        assert live.subscribers == 1
        with suppress(Exception):
            await stream({"type": "http", "asgi": {"spec_version": "2.3"}}, leave, send)
        assert live.subscribers == 0

    asyncio.run(scenario())


def test_a_closed_subscription_is_removed_and_closing_ends_the_others(live: Live) -> None:
    async def scenario() -> None:
        closed, open_ = await subscribed(live), await subscribed(live)
        await closed.aclose()  # type: ignore[attr-defined]
        assert live.subscribers == 1
        live.close()
        assert [event async for event in open_] == []
        late = await subscribed(live)  # its request was in progress already
        assert [event async for event in late] == []
        assert live.subscribers == 0

    asyncio.run(scenario())


def test_the_stream_has_new_calls_and_alerts(tmp_path: Path) -> None:
    """Over HTTP, from a real service. A duplicate call causes no event."""
    with Served(tmp_path) as served, urlopen(f"{served.url}/api/v1/events", timeout=DEADLINE) as stream:

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


def test_a_service_that_stops_ends_its_streams(tmp_path: Path) -> None:
    """It does not wait for their clients: a browser would stay for as long as its page is open."""
    command = [sys.executable, "-c", PATIENT, "serve", "--port", "0", "--store", str(tmp_path / "ledger.db")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as service:
        assert service.stdout is not None
        url = service.stdout.readline().rpartition(" ")[2].strip()
        try:
            with urlopen(f"{url}/api/v1/events", timeout=60) as stream:
                assert stream.readline() == b": listening\n"
                service.terminate()
                assert stream.readline() == b"\n"
                assert stream.readline() == b""  # the end of a complete body, before any ping
                assert service.wait(60) == -signal.SIGTERM
        finally:
            service.kill()
