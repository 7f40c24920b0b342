"""A stream is counted once, however it ends."""

from __future__ import annotations

import asyncio
import gc
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import httpx
import openai
import pytest

import llm_exporter
from support.metered import Metered
from support.operations import CHAT, MESSAGES, STREAMS, Operation
from support.payloads import STREAM, chat_stream
from support.scripted import Response, Server

SYNC = [operation for operation in STREAMS if operation.kind.startswith("sync")]
ASYNC = [operation for operation in STREAMS if operation.kind.startswith("async")]


def stop_after_one(stream: Any) -> None:
    for _ in stream:
        break


def close_after_one(stream: Any) -> None:
    next(iter(stream))
    stream.close()


def fail_after_one(stream: Any) -> None:
    with suppress(LookupError):
        for _ in stream:
            raise LookupError


@pytest.mark.parametrize("leave", [stop_after_one, close_after_one, fail_after_one])
@pytest.mark.parametrize("operation", SYNC, ids=str)
def test_a_stream_left_early_is_one_call(
    operation: Operation, leave: Callable[[Any], None], server: Server, metered: Metered
) -> None:
    server.respond_with(operation.path, operation.response())
    with llm_exporter.instrument(operation.client(server.url)) as client:
        stream = operation.wire.call(client, True)
        leave(stream)
        del stream
        gc.collect()
        assert metered.call.error is None
        assert metered.call.provider == operation.wire.provider


@pytest.mark.parametrize("operation", ASYNC, ids=str)
def test_an_async_stream_left_early_is_one_call(
    operation: Operation, server: Server, metered: Metered
) -> None:
    server.respond_with(operation.path, operation.response())

    async def run() -> None:
        client = llm_exporter.instrument(operation.client(server.url))
        async with client.aio if operation.wire.provider == "google" else client as opened:
            stream = await operation.wire.call(opened, True)
            async for _ in stream:
                break
            await (stream.aclose() if hasattr(stream, "aclose") else stream.close())
            del stream
            gc.collect()
            await asyncio.sleep(0)

    asyncio.run(run())
    assert metered.call.error is None


def test_a_closed_stream_is_counted_at_once_even_if_the_caller_keeps_it(
    server: Server, metered: Metered
) -> None:
    operation = Operation(CHAT, "sync", stream=True)
    server.respond_with(operation.path, operation.response())
    with llm_exporter.instrument(operation.client(server.url)) as client:
        stream = operation.wire.call(client, True)
        next(stream)
        assert metered.calls == []
        stream.close()
        assert metered.call.stream


def test_an_unread_stream_is_counted_when_it_is_garbage_collected(server: Server, metered: Metered) -> None:
    operation = Operation(CHAT, "sync", stream=True)
    server.respond_with(operation.path, operation.response())
    with llm_exporter.instrument(operation.client(server.url)) as client:
        stream = operation.wire.call(client, True)
        assert metered.calls == []
        del stream
        gc.collect()
        assert metered.call.usage_reported is False


def test_a_stream_cut_by_the_server_is_a_connection_error_with_the_usage_so_far(
    server: Server, metered: Metered
) -> None:
    operation = Operation(MESSAGES, "sync", stream=True)
    answer = operation.response()
    answer.body, answer.cut = answer.body[:3], True
    server.respond_with(operation.path, answer)
    with (
        llm_exporter.instrument(operation.client(server.url)) as client,
        pytest.raises(Exception, match="closed"),
    ):
        list(operation.wire.call(client, True))
    call = metered.call
    assert call.error == "connection"
    assert call.tokens["cache_read"] == 10_000
    assert call.tokens["output"] == 2


def test_a_stream_that_times_out_between_chunks_is_a_timeout(server: Server, metered: Metered) -> None:
    never = threading.Event()
    answer = chat_stream()
    answer.before = {2: never}
    server.respond_with("/chat/completions", answer)
    client = openai.OpenAI(base_url=server.url, api_key="k", timeout=0.1, max_retries=0)
    # openai 2 does not wrap httpx's exception.
    with llm_exporter.instrument(client), pytest.raises((openai.APITimeoutError, httpx.ReadTimeout)):
        list(client.chat.completions.create(model="gpt-4o", messages=[], stream=True))
    never.set()
    assert metered.call.error == "timeout"


