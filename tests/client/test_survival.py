"""No exception ends a thread of ours, whatever raises it: it is counted, logged, and the thread goes on."""

from __future__ import annotations

import asyncio
import json
import logging
import threading
from collections.abc import Callable, Iterator
from logging import LogRecord
from typing import Any

import openai
import pytest

import llm_exporter
from llm_exporter import Call
from llm_exporter.client.lease_renewal import LeaseRenewal
from llm_exporter.client.outbox import Outbox
from llm_exporter.client.pipeline import Pipeline
from llm_exporter.client.shipping import Shipper
from llm_exporter.labels import current_labels, from_environment
from llm_exporter.log import log
from llm_exporter.threads import Thread
from support.awaiting import until
from support.calls import a_call
from support.metered import Metered
from support.operations import CHAT
from support.scripted import Server
from support.served import Served

ERRORS = (ValueError, SystemExit, KeyboardInterrupt, GeneratorExit, asyncio.CancelledError)
SURROGATE = "plan\ud800ner"


def errors(pipeline: Pipeline) -> dict[tuple[str, ...], float]:
    return Metered(pipeline).samples("llm_exporter_errors_total")


class Once:
    """Takes the place of a function, and raises an error the first time."""

    def __init__(self, function: Callable[..., Any], error: type[BaseException]) -> None:
        self._function = function
        self._error = error
        self.raised = threading.Event()

    def __get__(self, instance: object, owner: type) -> Callable[..., Any]:
        return lambda *args: self(instance, *args)

    def __call__(self, *args: Any) -> Any:
        if not self.raised.is_set():
            self.raised.set()
            raise self._error
        return self._function(*args)


