"""A call through any SDK is metered exactly, and its caller notices nothing."""

from __future__ import annotations

import asyncio
import contextvars
import threading
from typing import Any

import anthropic
import openai
import pytest
from opentelemetry.trace import NonRecordingSpan, SpanContext, TraceFlags, use_span

import llm_exporter
from llm_exporter.client.pipeline import Pipeline
from llm_exporter.config.model import Config
from support.metered import Metered
from support.operations import CHAT, GEMINI, MESSAGES, OPERATIONS, STREAMS, Operation
from support.payloads import chat, dump
from support.scripted import Response, Server

EVERY = pytest.mark.parametrize("operation", OPERATIONS, ids=str)
EVERY_STREAM = pytest.mark.parametrize("operation", STREAMS, ids=str)


@EVERY
def test_every_call_is_metered_to_the_token_and_the_cent(
    operation: Operation, server: Server, metered: Metered
) -> None:
    server.respond_with(operation.path, operation.response())
    client = llm_exporter.instrument(operation.client(server.url))
    with llm_exporter.labels(agent="counter", phase="execute", session="s-1"):
        operation.run(client)
    call, wire = metered.call, operation.wire
    assert (call.provider, call.model, call.requested_model) == (
        wire.provider,
        wire.model,
        wire.requested_model,
    )
    assert (call.operation, call.stream) == (wire.operation, operation.stream)
    assert call.labels == {"agent": "counter", "phase": "execute", "session": "s-1"}
    assert call.tokens == wire.tokens
    assert call.cost == wire.cost
    assert (call.error, call.retries, call.usage_reported) == (None, [], True)
    if operation.stream:
        assert call.time_to_first_token is not None
        assert 0 < call.time_to_first_token <= call.duration
    else:
        assert call.time_to_first_token is None
        assert call.duration > 0


@EVERY
def test_the_caller_gets_the_same_objects_with_and_without_a_meter(
    operation: Operation, server: Server, metered: Metered
) -> None:
    server.respond_with(operation.path, operation.response())
    plain = operation.run(operation.client(server.url))
    client = operation.client(server.url)
    assert llm_exporter.instrument(client) is client
    metered_objects = operation.run(client)
    assert [type(each) for each in metered_objects] == [type(each) for each in plain]
    assert [_contents(each) for each in metered_objects] == [_contents(each) for each in plain]
    assert len(metered.calls) == 1


def _contents(answer: Any) -> Any:
    return answer.model_dump(exclude={"sdk_http_response"})


@EVERY
@pytest.mark.parametrize(
    ("status", "kind"),
    [(400, "invalid_request"), (401, "auth"), (404, "not_found"), (413, "invalid_request")],
)
def test_the_caller_gets_the_same_exception_with_and_without_a_meter(
    operation: Operation, status: int, kind: str, server: Server, metered: Metered
) -> None:
    body = dump({"error": {"message": "no", "type": "t", "code": status, "status": "S"}})
    server.respond_with(operation.path, Response(body, status=status))
    with pytest.raises(Exception) as plain:  # noqa: PT011 - which one is the SDK's business
        operation.run(operation.client(server.url))
    with pytest.raises(Exception) as with_meter:  # noqa: PT011
        operation.run(llm_exporter.instrument(operation.client(server.url)))
    assert type(with_meter.value) is type(plain.value)
    assert str(with_meter.value) == str(plain.value)
    call = metered.call
    assert (call.error, call.tokens, call.model) == (kind, {}, operation.wire.requested_model)


@EVERY_STREAM
def test_a_stream_is_never_delayed(operation: Operation, server: Server, metered: Metered) -> None:
    """The provider sends the rest only after the caller has received the first object."""
    answer = operation.response()
    assert isinstance(answer.body, list)
    received = threading.Event()
    answer.before = {len(answer.body) - 1: received}
    server.respond_with(operation.path, answer)
    client = llm_exporter.instrument(operation.client(server.url))
    if operation.kind.startswith("async"):
        objects = asyncio.run(_read_async(operation, client, received))
    else:
        objects = []
        with client:
            for each in operation.wire.call(client, True):
                objects.append(each)
                received.set()
    assert len(objects) > 1
    assert metered.call.tokens == operation.wire.tokens


async def _read_async(operation: Operation, client: Any, received: threading.Event) -> list[Any]:
    objects = []
    async with client.aio if operation.wire is GEMINI else client as opened:
        async for each in await operation.wire.call(opened, True):
            objects.append(each)
            received.set()
    return objects


