"""`flush` waits until every call is counted and shipped, whatever the service and the disk do."""

from __future__ import annotations

import gzip
import math
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import msgspec
import pytest

import llm_exporter
from llm_exporter import Call
from llm_exporter.client import default
from llm_exporter.client.pipeline import Pipeline
from support.awaiting import DEADLINE, until
from support.scripted import Request, Response, Server

CALLS = "/api/v1/calls"
NEVER = 3600.0


def sent(request: Request) -> list[str]:
    """Return the ids of the calls of a request."""
    return [call.id for call in msgspec.json.decode(gzip.decompress(request.body), type=list[Call])]


def receipt(request: Request) -> bytes:
    """Acknowledge every call of a request."""
    return b'{"accepted": %d, "duplicates": 0}' % len(sent(request))


ACKNOWLEDGED = Response(b"", answer=receipt)
AWAY = Response(b"the ledger is unavailable", status=503)
REFUSED = Response(b'{"detail": "invalid calls"}', status=400)


def recorded() -> str:
    """Record a call, and return its id."""
    return llm_exporter.record(provider="openai", model="gpt-4o", tokens={"input": 10}).id


def on_disk(spool: Path) -> list[str]:
    """Return the ids of the calls in the spool, in order."""
    return [
        msgspec.json.decode(line, type=Call).id
        for path in sorted(spool.rglob("*.jsonl"))
        for line in path.read_bytes().splitlines()
    ]


@pytest.fixture
def spool(tmp_path: Path) -> Path:
    return tmp_path / "spool"


@pytest.fixture
def shipping(
    pipeline: Pipeline, server: Server, spool: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Server]:
    """Ship to this service, which is asked only when a batch is full or `flush` says so."""
    monkeypatch.setenv("LLM_EXPORTER_SPOOL", str(spool))
    monkeypatch.setattr("llm_exporter.client.shipping._LINGER_SECONDS", NEVER)
    monkeypatch.setattr("llm_exporter.client.shipping._MIN_RETRY_SECONDS", NEVER)
    monkeypatch.setattr("llm_exporter.client.shipping._MAX_RETRY_SECONDS", NEVER)
    pipeline.ship_to(server.url)
    yield server
    pipeline.close()


def received(server: Server) -> list[str]:
    """Return the ids of the calls in all requests, in order."""
    return [call_id for request in server.requests if request.target == CALLS for call_id in sent(request)]


def test_without_a_service_every_call_is_counted(pipeline: Pipeline) -> None:
    calls: list[Call] = []
    llm_exporter.subscribe(calls.append)
    ids = [recorded() for _ in range(3)]
    assert llm_exporter.flush(DEADLINE)
    assert [(call.id, call.total_cost) for call in calls] == [(call_id, 0.000025) for call_id in ids]


def test_it_is_false_if_time_runs_out_before_everything_is_counted(pipeline: Pipeline) -> None:
    may_go_on = threading.Event()
    llm_exporter.subscribe(lambda _: may_go_on.wait(DEADLINE))
    recorded()
    assert not llm_exporter.flush(0)
    may_go_on.set()
    assert llm_exporter.flush(DEADLINE)


def test_everything_is_shipped_at_once(shipping: Server, spool: Path) -> None:
    shipping.respond_with(CALLS, ACKNOWLEDGED)
    ids = [recorded() for _ in range(5)]
    assert llm_exporter.flush(DEADLINE)
    assert received(shipping) == ids
    assert on_disk(spool) == []


def test_it_can_be_repeated(shipping: Server) -> None:
    """Each call is sent once, and nothing is sent if nothing is new."""
    shipping.respond_with(CALLS, ACKNOWLEDGED)
    first = recorded()
    assert llm_exporter.flush(DEADLINE)
    assert llm_exporter.flush(DEADLINE)
    second = recorded()
    assert llm_exporter.flush(DEADLINE)
    assert received(shipping) == [first, second]


def test_it_waits_for_the_acknowledgement(shipping: Server, spool: Path) -> None:
    may_answer = threading.Event()
    shipping.respond_with(CALLS, Response(b"", answer=receipt, before={0: may_answer}))
    call = recorded()
    with ThreadPoolExecutor(1) as pool:
        flushing = pool.submit(llm_exporter.flush, DEADLINE)
        until(lambda: received(shipping) == [call])
        assert not flushing.done()
        assert on_disk(spool) == [call]
        may_answer.set()
        assert flushing.result()


def test_several_threads_may_flush(shipping: Server) -> None:
    shipping.respond_with(CALLS, ACKNOWLEDGED)

    def work(_: int) -> tuple[str, bool]:
        return recorded(), llm_exporter.flush(DEADLINE)

    with ThreadPoolExecutor(8) as pool:
        results = list(pool.map(work, range(40)))
    assert all(flushed for _, flushed in results)
    assert sorted(received(shipping)) == sorted(call for call, _ in results)