@pytest.fixture
def service(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[Served]:
    with Served(tmp_path) as service:
        monkeypatch.setenv("LLM_EXPORTER_SPOOL", str(tmp_path / "spool"))
        yield service


@pytest.mark.parametrize("error", ERRORS)
def test_a_thread_goes_on_after_an_error(error: type[BaseException]) -> None:
    failed: list[type[BaseException]] = []
    over = threading.Event()
    run = Once(over.set, error)

    def fail_as_well(error: BaseException) -> None:
        failed.append(type(error))
        raise error

    thread = Thread(run, "llm-exporter-test", fail_as_well)
    thread.start()
    assert thread.join(60)
    assert failed == [error]
    assert over.is_set()


@pytest.mark.parametrize("error", ERRORS)
def test_the_worker_goes_on_after_a_subscriber_raises(
    pipeline: Pipeline, error: type[BaseException], said: Callable[[], list[LogRecord]]
) -> None:
    seen: list[Call] = []
    pipeline.subscribe(Once(seen.append, error))
    for _ in range(3):
        pipeline.record(a_call())
    assert pipeline.flush()
    assert len(seen) == 2
    assert Metered(pipeline).total("llm_calls_total") == 3
    assert errors(pipeline) == {("subscriber",): 1}
    (record,) = said()
    assert record.exc_info
    assert record.exc_info[0] is error


@pytest.mark.parametrize("error", ERRORS)
def test_the_worker_goes_on_after_its_own_code_raises(
    pipeline: Pipeline, error: type[BaseException], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Pipeline, "_record", Once(Pipeline._record, error))
    pipeline.record(a_call())
    pipeline.record(a_call())
    assert pipeline.flush()
    assert Metered(pipeline).total("llm_calls_total") == 1
    assert errors(pipeline) == {("worker",): 1}


@pytest.mark.parametrize("error", ERRORS)
@pytest.mark.parametrize(
    ("part", "step"), [(Shipper, "_wait"), (Shipper, "_send"), (Outbox, "_write_arrived"), (Outbox, "done")]
)
def test_the_shipper_goes_on_after_an_error(
    pipeline: Pipeline,
    service: Served,
    part: type,
    step: str,
    error: type[BaseException],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    broken = Once(getattr(part, step), error)
    monkeypatch.setattr(part, step, broken)
    pipeline.ship_to(service.url)
    pipeline.record(a_call())
    assert broken.raised.wait(60)
    pipeline.record(a_call())
    metered = Metered(pipeline)
    until(lambda: metered.total("llm_exporter_errors_total") == 1)
    pipeline.close()
    assert errors(pipeline) == {("shipping",): 1}
    until(lambda: len(service.get("/api/v1/calls")["calls"]) == 2)


@pytest.mark.parametrize("error", ERRORS)
def test_the_renewal_of_leases_goes_on_after_an_error(
    pipeline: Pipeline, service: Served, error: type[BaseException], monkeypatch: pytest.MonkeyPatch
) -> None:
    answered = threading.Event()

    def request(renewal: LeaseRenewal) -> None:
        original(renewal)
        answered.set()

    original = LeaseRenewal._request
    broken = Once(request, error)
    monkeypatch.setattr(LeaseRenewal, "_request", broken)
    pipeline.ship_to(service.url)
    assert broken.raised.wait(60)
    pipeline.budgets.shared.renewal_due.set()
    assert answered.wait(60)
    until(lambda: errors(pipeline) == {("leases",): 1})


def test_a_lone_surrogate_in_a_label_harms_nothing(
    pipeline: Pipeline, service: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    pipeline.ship_to(service.url)
    metered = Metered(pipeline)
    with llm_exporter.labels(agent=SURROGATE):
        assert dict(current_labels()) == {"agent": "plan?ner"}
        assert llm_exporter.check_budget(phase=SURROGATE) == []
        llm_exporter.record(provider="openai", model=SURROGATE, tokens={"input": 1})
    monkeypatch.setenv("LLM_EXPORTER_LABELS", "agent=plan\udcffner")  # a byte that is not UTF-8
    assert from_environment() == {"agent": "plan?ner"}
    assert metered.samples("llm_calls_total", agent="plan?ner", model="plan?ner") == {
        ("chat", "unattributed", "openai"): 1
    }
    (stored,) = until(lambda: service.get("/api/v1/calls")["calls"])
    assert (stored["labels"], stored["model"]) == ({"agent": "plan?ner"}, "plan?ner")
    assert errors(pipeline) == {}


def test_the_sdk_gets_what_the_user_passes(metered: Metered, server: Server) -> None:
    """A model's name is cleaned for its labels only."""
    model = "gpt-4o\x07" + "x" * 300
    server.respond_with("/chat/completions", CHAT.responses[False]())
    client = llm_exporter.instrument(openai.OpenAI(base_url=server.url, api_key="k", max_retries=0))
    client.chat.completions.create(model=model, messages=[{"role": "user", "content": "\x07"}])
    assert json.loads(server.requests[0].body)["model"] == model
    assert metered.call.requested_model == "gpt-4o?" + "x" * 249


@pytest.fixture
def broken_log() -> Iterator[None]:
    class Broken(logging.Filter):
        def filter(self, record: LogRecord) -> bool:
            raise ValueError("a broken filter")

    broken = Broken()
    log.logger.addFilter(broken)
    yield
    log.logger.removeFilter(broken)


@pytest.mark.usefixtures("broken_log")
def test_a_log_filter_that_raises_harms_nothing(
    pipeline: Pipeline, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[Call] = []
    pipeline.subscribe(Once(seen.append, SystemExit))
    pipeline.record(a_call())
    pipeline.record(a_call())
    assert pipeline.flush()
    assert len(seen) == 1
    assert errors(pipeline) == {("subscriber",): 1}
    monkeypatch.setenv("LLM_EXPORTER_LABELS", "no label")
    assert from_environment() == {}  # on the caller's thread
    assert "llm-exporter: cannot log" in capsys.readouterr().err


def test_a_subscriber_that_blocks_delays_flush_by_its_timeout_only(pipeline: Pipeline) -> None:
    """Calls wait for the subscriber; nothing else of the process does."""
    free = threading.Event()
    working = threading.Event()

    def block(_: Call) -> None:
        working.set()
        free.wait(60)

    pipeline.subscribe(block)
    pipeline.record(a_call())
    assert working.wait(60)
    pipeline.record(a_call())
    assert not pipeline.flush(0.05)
    free.set()
    assert pipeline.flush()
    assert Metered(pipeline).total("llm_calls_total") == 2
