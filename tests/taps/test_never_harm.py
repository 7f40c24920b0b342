"""The caller gets the provider's response, whatever breaks inside llm-exporter."""

from __future__ import annotations

import gzip
import logging
import sys
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import openai
import pytest

import llm_exporter
from llm_exporter.client import meter
from llm_exporter.client.pipeline import Pipeline
from llm_exporter.taps import google, response, send, usage_chunk
from support.metered import Metered
from support.operations import OPERATIONS, Operation
from support.payloads import chat_stream
from support.scripted import Response, Server


class OursError(Exception):
    """Must never reach a caller."""


def fails(*args: object, **kwargs: object) -> Any:
    raise OursError


def _readers(patch: pytest.MonkeyPatch, pipeline: Pipeline) -> None:
    from llm_exporter.wire.anthropic import MessagesReader
    from llm_exporter.wire.gemini import GenerateContentReader
    from llm_exporter.wire.openai import ChatReader
    from llm_exporter.wire.openai_responses import ResponsesReader

    for reader in (ChatReader, ResponsesReader, MessagesReader, GenerateContentReader):
        patch.setattr(reader, "read_body", fails)
        patch.setattr(reader, "read_event", fails)


def _sinks(patch: pytest.MonkeyPatch, pipeline: Pipeline) -> None:
    patch.setattr(pipeline.prices, "price", fails)
    patch.setattr(pipeline.metrics, "record", fails)
    pipeline.subscribe(fails)


def _budgets(patch: pytest.MonkeyPatch, pipeline: Pipeline) -> None:
    patch.setattr(pipeline.budgets, "holding", fails)
    patch.setattr(pipeline.budgets, "settle", fails)
    patch.setattr(pipeline.thresholds, "settle", fails)


def _framing(patch: pytest.MonkeyPatch, pipeline: Pipeline) -> None:
    patch.setattr(meter, "framing_for", fails)


def _conclusion(patch: pytest.MonkeyPatch, pipeline: Pipeline) -> None:
    patch.setattr(meter.Meter, "_conclude", fails)


def _hand_over(patch: pytest.MonkeyPatch, pipeline: Pipeline) -> None:
    patch.setattr(pipeline, "finished", fails)


def _begin(patch: pytest.MonkeyPatch, pipeline: Pipeline) -> None:
    patch.setattr(pipeline.providers, "of", fails)


def _looking(patch: pytest.MonkeyPatch, pipeline: Pipeline) -> None:
    patch.setattr(send, "_see_response", fails)
    patch.setattr(google, "_see_response", fails)


def _tracing(patch: pytest.MonkeyPatch, pipeline: Pipeline) -> None:
    patch.setitem(sys.modules, "opentelemetry.trace", SimpleNamespace(get_current_span=fails))


BREAKAGES: dict[str, tuple[Callable[[pytest.MonkeyPatch, Pipeline], None], set[str]]] = {
    "every reader": (_readers, {"wire"}),
    "every sink": (_sinks, {"prices", "metrics", "subscriber"}),
    "the budgets": (_budgets, {"budgets", "thresholds"}),
    "the framing": (_framing, {"wire"}),
    "the conclusion": (_conclusion, {"meter"}),
    "the hand-over": (_hand_over, {"meter"}),
    "the beginning": (_begin, {"tap"}),
    "the look at the response": (_looking, {"tap"}),
    "the span in force": (_tracing, {"labels", "tracing"}),
}


@pytest.mark.parametrize("operation", OPERATIONS, ids=str)
@pytest.mark.parametrize("broken", BREAKAGES)
def test_our_exception_reaches_the_log_and_a_metric_but_never_the_caller(
    broken: str,
    operation: Operation,
    server: Server,
    pipeline: Pipeline,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    said: Callable[[], list[logging.LogRecord]],
) -> None:
    server.respond_with(operation.path, operation.response())
    plain = operation.run(operation.client(server.url))
    break_it, where = BREAKAGES[broken]
    break_it(monkeypatch, pipeline)
    with caplog.at_level(logging.ERROR, "llm_exporter"):
        objects = operation.run(llm_exporter.instrument(operation.client(server.url)))
        metered = Metered(pipeline)
        errors = metered.samples("llm_exporter_errors_total")
    assert [type(each) for each in objects] == [type(each) for each in plain]
    assert {name for (name,) in errors} == where
    assert all("the call is not affected" in record.getMessage() for record in said())
    assert all(record.exc_info and record.exc_info[0] is OursError for record in said())
    assert len(said()) == sum(errors.values())


def test_a_call_succeeds_even_if_an_error_cannot_be_counted(
    server: Server, pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    operation = OPERATIONS[0]
    server.respond_with(operation.path, operation.response())
    monkeypatch.setattr(pipeline.providers, "of", fails)
    monkeypatch.setattr(pipeline.metrics, "count_error", fails)
    (answer,) = operation.run(llm_exporter.instrument(operation.client(server.url)))
    assert answer.choices[0].message.content == "Seven."
    assert pipeline.flush()


def test_a_failed_withdrawal_of_our_request_for_usage_leaves_the_caller_with_the_rejection(
    server: Server, pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    rejection = Response(b'{"message": "unknown field stream_options"}', status=400)
    server.respond_with("/chat/completions", rejection)
    monkeypatch.setattr(usage_chunk.UsageRequest, "withdraw", fails)
    client = llm_exporter.instrument(openai.OpenAI(base_url=server.url, api_key="k"), ask_for_usage=True)
    with client, pytest.raises(openai.BadRequestError, match="unknown field"):
        client.chat.completions.create(model="gpt-4o", messages=[], stream=True)
    assert Metered(pipeline).samples("llm_exporter_errors_total") == {("tap",): 1}


@pytest.mark.parametrize("compressed", [False, True])
def test_a_response_that_cannot_be_tapped_reaches_the_caller(
    compressed: bool, server: Server, pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    answer = chat_stream()
    if compressed:
        assert isinstance(answer.body, list)
        answer.body, answer.headers = gzip.compress(b"".join(answer.body)), {"content-encoding": "gzip"}
    server.respond_with("/chat/completions", answer)
    monkeypatch.setattr(response, "_tapped_stream", fails)
    monkeypatch.setattr(response, "TappedDecoder", fails)
    with llm_exporter.instrument(openai.OpenAI(base_url=server.url, api_key="k")) as client:
        assert len(list(client.chat.completions.create(model="gpt-4o", messages=[], stream=True))) == 4
    assert Metered(pipeline).samples("llm_exporter_errors_total") == {("tap",): 1}
