"""A stream is counted once, however it ends."""

from __future__ import annotations

import asyncio
import copy
import gc
import gzip
import json
import pickle
import threading
import zlib
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from importlib import import_module
from typing import Any

import httpx
import openai
import pytest

import llm_exporter
from support.metered import Metered
from support.operations import CHAT, MESSAGES, STREAMS, Operation
from support.payloads import STREAM, chat_stream
from support.scripted import Response, Server, sse

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


USAGE = {"prompt_tokens": 1200, "completion_tokens": 300, "total_tokens": 1500}
TOKENS = {"input": 1200, "output": 300}

SYNC_READS: dict[str, Callable[[Any], Any]] = {
    "iter_bytes": lambda response: b"".join(response.iter_bytes()),
    "iter_bytes in pieces": lambda response: b"".join(response.iter_bytes(chunk_size=5)),
    "iter_raw": lambda response: b"".join(response.iter_raw()),
    "iter_raw in pieces": lambda response: b"".join(response.iter_raw(chunk_size=5)),
    "iter_text": lambda response: "".join(response.iter_text()),
    "iter_lines": lambda response: list(response.iter_lines()),
    "read": lambda response: response.read(),
    "read, then text": lambda response: (response.read(), response.text)[1],
    "read, then iter_bytes": lambda response: (response.read(), b"".join(response.iter_bytes()))[1],
    "stream": lambda response: b"".join(response.stream),
}


async def gather(chunks: Any) -> list[Any]:
    return [chunk async for chunk in chunks]


async def aread_text(response: Any) -> str:
    await response.aread()
    return str(response.text)


ASYNC_READS: dict[str, Callable[[Any], Any]] = {
    "aiter_bytes": lambda response: gather(response.aiter_bytes()),
    "aiter_raw": lambda response: gather(response.aiter_raw()),
    "aiter_text": lambda response: gather(response.aiter_text()),
    "aiter_lines": lambda response: gather(response.aiter_lines()),
    "aread": lambda response: response.aread(),
    "aread, then text": aread_text,
    "stream": lambda response: gather(response.stream),
}
CHAT_STREAM: dict[str, Any] = {"model": "gpt-4o", "messages": [], "stream": True}


def respond(server: Server, **options: Any) -> None:
    """Respond with usage if it was requested, then without it."""
    asked, unasked = chat_stream(USAGE), chat_stream(None)
    asked.headers, unasked.headers = dict(options), dict(options)
    server.respond_with("/chat/completions", asked, unasked)


def openai_client(server: Server, *, metered: bool, **options: Any) -> openai.OpenAI:
    client = openai.OpenAI(base_url=server.url, api_key="k", **options)
    return llm_exporter.instrument(client, ask_for_usage=True) if metered else client


HTTP_CLIENTS: dict[str, Callable[[], Any]] = {"default": openai.DefaultHttpxClient, "httpx": httpx.Client}
"""Newer SDKs use httpx2 by default, and accept a client of httpx."""


@pytest.mark.parametrize("library", HTTP_CLIENTS)
@pytest.mark.parametrize("way", SYNC_READS)
def test_every_way_to_read_a_response_is_metered_and_hides_the_usage_chunk(
    way: str, library: str, server: Server, metered: Metered
) -> None:
    respond(server)
    seen = []
    for is_metered in (True, False):
        with (
            openai_client(server, metered=is_metered, http_client=HTTP_CLIENTS[library]()) as client,
            client.chat.completions.with_streaming_response.create(**CHAT_STREAM) as response,
        ):
            seen.append(SYNC_READS[way](response.http_response))
    assert seen[0] == seen[1] != b""
    assert metered.call.tokens == TOKENS
    assert metered.call.stream


@pytest.mark.parametrize("way", ASYNC_READS)
def test_every_asynchronous_way_to_read_a_response_is_metered(
    way: str, server: Server, metered: Metered
) -> None:
    respond(server)

    async def read(*, is_metered: bool) -> Any:
        async with openai.AsyncOpenAI(base_url=server.url, api_key="k") as client:
            if is_metered:
                llm_exporter.instrument(client, ask_for_usage=True)
            streaming = client.chat.completions.with_streaming_response
            async with streaming.create(**CHAT_STREAM) as response:
                return await ASYNC_READS[way](response.http_response)

    seen = [asyncio.run(read(is_metered=is_metered)) for is_metered in (True, False)]
    assert seen[0] == seen[1] != b""
    assert metered.call.tokens == TOKENS