def test_an_unavailable_service_is_tried_once_and_calls_wait_on_disk(shipping: Server, spool: Path) -> None:
    """Each flush tries at once: its process may be frozen when the time to try again comes."""
    shipping.respond_with(CALLS, AWAY)
    calls = [recorded()]
    for attempt in (1, 2):
        assert not llm_exporter.flush(DEADLINE)
        assert [request.target for request in shipping.requests].count(CALLS) == attempt
        assert on_disk(spool) == calls
        calls.append(recorded())
    assert not llm_exporter.flush(DEADLINE)
    assert on_disk(spool) == calls


def test_it_returns_before_the_timeout_once_the_service_is_known_to_be_unavailable(shipping: Server) -> None:
    shipping.respond_with(CALLS, AWAY)
    recorded()
    results: list[bool] = []
    threading.Thread(target=lambda: results.append(llm_exporter.flush(NEVER)), daemon=True).start()
    until(lambda: results == [False])


def test_calls_that_waited_on_disk_are_shipped_too(shipping: Server, spool: Path) -> None:
    shipping.respond_with(CALLS, AWAY, ACKNOWLEDGED)
    calls = [recorded()]
    assert not llm_exporter.flush(DEADLINE)
    calls.append(recorded())
    assert llm_exporter.flush(DEADLINE)
    assert received(shipping) == [calls[0], *calls]
    assert on_disk(spool) == []


def test_a_service_that_does_not_answer_costs_no_more_than_the_timeout(shipping: Server, spool: Path) -> None:
    may_answer = threading.Event()
    shipping.respond_with(CALLS, Response(b"", answer=receipt, before={0: may_answer}), ACKNOWLEDGED)
    call = recorded()
    assert not llm_exporter.flush(0.5)
    until(lambda: on_disk(spool) == [call])
    may_answer.set()
    assert llm_exporter.flush(DEADLINE)


def test_nothing_listens_at_the_url(
    pipeline: Pipeline, server: Server, spool: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LLM_EXPORTER_SPOOL", str(spool))
    pipeline.ship_to("http://127.0.0.1:1")
    call = recorded()
    assert not llm_exporter.flush(DEADLINE)
    assert on_disk(spool) == [call]


def test_rejected_calls_have_not_reached_the_service(shipping: Server) -> None:
    shipping.respond_with(CALLS, REFUSED, ACKNOWLEDGED)
    recorded()
    assert not llm_exporter.flush(DEADLINE)
    recorded()
    assert llm_exporter.flush(DEADLINE)


def test_calls_that_no_disk_takes_are_shipped_from_memory(shipping: Server, spool: Path) -> None:
    spool.write_text("no directory")
    shipping.respond_with(CALLS, ACKNOWLEDGED, AWAY)
    call = recorded()
    assert llm_exporter.flush(DEADLINE)
    assert received(shipping) == [call]
    recorded()
    assert not llm_exporter.flush(DEADLINE)


def test_calls_that_are_too_many_for_memory_are_shipped_from_disk(
    shipping: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("llm_exporter.client.outbox._MAX_REMEMBERED", 2)
    shipping.respond_with(CALLS, ACKNOWLEDGED)
    calls = [recorded() for _ in range(7)]
    assert llm_exporter.flush(DEADLINE)
    assert received(shipping) == calls


def test_a_subscriber_may_flush(shipping: Server) -> None:
    """It runs on the thread that everything else waits for."""
    shipping.respond_with(CALLS, ACKNOWLEDGED)
    flushed: list[bool] = []
    llm_exporter.subscribe(lambda _: flushed.append(llm_exporter.flush(DEADLINE)))
    call = recorded()
    assert llm_exporter.flush(DEADLINE)
    assert flushed == [True]
    assert received(shipping) == [call]


def test_calls_that_are_kept_for_run_are_on_disk(pipeline: Pipeline, tmp_path: Path) -> None:
    pipeline.keep_in(tmp_path)
    call = recorded()
    assert llm_exporter.flush(DEADLINE)
    assert on_disk(tmp_path) == [call]


def test_it_is_false_if_calls_cannot_be_kept_for_run(pipeline: Pipeline, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    pipeline.keep_in(tmp_path / "file" / "below")
    recorded()
    assert not llm_exporter.flush(DEADLINE)


@pytest.mark.parametrize("timeout", [-1, -math.inf, math.inf, math.nan, 1e300])
def test_a_timeout_that_is_none_is_refused(pipeline: Pipeline, timeout: Any) -> None:
    with pytest.raises(ValueError, match=r"^timeout must be seconds from 0 to \d+, not "):
        llm_exporter.flush(timeout)


def test_nothing_waits_if_everything_is_switched_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LLM_EXPORTER_ENABLED", "0")
    before = default.replace(None)
    try:
        recorded()
        assert llm_exporter.flush(0)
        assert default._pipeline is None
    finally:
        default.replace(before)