def test_a_task_cancelled_while_reading_is_a_cancelled_call(server: Server, metered: Metered) -> None:
    never = threading.Event()
    answer = chat_stream()
    answer.before = {2: never}
    server.respond_with("/chat/completions", answer)

    async def run() -> None:
        first = asyncio.Event()

        async def read() -> None:
            stream = await client.chat.completions.create(model="gpt-4o", messages=[], stream=True)
            async for _ in stream:
                first.set()

        async with llm_exporter.instrument(openai.AsyncOpenAI(base_url=server.url, api_key="k")) as client:
            task = asyncio.create_task(read())
            await first.wait()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task

    asyncio.run(run())
    never.set()
    assert metered.call.error == "cancelled"


def test_an_error_event_in_a_stream_is_the_error_of_the_call(server: Server, metered: Metered) -> None:
    operation = Operation(MESSAGES, "sync", stream=True)
    answer = operation.response()
    assert isinstance(answer.body, list)
    overloaded = (
        b'event: error\ndata: {"type": "error", "error": {"type": "overloaded_error", "message": "x"}}\n\n'
    )
    answer.body = [*answer.body[:3], overloaded]
    server.respond_with(operation.path, answer)
    with (
        llm_exporter.instrument(operation.client(server.url)) as client,
        pytest.raises(Exception, match="overloaded"),
    ):
        list(operation.wire.call(client, True))
    assert metered.call.error == "overloaded"
    assert metered.call.tokens["cache_read"] == 10_000


def test_a_compressed_stream_is_metered(server: Server, metered: Metered) -> None:
    import gzip

    operation = Operation(CHAT, "sync", stream=True)
    answer = operation.response()
    assert isinstance(answer.body, list)
    packed = gzip.compress(b"".join(answer.body))
    pieces = [packed[start : start + 50] for start in range(0, len(packed), 50)]
    server.respond_with(
        operation.path, Response(pieces, content_type=STREAM, headers={"content-encoding": "gzip"})
    )
    operation.run(llm_exporter.instrument(operation.client(server.url)))
    assert metered.call.tokens == CHAT.tokens


def test_a_raw_response_is_metered(server: Server, metered: Metered) -> None:
    operation = Operation(CHAT, "sync", stream=False)
    server.respond_with(operation.path, operation.response())
    with llm_exporter.instrument(operation.client(server.url)) as client:
        raw = client.chat.completions.with_raw_response.create(model="gpt-4o", messages=[])
        assert raw.parse().choices[0].message.content == "Seven."
    assert metered.call.tokens == CHAT.tokens


def test_a_streaming_response_is_metered_at_the_end_of_its_block(server: Server, metered: Metered) -> None:
    operation = Operation(CHAT, "sync", stream=False)
    server.respond_with(operation.path, operation.response())
    with llm_exporter.instrument(operation.client(server.url)) as client:
        streaming = client.chat.completions.with_streaming_response
        with streaming.create(model="gpt-4o", messages=[]) as response:
            assert metered.calls == []
            assert b"Seven." in b"".join(response.iter_bytes(chunk_size=7))
    assert metered.call.tokens == CHAT.tokens


@pytest.mark.parametrize("helper", ["chat", "messages"])
def test_the_sdks_own_stream_helpers_are_metered(helper: str, server: Server, metered: Metered) -> None:
    wire = {"chat": CHAT, "messages": MESSAGES}[helper]
    operation = Operation(wire, "sync", stream=True)
    server.respond_with(operation.path, operation.response())
    with llm_exporter.instrument(operation.client(server.url)) as client:
        if helper == "chat":
            asked = {"model": "gpt-4o", "messages": [], "stream_options": {"include_usage": True}}
            with client.chat.completions.stream(**asked) as stream:
                stream.until_done()
        else:
            with client.messages.stream(model="claude-sonnet-4-6", max_tokens=9, messages=[]) as stream:
                assert stream.get_final_text() == "Seven."
    assert metered.call.tokens == wire.tokens