@pytest.mark.parametrize("hook", ["read", "text", "aread"])
def test_a_response_that_an_event_hook_has_read_is_metered_and_hides_the_usage_chunk(
    hook: str, server: Server, metered: Metered
) -> None:
    respond(server)

    def read(response: Any) -> None:
        assert response.read()
        if hook == "text":
            assert '"usage"' in response.text

    async def aread(response: Any) -> None:
        assert await response.aread()

    async def achunks() -> list[Any]:
        http = openai.DefaultAsyncHttpxClient(event_hooks={"response": [aread]})
        async with openai.AsyncOpenAI(base_url=server.url, api_key="k", http_client=http) as client:
            llm_exporter.instrument(client, ask_for_usage=True)
            return [chunk async for chunk in await client.chat.completions.create(**CHAT_STREAM)]

    def chunks() -> list[Any]:
        http = openai.DefaultHttpxClient(event_hooks={"response": [read]})
        with openai_client(server, metered=True, http_client=http) as client:
            stream = client.chat.completions.create(**CHAT_STREAM)
            received = list(stream)
            assert b"total_tokens" not in stream.response.content
            assert "total_tokens" not in stream.response.text
            return received

    received = asyncio.run(achunks()) if hook == "aread" else chunks()
    assert [chunk.choices[0].delta.content for chunk in received] == ["", "Sev", "en.", None]
    assert metered.call.tokens == TOKENS
    assert metered.call.stream


def test_a_stream_that_an_event_hook_has_read_is_estimated_if_it_reports_no_usage(
    server: Server, metered: Metered
) -> None:
    server.respond_with("/chat/completions", chat_stream(None))
    http = openai.DefaultHttpxClient(event_hooks={"response": [lambda response: response.read()]})
    with llm_exporter.instrument(openai.OpenAI(base_url=server.url, api_key="k", http_client=http)) as client:
        assert len(list(client.chat.completions.create(**CHAT_STREAM))) == 4
    assert metered.call.estimated
    assert metered.call.stream


@pytest.mark.parametrize(
    "spoil", [lambda response: list(response.iter_raw()), lambda response: response.close()]
)
def test_a_response_that_a_hook_consumed_fails_as_without_us(
    spoil: Callable[[Any], Any], server: Server, metered: Metered
) -> None:
    respond(server)
    errors: list[type] = []
    kept: list[Any] = []
    for is_metered in (True, False):
        http = openai.DefaultHttpxClient(event_hooks={"response": [spoil, kept.append]})
        with openai_client(server, metered=is_metered, http_client=http) as client:
            with pytest.raises(Exception, match=r"closed|consumed|streamed") as raised:
                list(client.chat.completions.create(**CHAT_STREAM))
            errors.append(type(raised.value))
    assert errors[0] is errors[1]
    assert not metered.call.usage_reported


@pytest.mark.parametrize("content_type", ["", "text/plain", "Text/Event-Stream; charset=utf-8"])
def test_the_usage_chunk_is_hidden_whatever_text_the_content_type_says(
    content_type: str, server: Server, metered: Metered
) -> None:
    answer = chat_stream(USAGE)
    answer.content_type = content_type
    server.respond_with("/chat/completions", answer)
    with openai_client(server, metered=True) as client:
        received = list(client.chat.completions.create(**CHAT_STREAM))
    assert [len(chunk.choices) for chunk in received] == [1, 1, 1, 1]
    assert metered.call.tokens == TOKENS


def test_a_streamed_response_keeps_its_class_and_can_be_copied_and_pickled(
    server: Server, metered: Metered
) -> None:
    respond(server)
    classes = []
    hooks = {"response": [lambda response: classes.append(type(response))]}
    with openai_client(
        server, metered=True, http_client=openai.DefaultHttpxClient(event_hooks=hooks)
    ) as client:
        streaming = client.chat.completions.with_streaming_response
        with streaming.create(**CHAT_STREAM) as streamed:
            response = streamed.http_response
            assert type(response) is classes[0]
            assert response.read()
            assert response.elapsed.total_seconds() > 0
            pickled = pickle.loads(pickle.dumps(response))  # noqa: S301 - our own
            for other in (copy.copy(response), copy.deepcopy(response), pickled):
                assert type(other) is classes[0]
                assert other.content == response.content
    assert metered.call.tokens == TOKENS


COMPRESSIONS: dict[str, Callable[[bytes], bytes]] = {
    "gzip": gzip.compress,
    "deflate": zlib.compress,
    "gzip, deflate": lambda body: zlib.compress(gzip.compress(body)),
}


def respond_compressed(server: Server, encoding: str, end: bytes = b"") -> None:
    for answer in (chat_stream(USAGE), chat_stream(None)):
        assert isinstance(answer.body, list)
        packed = COMPRESSIONS[encoding](b"".join(answer.body) + end)
        answer.body = [packed[start : start + 50] for start in range(0, len(packed), 50)]
        answer.headers = {"content-encoding": encoding}
        server.respond_with("/chat/completions", answer)