@pytest.mark.parametrize("kind", ["sync", "async"])
@pytest.mark.parametrize("wire", [CHAT, MESSAGES], ids=lambda wire: wire.name)
def test_a_retried_call_is_one_call_with_an_error_for_each_failed_attempt(
    wire: Any, kind: str, server: Server, metered: Metered
) -> None:
    operation = Operation(wire, kind, stream=False)
    later = {"retry-after-ms": "1"}
    server.respond_with(
        operation.path,
        Response(b"{}", status=429, headers=later),
        Response(b"{}", status=529, headers=later),
        operation.response(),
    )
    operation.run(llm_exporter.instrument(operation.client(server.url)))
    call = metered.call
    assert (call.error, call.retries) == (None, ["rate_limited", "overloaded"])
    assert call.tokens == wire.tokens
    assert metered.total("llm_calls_total") == 1
    assert metered.total("llm_retries_total", error="rate_limited") == 1
    assert metered.total("llm_retries_total", error="overloaded") == 1


def test_a_failed_call_has_the_error_of_its_last_attempt(server: Server, metered: Metered) -> None:
    operation = Operation(CHAT, "sync", stream=False)
    later = {"retry-after-ms": "1"}
    server.respond_with(
        operation.path,
        Response(b"{}", status=500, headers=later),
        Response(b"{}", status=429, headers=later),
    )
    with pytest.raises(openai.RateLimitError):
        operation.run(llm_exporter.instrument(operation.client(server.url)))
    assert (metered.call.error, metered.call.retries) == ("rate_limited", ["server_error", "rate_limited"])
    assert metered.total("llm_call_errors_total", error="rate_limited") == 1


def test_google_retries_are_one_call(server: Server, metered: Metered) -> None:
    operation = Operation(GEMINI, "sync", stream=False)
    overloaded = dump({"error": {"code": 503, "message": "later", "status": "UNAVAILABLE"}})
    server.respond_with(operation.path, Response(overloaded, status=503), operation.response())
    retry = {"retry_options": {"attempts": 2, "initial_delay": 0.001, "jitter": 0.001}}
    client = llm_exporter.instrument(operation.client(server.url))
    with client:
        client.models.generate_content(
            model="gemini-2.5-pro", contents="How many?", config={"http_options": retry}
        )
    assert (metered.call.error, metered.call.retries) == (None, ["overloaded"])
    assert metered.call.tokens == GEMINI.tokens


def test_a_refused_connection_is_a_connection_error(metered: Metered) -> None:
    with Server() as server:
        nobody = server.url
    client = llm_exporter.instrument(openai.OpenAI(base_url=nobody, api_key="k", max_retries=0))
    with client, pytest.raises(openai.APIConnectionError):
        client.chat.completions.create(model="gpt-4o", messages=[])
    assert metered.call.error == "connection"


def test_a_timeout_is_a_timeout_error(server: Server, metered: Metered) -> None:
    never = threading.Event()
    answer = Response([b"{}"], before={0: never})
    server.respond_with("/chat/completions", answer)
    client = llm_exporter.instrument(
        openai.OpenAI(base_url=server.url, api_key="k", max_retries=0, timeout=0.05)
    )
    with client, pytest.raises(openai.APITimeoutError):
        client.chat.completions.create(model="gpt-4o", messages=[])
    never.set()
    assert metered.call.error == "timeout"


def test_a_cancelled_call_is_counted_and_leaves_the_calls_in_flight(server: Server, metered: Metered) -> None:
    never = threading.Event()
    server.respond_with("/chat/completions", Response([b"{}"], before={0: never}))

    async def run() -> None:
        async with llm_exporter.instrument(openai.AsyncOpenAI(base_url=server.url, api_key="k")) as client:
            call = asyncio.create_task(client.chat.completions.create(model="gpt-4o", messages=[]))
            while not server.requests:
                await asyncio.sleep(0)
            assert metered.total("llm_calls_in_flight", model="gpt-4o") == 1
            call.cancel()
            with pytest.raises(asyncio.CancelledError):
                await call

    asyncio.run(run())
    never.set()
    assert metered.call.error == "cancelled"


def test_labels_reach_calls_in_threads_with_a_copied_context(server: Server, metered: Metered) -> None:
    operation = Operation(CHAT, "sync", stream=False)
    server.respond_with(operation.path, operation.response())
    llm_exporter.instrument()
    with llm_exporter.labels(agent="parent"):
        context = contextvars.copy_context()
    thread = threading.Thread(target=context.run, args=(operation.run, operation.client(server.url)))
    thread.start()
    thread.join()
    assert metered.call.agent == "parent"


