"""A call is handed over to the pipeline's thread, and is counted as it was when it was made."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

import llm_exporter
from llm_exporter import Call
from llm_exporter.client import pipeline as pipeline_module
from llm_exporter.client.meter import Meter
from llm_exporter.client.pipeline import Pipeline
from llm_exporter.pricing.endpoint import Endpoint
from llm_exporter.wire.openai import ChatReader
from support.calls import a_call
from support.metered import Metered
from support.operations import OPERATIONS
from support.scripted import Server

CHAT = OPERATIONS[0]
BODY = b'{"model": "gpt-4o-2024-08-06", "usage": {"prompt_tokens": 7, "completion_tokens": 3}}'

PROGRAM = """
import json, os, sys
import httpx2, openai
import llm_exporter

body = {"id": "c", "model": "gpt-4o", "choices": [], "usage": {"prompt_tokens": 700, "completion_tokens": 30}}
class Pieces(httpx2.SyncByteStream):
    def __iter__(self):
        data = json.dumps(body).encode()
        return iter([data[:9], data[9:]])

headers = {"content-type": "application/json"}
transport = httpx2.MockTransport(lambda _: httpx2.Response(200, headers=headers, stream=Pieces()))
client = openai.OpenAI(api_key="k", http_client=openai.DefaultHttpxClient(transport=transport))
llm_exporter.instrument()

def call():
    if sys.argv[2] == "whole":
        client.chat.completions.create(model="gpt-4o", messages=[])
    else:
        create = client.chat.completions.with_streaming_response.create
        with create(model="gpt-4o", messages=[]) as response:
            response.read()

def fork():
    call()
    if (child := os.fork()) == 0:
        call()
    else:
        os.waitpid(child, 0)

def fail():
    call()
    raise RuntimeError("after the call")

{"return": call, "sys.exit": lambda: sys.exit(call()), "fork": fork, "raise": fail}[sys.argv[1]]()
"""


@pytest.mark.parametrize("body", ["whole", "in pieces"])
@pytest.mark.parametrize(("end", "calls"), [("return", 1), ("sys.exit", 1), ("raise", 1), ("fork", 2)])
def test_a_call_is_counted_exactly_however_its_process_ends_right_after_it(
    end: str, calls: int, body: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PROMETHEUS_MULTIPROC_DIR", str(tmp_path))
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", PROGRAM, end, body],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == (end == "raise"), done.stderr
    metered = Metered(Pipeline())
    assert metered.total("llm_calls_total") == calls
    assert metered.total("llm_tokens_total", token_type="input") == 700 * calls
    assert metered.total("llm_tokens_total", token_type="output") == 30 * calls
    assert metered.total("llm_calls_in_flight") == 0


TWO_THREADS = """
import gc, sys, threading, time
from llm_exporter.client.meter import Meter
from llm_exporter.pricing.endpoint import Endpoint
from llm_exporter.wire.openai import ChatReader

class Garbage:
    def __init__(self):
        self.itself = self

    def __del__(self):
        time.sleep(0)  # lets the other thread run

class NotCounted(ChatReader):
    is_retrieval = True  # our own thread leaves its calls alone until they end

def make_records():
    for meter, records in zip(meters, made):
        Garbage()
        both.wait()
        records.append(meter._made())