@pytest.mark.parametrize("way", [way for way in SYNC_READS if "raw" not in way and way != "stream"])
@pytest.mark.parametrize("encoding", COMPRESSIONS)
def test_a_compressed_stream_is_metered_and_hides_the_usage_chunk(
    encoding: str, way: str, server: Server, metered: Metered
) -> None:
    respond_compressed(server, encoding)
    seen = []
    for is_metered in (True, False):
        with (
            openai_client(server, metered=is_metered) as client,
            client.chat.completions.with_streaming_response.create(**CHAT_STREAM) as response,
        ):
            seen.append(SYNC_READS[way](response.http_response))
    assert seen[0] == seen[1] != b""
    assert metered.call.tokens == TOKENS


@pytest.mark.parametrize("library", HTTP_CLIENTS)
def test_an_incomplete_event_at_the_end_of_a_compressed_stream_is_shown(
    library: str, server: Server, metered: Metered
) -> None:
    respond_compressed(server, "gzip", end=b'data: {"incomplete": tru')
    with (
        openai_client(server, metered=True, http_client=HTTP_CLIENTS[library]()) as client,
        client.chat.completions.with_streaming_response.create(**CHAT_STREAM) as response,
    ):
        content = response.http_response.read()
    assert content.endswith(b'[DONE]\n\ndata: {"incomplete": tru')
    assert b"total_tokens" not in content
    assert metered.call.tokens == TOKENS


def test_an_asynchronous_compressed_stream_is_metered(server: Server, metered: Metered) -> None:
    respond_compressed(server, "gzip")

    async def run() -> list[Any]:
        async with openai.AsyncOpenAI(base_url=server.url, api_key="k") as client:
            llm_exporter.instrument(client, ask_for_usage=True)
            return [chunk async for chunk in await client.chat.completions.create(**CHAT_STREAM)]

    assert [len(chunk.choices) for chunk in asyncio.run(run())] == [1, 1, 1, 1]
    assert metered.call.tokens == TOKENS


def test_the_compressed_bytes_of_a_stream_pass_unread(server: Server, metered: Metered) -> None:
    respond_compressed(server, "gzip")
    with (
        openai_client(server, metered=True) as client,
        client.chat.completions.with_streaming_response.create(**CHAT_STREAM) as response,
    ):
        whole = gzip.decompress(b"".join(response.http_response.iter_raw()))
    assert b"total_tokens" in whole
    assert not metered.call.usage_reported


def test_a_corrupt_compressed_stream_fails_as_without_us(server: Server, metered: Metered) -> None:
    packed = gzip.compress(b"data: {}\n\n" * 99)
    corrupt = [packed[:10], b"\xff" * 40]
    headers = {"content-encoding": "gzip"}
    server.respond_with("/chat/completions", Response(corrupt, content_type=STREAM, headers=headers))
    errors = []
    for is_metered in (True, False):
        with openai_client(server, metered=is_metered) as client:
            with pytest.raises(Exception, match=r"onnection error|decompress") as raised:
                list(client.chat.completions.create(**CHAT_STREAM))
            errors.append(type(raised.value))
    assert errors[0] is errors[1]
    assert metered.call.error is not None


def test_the_rest_of_an_asynchronous_stream_that_openai_drains_is_not_read_twice(
    server: Server, metered: Metered
) -> None:
    """30 chunks of 8 characters are 60 tokens. This transport yields its bytes as often as it is read."""
    chunks = [json.dumps({"choices": [{"index": 0, "delta": {"content": "eight ch"}}]})] * 30
    body = b"".join(sse(*chunks)) + b"data: [DONE]\n\n"
    package = import_module(openai.DefaultAsyncHttpxClient.__mro__[1].__module__.partition(".")[0])

    class Again(package.AsyncByteStream):  # type: ignore[misc, name-defined]
        async def __aiter__(self) -> AsyncIterator[bytes]:
            yield body

    class Transport(package.AsyncBaseTransport):  # type: ignore[misc, name-defined]
        async def handle_async_request(self, request: Any) -> Any:
            return package.Response(200, headers={"content-type": STREAM}, stream=Again())

    async def run() -> None:
        http = openai.DefaultAsyncHttpxClient(transport=Transport())
        async with openai.AsyncOpenAI(base_url=server.url, api_key="k", http_client=http) as client:
            llm_exporter.instrument(client)
            assert len([each async for each in await client.chat.completions.create(**CHAT_STREAM)]) == 30

    asyncio.run(run())
    assert metered.call.tokens == {"output": 60}
    assert metered.call.error is None


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