def test_a_call_without_labels_is_unattributed(server: Server, metered: Metered) -> None:
    operation = Operation(CHAT, "sync", stream=False)
    server.respond_with(operation.path, operation.response())
    operation.run(llm_exporter.instrument(operation.client(server.url)))
    assert metered.total("llm_calls_total", agent="unattributed", phase="unattributed") == 1


def test_requests_that_generate_nothing_are_not_calls(server: Server, metered: Metered) -> None:
    server.respond_with("/models", Response(b'{"data": [], "object": "list"}'))
    with llm_exporter.instrument(openai.OpenAI(base_url=server.url, api_key="k")) as client:
        assert list(client.models.list()) == []
    assert metered.calls == []


def test_a_response_without_usage_is_counted_as_missing_usage(server: Server, metered: Metered) -> None:
    operation = Operation(CHAT, "sync", stream=True)
    server.respond_with(
        operation.path,
        Response([b'data: {"choices": []}\n\n', b"data: [DONE]\n\n"], content_type="text/event-stream"),
    )
    operation.run(llm_exporter.instrument(operation.client(server.url)))
    assert (metered.call.usage_reported, metered.call.error) == (False, None)
    assert metered.total("llm_usage_missing_total") == 1


def test_a_compaction_has_the_tier_speed_and_region_of_its_call(server: Server, metered: Metered) -> None:
    usage = {
        "input_tokens": 9,
        "output_tokens": 3,
        "service_tier": "priority",
        "speed": "fast",
        "inference_geo": "us",
        "iterations": [{"type": "compaction", "input_tokens": 800, "output_tokens": 40}],
    }
    message = {
        "type": "message",
        "role": "assistant",
        "content": [],
        "model": "claude-opus-4-6",
        "usage": usage,
    }
    server.respond_with("/v1/messages", Response(dump({"id": "msg_t", **message})))
    with llm_exporter.instrument(anthropic.Anthropic(base_url=server.url, api_key="k")) as client:
        client.messages.create(model="claude-opus-4-6", max_tokens=9, messages=[])
    calls = metered.calls
    assert [call.tokens for call in calls] == [{"input": 9, "output": 3}, {"input": 800, "output": 40}]
    assert {(call.service_tier, call.speed, call.region) for call in calls} == {("priority", "fast", "us")}


def test_a_body_that_is_not_json_is_an_error_for_the_caller_only(server: Server, pipeline: Pipeline) -> None:
    metered = Metered(pipeline)
    server.respond_with("/chat/completions", Response(b'{"choices": [', content_type="application/json"))
    with (
        llm_exporter.instrument(openai.OpenAI(base_url=server.url, api_key="k")) as client,
        pytest.raises(ValueError, match="Expecting value"),
    ):
        client.chat.completions.create(model="gpt-4o", messages=[])
    assert (metered.call.usage_reported, metered.call.error) == (False, None)
    assert metered.samples("llm_exporter_errors_total") == {}


def test_a_change_of_url_or_configuration_changes_the_provider(
    server: Server, pipeline: Pipeline, metered: Metered
) -> None:
    operation = Operation(CHAT, "sync", stream=False)
    server.respond_with(operation.path, operation.response())
    with llm_exporter.instrument(operation.client(server.url)) as client:
        CHAT.call(client, False)
        pipeline.configure(Config(providers={"127.0.0.1": "vllm"}))
        CHAT.call(client, False)
        client.base_url = server.url.replace("127.0.0.1", "localhost") + "/v1"
        CHAT.call(client, False)
    assert [call.provider for call in metered.calls] == ["openai", "vllm", "openai"]


def test_a_call_belongs_to_the_trace_of_the_span_that_it_was_made_in(
    server: Server, metered: Metered
) -> None:
    server.respond_with("/chat/completions", chat())
    span = NonRecordingSpan(SpanContext(0x4BF92F3577B34DA6A3CE929D0E0E4736, 1, False, TraceFlags(1)))
    with use_span(span), llm_exporter.instrument(openai.OpenAI(base_url=server.url, api_key="k")) as client:
        client.chat.completions.create(model="gpt-4o", messages=[])

    assert metered.call.trace_id == "4bf92f3577b34da6a3ce929d0e0e4736"