meters = [Meter(endpoint=Endpoint("openai"), model="gpt-4o", reader=NotCounted) for _ in range(5000)]
made = [[] for _ in meters]
both = threading.Barrier(2)
gc.set_threshold(20, 1, 1)
sys.setswitchinterval(1e-5)
threads = [threading.Thread(target=make_records) for _ in range(2)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
print(all(one is other for one, other in made))
"""


def test_two_threads_that_make_the_record_of_a_call_get_the_same() -> None:
    """The caller's and ours may. CPython 3.11 crashes if both lay out an object's dictionary meanwhile."""
    program = [sys.executable, "-X", "faulthandler", "-c", TWO_THREADS]
    ran = subprocess.run(program, capture_output=True, text=True, check=False)
    assert (ran.returncode, ran.stdout, ran.stderr) == (0, "True\n", "")


def a_meter(**options: Any) -> Meter:
    meter = Meter(endpoint=Endpoint("openai"), model="gpt-4o", reader=ChatReader, **options)
    meter.response_started({"content-type": "application/json"})
    return meter


def test_a_body_that_came_whole_is_read_on_the_thread_of_the_pipeline(
    metered: Metered, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    threads: list[threading.Thread] = []
    read_body = ChatReader.read_body

    def read(reader: ChatReader, data: bytes) -> None:
        threads.append(threading.current_thread())
        read_body(reader, data)

    monkeypatch.setattr(ChatReader, "read_body", read)
    server.respond_with(CHAT.path, CHAT.response())
    CHAT.run(llm_exporter.instrument(CHAT.client(server.url)))
    assert metered.call.tokens == CHAT.wire.tokens
    assert [thread.name for thread in threads] == ["llm-exporter"]


def test_what_the_caller_changes_after_the_call_does_not_change_the_record(
    metered: Metered, server: Server
) -> None:
    server.respond_with(CHAT.path, CHAT.response())
    client = llm_exporter.instrument(CHAT.client(server.url))
    messages: Any = [{"role": "user", "content": "How many?"}]
    with client, _blocked(metered.pipeline):
        with llm_exporter.labels(agent="planner"):
            client.chat.completions.create(model="gpt-4o", messages=messages, service_tier="priority")
        messages.clear()
        client.base_url = "http://elsewhere.test"
    call = metered.calls[-1]
    assert (call.agent, call.requested_model, call.service_tier) == ("planner", "gpt-4o", "priority")
    assert call.tokens == CHAT.wire.tokens


def test_bodies_wait_for_the_thread_of_the_pipeline_up_to_a_limit(
    metered: Metered, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Beyond it they are read where they arrive, so that a busy process keeps its size."""
    monkeypatch.setattr(pipeline_module, "_MAX_UNREAD", 3 * len(BODY))
    for _ in range(2):  # what was read waits no longer
        meters = [a_meter() for _ in range(5)]
        with _blocked(metered.pipeline):
            for meter in meters:
                meter.received(BODY)
                meter.returned()
            assert [meter._body for meter in meters] == [BODY, BODY, BODY, b"", b""]
        assert [call.tokens for call in metered.calls[-5:]] == [{"input": 7, "output": 3}] * 5


@pytest.mark.parametrize("limit", [3 * len(BODY), 0], ids=["within the limit", "beyond it"])
def test_a_json_body_that_came_in_pieces_is_read_on_the_thread_of_the_pipeline_up_to_the_limit(
    limit: int, metered: Metered, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As with `with_streaming_response`, after which the caller reads the body."""
    monkeypatch.setattr(pipeline_module, "_MAX_UNREAD", limit)
    threads: list[str] = []
    read_body = ChatReader.read_body

    def read(reader: ChatReader, data: bytes) -> None:
        threads.append(threading.current_thread().name)
        read_body(reader, data)

    monkeypatch.setattr(ChatReader, "read_body", read)
    meter = a_meter(request={"messages": ["a long prompt"]})
    meter.will_stream()
    for start in range(0, len(BODY), 10):
        assert meter.show(BODY[start : start + 10]) == BODY[start : start + 10]
    with _blocked(metered.pipeline):
        meter.finish()
        assert meter._request is None
        assert threads == ([] if limit else [threading.current_thread().name])
    assert metered.calls[-1].tokens == {"input": 7, "output": 3}
    assert len(threads) == 1
    assert metered.pipeline._unread == 0


def test_a_json_body_in_pieces_without_usage_is_estimated_from_the_request(metered: Metered) -> None:
    meter = a_meter(request={"messages": ["a prompt of 22 letters"]})
    meter.will_stream()
    meter.show(b'{"model": "gpt-4o", ')
    meter.show(b'"choices": []}')
    meter.finish()
    assert (metered.call.tokens, metered.call.estimated) == ({"input": 6}, True)


def test_a_meter_that_waits_keeps_no_request(metered: Metered) -> None:
    meter = a_meter(request={"messages": ["a long prompt"]})
    meter.received(BODY)
    with _blocked(metered.pipeline):
        meter.returned()
        assert meter._request is None


@contextmanager
def _blocked(pipeline: Pipeline) -> Iterator[None]:
    """Keep the thread of the pipeline busy with a call."""
    working, over = threading.Event(), threading.Event()

    def block(_: Call) -> None:
        working.set()
        assert over.wait(60)

    pipeline.subscribe(block)
    pipeline.record(a_call())
    assert working.wait(60)
    try:
        yield
    finally:
        over.set()
