"""Calls reach the sinks in order, from any thread, off the caller's thread."""

from __future__ import annotations

import gc
import os
import threading
from collections.abc import Callable

import pytest

from llm_exporter import Call, subscribe, unsubscribe
from llm_exporter.call import new_id
from llm_exporter.client.pipeline import Pipeline
from support.metered import Metered


def a_call(model: str = "gpt-4o") -> Call:
    return Call(provider="openai", model=model, operation="chat", tokens={"input": 10})


def test_a_flush_waits_for_everything_recorded_before_it(metered: Metered) -> None:
    for number in range(1000):
        metered.pipeline.record(a_call(f"m{number}"))
    assert metered.pipeline.flush()
    assert [call.model for call in metered.calls] == [f"m{number}" for number in range(1000)]


def test_a_scrape_shows_every_call_that_ended_before_it(metered: Metered) -> None:
    for seen in range(1, 50):
        metered.pipeline.record(a_call())
        assert metered.total("llm_calls_total") == seen


def test_calls_from_many_threads_are_all_counted(metered: Metered) -> None:
    def record() -> None:
        for _ in range(500):
            metered.pipeline.record(a_call())

    threads = [threading.Thread(target=record) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert metered.total("llm_calls_total") == 4000
    assert metered.total("llm_tokens_total", token_type="input") == 40_000


def test_subscribers_get_priced_calls_off_the_callers_thread(pipeline: Pipeline, metered: Metered) -> None:
    threads: list[str] = []

    def callback(call: Call) -> None:
        threads.append(threading.current_thread().name)

    subscribe(callback)
    pipeline.record(a_call())
    assert metered.call.cost == {"input": 0.000025}
    assert threads == ["llm-exporter"]


def test_an_unsubscribed_callback_is_not_called(pipeline: Pipeline) -> None:
    calls: list[Call] = []
    subscribe(calls.append)
    unsubscribe(calls.append)
    unsubscribe(print)
    pipeline.record(a_call())
    assert pipeline.flush()
    assert calls == []


def test_a_subscriber_may_read_the_metrics_and_record_calls(metered: Metered) -> None:
    seen: list[float] = []

    def look(call: Call) -> None:
        if call.model == "gpt-4o":
            metered.pipeline.record(a_call("gpt-4o-mini"))
        seen.append(metered.total("llm_calls_total"))

    metered.pipeline.subscribe(look)
    metered.pipeline.record(a_call())
    assert metered.pipeline.flush()
    assert metered.pipeline.flush()
    assert seen == [1, 2]


def test_a_call_that_ends_in_a_garbage_collection_during_counting_is_counted(
    metered: Metered, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The collection runs while the metrics hold their lock, in the very thread that holds it."""
    lock = metered.pipeline.metrics.zero_first._lock
    held: list[bool] = []

    class Dropped:
        def __init__(self) -> None:
            self.cycle = self

        def __del__(self) -> None:
            held.append(lock.locked())
            metered.pipeline.record(a_call("collected"))

    Dropped()
    with lock:
        gc.collect()
    assert held == [True]
    assert metered.call.model == "collected"


def test_a_forked_child_makes_unique_ids() -> None:
    """The service counts two calls with the same id once."""
    reading, writing = os.pipe()
    if os.fork() == 0:
        os.write(writing, new_id().encode())
        os._exit(0)
    os.wait()
    with os.fdopen(reading) as read, os.fdopen(writing):
        assert read.read(32)[12:] != new_id()[12:]


def test_a_forked_child_records_its_own_calls_and_not_its_parents(pipeline: Pipeline) -> None:
    blocked = threading.Event()
    working = threading.Event()

    def block(_: Call) -> None:
        working.set()
        blocked.wait(30)

    pipeline.subscribe(block)
    pipeline.record(a_call("being recorded by the parent"))
    assert working.wait(30)
    pipeline.record(a_call("waiting in the parent"))

    def child() -> list[str]:
        pipeline.unsubscribe(block)
        calls: list[Call] = []
        pipeline.subscribe(calls.append)
        pipeline.record(a_call("the child's"))
        pipeline.flush()
        return [call.model for call in calls]

    assert _forked(child) == "the child's"
    blocked.set()


def _forked(child: Callable[[], list[str]]) -> str:
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            os.write(writing, ",".join(child()).encode())
        finally:
            os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as pipe:
        said = pipe.read()
    os.waitpid(pid, 0)
    return said


def test_a_closed_pipeline_records_calls_again(metered: Metered) -> None:
    metered.pipeline.record(a_call())
    metered.pipeline.close()
    metered.pipeline.close()
    metered.pipeline.record(a_call())
    assert metered.total("llm_calls_total") == 2
