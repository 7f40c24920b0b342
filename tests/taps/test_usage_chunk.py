"""OpenAI's chat streams report their usage without the caller noticing."""

from __future__ import annotations

import asyncio
import json
import math
import re
from collections.abc import Callable, Iterator
from itertools import pairwise
from logging import LogRecord
from pathlib import Path
from time import thread_time
from typing import Any

import httpx
import openai
import pytest
from hypothesis import given
from hypothesis import strategies as st

import llm_exporter
from llm_exporter.client.pipeline import Pipeline
from llm_exporter.config.model import Config
from llm_exporter.pricing.providers import Providers
from llm_exporter.taps import usage_chunk
from llm_exporter.taps.usage_chunk import ACCEPTING, UsageChunkFilter, may_ask, usage_request
from support import payloads
from support.metered import Metered
from support.operations import CHAT, Operation
from support.scripted import Response, Server, sse

USAGE = {"prompt_tokens": 1200, "completion_tokens": 300, "total_tokens": 1500}
REQUESTED = {"include_usage": True}


def stream_options_of(server: Server) -> Any:
    return json.loads(server.requests[-1].body).get("stream_options")


def asking(client: Any) -> Any:
    """Instrument a client that requests usage from the scripted server, which nobody knows."""
    return llm_exporter.instrument(client, ask_for_usage=True)


@pytest.fixture(autouse=True)
def _no_host_has_rejected_the_option() -> Iterator[None]:
    yield
    usage_chunk.rejecting_hosts.clear()


def stream(client: Any, **options: Any) -> Any:
    return client.chat.completions.create(model="gpt-4o", messages=[], stream=True, **options)


def test_usage_is_requested_and_the_caller_never_sees_the_usage_chunk(
    server: Server, metered: Metered
) -> None:
    server.respond_with("/chat/completions", payloads.chat_stream(USAGE), payloads.chat_stream(None))
    with openai.OpenAI(base_url=server.url, api_key="k") as client:
        asking(client)
        seen = list(stream(client))
        assert stream_options_of(server) == REQUESTED
        llm_exporter.uninstrument(client)
        unmetered = list(stream(client))
    assert [chunk.model_dump() for chunk in seen] == [chunk.model_dump() for chunk in unmetered]
    assert metered.call.tokens == {"input": 1200, "output": 300}
    assert not metered.call.estimated


def test_a_caller_that_sets_the_option_gets_what_it_requested(server: Server, metered: Metered) -> None:
    server.respond_with("/chat/completions", payloads.chat_stream(USAGE))
    with asking(openai.OpenAI(base_url=server.url, api_key="k")) as client:
        *_, last = stream(client, stream_options={"include_usage": True})
        assert last.usage.total_tokens == 1500
        list(stream(client, stream_options={"include_usage": False}))
    assert stream_options_of(server) == {"include_usage": False}


def test_requesting_usage_can_be_turned_off(server: Server, metered: Metered) -> None:
    server.respond_with("/chat/completions", payloads.chat_stream(None))
    client = openai.OpenAI(base_url=server.url, api_key="k")
    with llm_exporter.instrument(client, ask_for_usage=False):
        list(stream(client))
    assert stream_options_of(server) is None


def test_the_callers_own_body_is_not_changed(server: Server, metered: Metered) -> None:
    server.respond_with("/chat/completions", payloads.chat_stream(USAGE))
    body: dict[str, Any] = {"model": "gpt-4o", "messages": [], "stream": True}
    with asking(openai.OpenAI(base_url=server.url, api_key="k")) as client:
        list(
            client.post(
                "/chat/completions",
                body=body,
                cast_to=openai.types.chat.ChatCompletionChunk,
                stream=True,
                stream_cls=openai.Stream[openai.types.chat.ChatCompletionChunk],
            )
        )
    assert stream_options_of(server) == REQUESTED
    assert body == {"model": "gpt-4o", "messages": [], "stream": True}


OPENAI = "https://api.openai.com/v1/"
AZURE = "https://t.openai.azure.com/openai/"


@pytest.mark.parametrize(
    ("base_url", "expected"),
    [
        (OPENAI, True),
        ("https://us.api.openai.com/v1/", True),
        ("https://eu.api.openai.com/v1/", True),
        (AZURE, True),
        ("https://t.services.ai.azure.com/openai/v1/", True),
        ("http://localhost:11434/v1/", True),  # Ollama
        ("https://adb-1.2.azuredatabricks.net/serving-endpoints", False),
        ("https://adb-1.cloud.databricks.com/serving-endpoints", False),
        ("https://a-b.snowflakecomputing.com/api/v2/cortex/v1", False),
        ("https://api.mistral.ai/v1", False),
        ("https://api.perplexity.ai", False),
        ("https://api.deepseek.com", False),
        ("https://api.groq.com/openai/v1", False),
        ("https://api.x.ai/v1", False),
        ("https://openrouter.ai/api/v1", False),
        ("https://router.huggingface.co/v1", False),
        ("https://gateway.example.com/v1", False),
        ("http://127.0.0.1:4000/v1", False),
    ],
)
def test_only_services_known_to_accept_the_option_are_asked(base_url: str, expected: bool) -> None:
    endpoint = Providers().of(base_url, "OpenAI", "openai")
    assert may_ask(endpoint, None) is expected
    assert not may_ask(endpoint, False)


@pytest.mark.parametrize(
    ("base_url", "expected"),
    [
        ("https://gateway.example.com/v1", True),
        ("https://api.deepseek.com", True),
        ("https://api.mistral.ai/v1", False),
        ("https://api.perplexity.ai", False),
        ("https://adb-1.cloud.databricks.com/serving-endpoints", False),
    ],
)
def test_services_known_to_reject_the_option_are_not_asked_even_if_all_are(
    base_url: str, expected: bool
) -> None:
    assert may_ask(Providers().of(base_url, "OpenAI", "openai"), True) is expected


def test_every_service_that_is_asked_has_a_source() -> None:
    assert all(source.startswith("https://") for source in ACCEPTING.values())


@pytest.mark.parametrize(
    ("provider", "asked"),
    [("openai", True), ("azure", True), ("vllm", True), ("mistral", False), ("my-own-server", False)],
)
def test_an_address_in_the_configuration_is_asked_as_its_provider_is(provider: str, asked: bool) -> None:
    providers = Providers({"gateway.example.com": provider})
    assert may_ask(providers.of("https://gateway.example.com/v1", "OpenAI", "openai"), None) is asked


def test_an_unknown_service_is_not_asked_unless_it_is_configured(
    server: Server, pipeline: Pipeline, metered: Metered
) -> None:
    server.respond_with("/chat/completions", payloads.chat_stream(None), payloads.chat_stream(USAGE))
    with llm_exporter.instrument(openai.OpenAI(base_url=server.url, api_key="k")) as client:
        list(stream(client))
        assert stream_options_of(server) is None
        pipeline.configure(Config(providers={server.url.removeprefix("http://"): "azure"}))
        assert [len(chunk.choices) for chunk in stream(client)] == [1, 1, 1, 1]
    assert stream_options_of(server) == REQUESTED
    unasked, asked = metered.calls
    assert (unasked.usage_reported, unasked.estimated, asked.usage_reported) == (False, True, True)
    assert metered.total("llm_usage_missing_total") == 1


@pytest.mark.parametrize("ask_for_usage", [True, False])
def test_a_client_is_asked_as_all_clients_are_unless_it_says_otherwise(
    ask_for_usage: bool, server: Server, metered: Metered
) -> None:
    server.respond_with("/chat/completions", payloads.chat_stream(None))
    llm_exporter.instrument(ask_for_usage=ask_for_usage)
    with llm_exporter.instrument(openai.OpenAI(base_url=server.url, api_key="k")) as client:
        list(stream(client))
        assert (stream_options_of(server) is not None) is ask_for_usage
        llm_exporter.instrument(client, ask_for_usage=not ask_for_usage)
        list(stream(client))
        assert (stream_options_of(server) is not None) is not ask_for_usage


@pytest.mark.parametrize(("value", "asked"), [("true", True), ("false", False), ("", False)])
def test_the_environment_says_whether_to_ask(
    value: str, asked: bool, server: Server, metered: Metered, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LLM_EXPORTER_ASK_FOR_USAGE", value)
    server.respond_with("/chat/completions", payloads.chat_stream(None))
    with llm_exporter.instrument(openai.OpenAI(base_url=server.url, api_key="k")) as client:
        list(stream(client))
    assert (stream_options_of(server) is not None) is asked


def test_an_invalid_value_in_the_environment_is_a_config_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LLM_EXPORTER_ASK_FOR_USAGE", "maybe")
    with pytest.raises(llm_exporter.ConfigError, match="must be true or false, not 'maybe'"):
        llm_exporter.instrument()


def requested(
    body: Any, base_url: str = OPENAI, api_version: str | None = None, extra: Any = None
) -> dict[str, Any] | None:
    added = usage_request(body, extra, httpx.URL(base_url), api_version)
    return None if added is None else added.body


@pytest.mark.parametrize(
    ("body", "base_url", "api_version"),
    [
        pytest.param({"stream": False}, OPENAI, None, id="no stream"),
        pytest.param({}, OPENAI, None, id="no stream said"),
        pytest.param({"stream": True}, AZURE, "2024-06-01", id="an Azure too old"),
        pytest.param({"stream": True, "data_sources": []}, AZURE, "2024-10-21", id="Azure On Your Data"),
        pytest.param(
            {"stream": True, "stream_options": {"include_usage": False}}, OPENAI, None, id="said no"
        ),
        pytest.param({"stream": True, "stream_options": "x"}, OPENAI, None, id="not understood"),
        pytest.param([], OPENAI, None, id="no object"),
        pytest.param(None, OPENAI, None, id="no body"),
    ],
)
def test_other_requests_stay_unchanged(body: Any, base_url: str, api_version: str | None) -> None:
    assert requested(body, base_url, api_version) is None


@pytest.mark.parametrize("extra", [{"stream_options": None}, {"data_sources": []}])
def test_a_request_with_these_extra_fields_stays_unchanged(extra: Any) -> None:
    assert requested({"stream": True}, AZURE, "2024-10-21", extra) is None


def test_other_stream_options_are_kept() -> None:
    body = {"stream": True, "stream_options": {"include_obfuscation": False}}
    assert requested(body, AZURE, "2024-10-21") == {
        "stream": True,
        "stream_options": {"include_obfuscation": False, "include_usage": True},
    }


# The service rejects the option.

REJECTION = b'{"error_code": "BAD_REQUEST", "message": "json: unknown field \\"stream_options\\""}'
FASTAPI = b'{"detail": [{"type": "extra_forbidden", "loc": ["body", "stream_options", "include_usage"]}]}'


def rejects(server: Server, body: bytes | list[bytes] = REJECTION, status: int = 400) -> None:
    rejection, accepted = Response(body, status=status), payloads.chat_stream(None)
    server.respond_with("/chat/completions", rejection, accepted)


@pytest.mark.parametrize("kind", ["sync", "async"])
@pytest.mark.parametrize(
    ("body", "status"), [(REJECTION, 400), ([REJECTION[:40], REJECTION[40:]], 400), (FASTAPI, 422)]
)
def test_a_service_that_rejects_the_option_gets_the_callers_own_request(
    kind: str, body: bytes | list[bytes], status: int, server: Server, metered: Metered
) -> None:
    own = {"model": "gpt-4o", "messages": [{"role": "user", "content": "Zwölf — 12.0"}], "stream": True}
    clients: Any = {"sync": openai.OpenAI, "async": openai.AsyncOpenAI}
    rejects(server, body, status)
    for instrument in (asking, llm_exporter.uninstrument):
        client = instrument(clients[kind](base_url=server.url, api_key="k", max_retries=0))
        received = asyncio.run(achunks(client, own)) if kind == "async" else chunks(client, own)
        assert [chunk.choices[0].delta.content for chunk in received] == ["", "Sev", "en.", None]
    asked, again, plain = server.requests
    assert json.loads(asked.body)["stream_options"] == REQUESTED
    assert again.body == plain.body
    assert again.headers["content-length"] == plain.headers["content-length"]
    assert set(again.headers) == set(plain.headers)
    assert (metered.call.error, metered.call.retries, metered.call.estimated) == (None, [], True)


def chunks(client: Any, body: Any) -> list[Any]:
    with client:
        return list(client.chat.completions.create(**body))


async def achunks(client: Any, body: Any) -> list[Any]:
    async with client:
        return [chunk async for chunk in await client.chat.completions.create(**body)]


def test_a_host_that_rejected_the_option_is_never_asked_again_and_the_log_says_so_once(
    server: Server, metered: Metered, said: Callable[[], list[LogRecord]]
) -> None:
    rejects(server)
    for _ in range(2):
        with asking(openai.OpenAI(base_url=server.url, api_key="k")) as client:
            list(stream(client))
            list(stream(client))
    assert [b"include_usage" in request.body for request in server.requests] == [True, *[False] * 4]
    (warning,) = said()
    host = server.url.removeprefix("http://")
    assert warning.getMessage().startswith(f"llm-exporter: {host} rejects stream_options.include_usage")


def test_the_rejected_attempt_counts_neither_as_a_retry_of_the_sdk_nor_as_an_error(
    server: Server, metered: Metered
) -> None:
    rejects(server)
    server.respond_with("/chat/completions", payloads.chat_stream(None))
    client = openai.OpenAI(base_url=server.url, api_key="k", max_retries=0)
    with (
        asking(client),
        client.chat.completions.with_streaming_response.create(
            model="gpt-4o", messages=[], stream=True
        ) as response,
    ):
        assert response.http_response.request.content == server.requests[1].body
        assert response.retries_taken == 0
        response.read()
    assert metered.total("llm_retries_total") == metered.total("llm_call_errors_total") == 0


def test_the_sdk_retries_the_callers_own_request_after_a_rejection(server: Server, metered: Metered) -> None:
    rejects(server)
    overloaded = Response(b"{}", status=500, headers={"retry-after-ms": "1"})
    server.respond_with("/chat/completions")
    server._responses["/chat/completions"].insert(1, overloaded)
    with asking(openai.OpenAI(base_url=server.url, api_key="k", max_retries=1)) as client:
        assert len(list(stream(client))) == 4
    assert [b"include_usage" in request.body for request in server.requests] == [True, False, False]
    assert metered.call.retries == ["server_error"]


def test_usage_that_a_rejecting_service_sends_unasked_is_the_callers(
    server: Server, metered: Metered
) -> None:
    server.respond_with("/chat/completions", Response(REJECTION, status=400), payloads.chat_stream(USAGE))
    with asking(openai.OpenAI(base_url=server.url, api_key="k")) as client:
        *_, last = stream(client)
    assert last.usage.total_tokens == 1500
    assert metered.call.tokens == {"input": 1200, "output": 300}


@pytest.mark.parametrize(
    "options", [{"stream_options": REQUESTED}, {"extra_body": {"stream_options": REQUESTED}}]
)
def test_a_caller_that_sets_the_option_gets_the_rejection(
    options: Any, server: Server, metered: Metered
) -> None:
    rejects(server)
    client = asking(openai.OpenAI(base_url=server.url, api_key="k"))
    with client, pytest.raises(openai.BadRequestError, match="unknown field"):
        stream(client, **options)
    assert len(server.requests) == 1
    assert metered.call.error == "invalid_request"


def test_a_failed_second_attempt_is_the_callers_error(server: Server, metered: Metered) -> None:
    wrong = Response(b'{"error": {"message": "no such model", "code": "model_not_found"}}', status=404)
    server.respond_with("/chat/completions", Response(REJECTION, status=400), wrong)
    client = asking(openai.OpenAI(base_url=server.url, api_key="k"))
    with client, pytest.raises(openai.NotFoundError, match="no such model"):
        stream(client)
    assert metered.call.error == "not_found"


def test_a_host_that_quotes_the_request_in_another_error_is_asked_again(
    server: Server, metered: Metered
) -> None:
    quote = Response(b'{"message": "too long: {\\"stream_options\\": ..."}', status=400)
    server.respond_with("/chat/completions", quote, quote, payloads.chat_stream(USAGE))
    with asking(openai.OpenAI(base_url=server.url, api_key="k")) as client:
        with pytest.raises(openai.BadRequestError, match="too long"):
            stream(client)
        list(stream(client))
    assert [b"include_usage" in request.body for request in server.requests] == [True, False, True]
    assert metered.calls[1].tokens == {"input": 1200, "output": 300}


def test_an_error_response_reaches_the_caller_unchanged(server: Server, metered: Metered) -> None:
    server.respond_with("/chat/completions", Response(b'{"error": {"message": "no"}}', status=400))
    client = asking(openai.OpenAI(base_url=server.url, api_key="k"))
    with client, pytest.raises(openai.BadRequestError, match="no"):
        stream(client)
    assert len(server.requests) == 1
    assert metered.call.error == "invalid_request"


# The filter.


USAGE_CHUNK = b'data: {"id": "c", "choices": [], "usage": {"prompt_tokens": 3}}\n\n'
AZURE_FIRST = b'data: {"choices": [], "prompt_filter_results": [], "usage": null}\r\n\r\n'
TEXT = 'data: {"choices": [{"delta": {"content": "Zwölf"}}], "usage": null}\n\n'.encode()
OTHER_DIALECT = b'data: {"choices": [{"delta": {}}], "usage": {"prompt_tokens": 3}}\n\n'
DONE = b"data: [DONE]\n\n"


@given(st.lists(st.integers(0, 400), max_size=12), st.sampled_from([b"\n", b"\r\n", b"\r"]))
def test_the_filter_does_not_depend_on_chunk_boundaries(places: list[int], newline: bytes) -> None:
    shown = (AZURE_FIRST.replace(b"\r\n", b"\n"), TEXT, OTHER_DIALECT, DONE)
    azure, text, other, done = (each.replace(b"\n", newline) for each in shown)
    whole = azure + text + other + USAGE_CHUNK.replace(b"\n", newline) + done
    hidden = UsageChunkFilter()
    cuts = [0, *sorted(place for place in places if place < len(whole)), len(whole)]
    seen = b"".join(hidden.feed(whole[start:end]) for start, end in pairwise(cuts))
    assert seen + hidden.end() == azure + text + other + done


def test_the_filter_accepts_every_kind_of_line_ending() -> None:
    hidden = UsageChunkFilter()
    seen = hidden.feed(AZURE_FIRST + TEXT + OTHER_DIALECT + USAGE_CHUNK + DONE)
    assert seen == AZURE_FIRST + TEXT + OTHER_DIALECT + DONE


@pytest.mark.parametrize("newline", [b"\n", b"\r\n", b"\r"], ids=["LF", "CRLF", "CR"])
@pytest.mark.parametrize("position", [0, 1, 57, 199, 200])
def test_the_usage_chunk_is_found_anywhere_in_a_piece_of_many_events(
    position: int, newline: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only the events beside it are looked at one by one."""
    looked_at: list[bytes] = []
    is_usage = usage_chunk._is_usage

    def look(event: bytes) -> bool:
        looked_at.append(event)
        return is_usage(event)

    monkeypatch.setattr(usage_chunk, "_is_usage", look)
    others = [TEXT.replace(b"\n", newline)] * 200
    piece = b"".join([*others[:position], USAGE_CHUNK.replace(b"\n", newline), *others[position:]])
    hidden = UsageChunkFilter()
    assert hidden.feed(piece) + hidden.end() == b"".join(others)
    assert sum(map(len, looked_at)) < 2500


def test_complete_events_pass_at_once_and_an_incomplete_one_at_the_end() -> None:
    hidden = UsageChunkFilter()
    assert hidden.feed(TEXT + TEXT[:9]) == TEXT
    assert hidden.feed(TEXT[9:]) == TEXT
    assert hidden.feed(TEXT[:-2]) == b""
    assert hidden.end() == TEXT[:-2]


def shown(event: bytes) -> bool:
    """Return whether the caller sees an event."""
    hidden = UsageChunkFilter()
    return hidden.feed(event) + hidden.end() == event


@pytest.mark.parametrize(
    "chunk",
    [
        {},
        {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "m"},
        {"service_tier": "default", "system_fingerprint": None, "obfuscation": "aB3"},
        {"error": None, "prompt_filter_results": []},
        {"latency_checkpoint": {"total_duration_ms": 811}},
    ],
)
def test_a_chunk_with_usage_and_nothing_else_is_hidden(chunk: dict[str, Any]) -> None:
    assert not shown(b"data: %b\n\n" % json.dumps({**chunk, "choices": [], "usage": USAGE}).encode())


@pytest.mark.parametrize(
    "chunk",
    [
        {"choices": [], "usage": None},
        {"choices": [], "usage": {}},
        {"choices": None, "usage": USAGE},
        {"usage": USAGE},
        {"choices": [{"delta": {"content": "x"}}], "usage": USAGE},
        {"choices": [], "usage": USAGE, "error": {"message": "overloaded"}},
        {"choices": [], "usage": USAGE, "prompt_filter_results": [{"prompt_index": 0}]},
        {"choices": [], "usage": USAGE, "citations": ["https://example.com"]},
        {"choices": [], "usage": {**USAGE, "details": "x" * 2**16}},
        {"choices": [{"delta": {"content": '"choices":[],"usage":{"prompt_tokens":1}'}}]},
        [{"choices": [], "usage": USAGE}],
    ],
)
def test_a_chunk_with_more_than_usage_or_without_it_is_shown(chunk: Any) -> None:
    assert shown(b"data: %b\n\n" % json.dumps(chunk).encode())


@pytest.mark.parametrize(
    "event",
    [
        b'data: {"choices":[],"usage":{"prompt_tokens":\n\n',
        b'event: x\nid: {"choices":[],"usage":{"prompt_tokens":1}}\n\n',
        b'{"choices":[],"usage":{"prompt_tokens":1}}\n\n',
        b'data: {"choices":[],"usage":{"prompt_tokens":1}} trailing\n\n',
        b": heartbeat\n\n",
        b"\n\n\n\n",
        b"\xff\xfe\n\n",
    ],
)
def test_an_event_that_cannot_be_judged_is_shown(event: bytes) -> None:
    assert shown(event)


def test_a_usage_chunk_on_several_lines_is_hidden() -> None:
    assert not shown(b': comment\r\ndata: {"choices":\r\ndata:[], "usage": {"prompt_tokens": 3}}\r\n\r\n')


def pieces(data: bytes, size: int = 1024) -> list[bytes]:
    return [data[start : start + size] for start in range(0, len(data), size)]


def test_a_long_event_passes_before_it_is_complete_and_little_is_held() -> None:
    long = b'data: {"choices": [{"delta": {"content": "%b"}}]}\n\n' % (b"x" * 2**20)
    hidden = UsageChunkFilter()
    seen, most = [], 0
    for piece in pieces(long):
        seen.append(hidden.feed(piece))
        most = max(most, len(hidden.held))
    assert b"".join(seen) == long
    assert most <= 64 * 1024
    assert hidden.feed(USAGE_CHUNK + TEXT) == TEXT


@pytest.mark.parametrize(
    "start",
    [
        b'data: {"choices": [{"delta": {"content": "',
        b'data: {"choices":[],"usage":{"prompt_tokens":1},"x":"',
        b'data: {"choices":[' + b"[" * 1000,
        b"\r",
        b"data:\n",
    ],
)
def test_a_long_event_takes_linear_time(start: bytes) -> None:
    """Four times the bytes take about four times the CPU time; sixteen times as much would be quadratic."""

    def seconds(size: int) -> float:
        data = (start * (size // len(start) + 1))[:size] if len(start) < 10 else start.ljust(size, b" ")
        best = math.inf
        for _ in range(3):
            hidden, began = UsageChunkFilter(), thread_time()
            for piece in pieces(data):
                hidden.feed(piece)
            hidden.end()
            best = min(best, thread_time() - began)
        return best

    assert seconds(2**22) < 10 * max(seconds(2**20), 0.005)


def test_a_failing_filter_passes_everything(
    server: Server, pipeline: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: object) -> bytes:
        raise RuntimeError

    server.respond_with("/chat/completions", payloads.chat_stream(USAGE))
    monkeypatch.setattr(usage_chunk, "_without_usage", fails)
    with asking(openai.OpenAI(base_url=server.url, api_key="k")) as client:
        said = [choice.delta.content for chunk in stream(client) for choice in chunk.choices]
    assert said == ["", "Sev", "en.", None]
    assert Metered(pipeline).samples("llm_exporter_errors_total") == {("filter",): 1}


def test_a_stream_left_early_is_estimated_from_the_text_sent_and_received(
    server: Server, metered: Metered
) -> None:
    """40 characters sent are 10 tokens; 21 chunks of 8 characters received are 42 tokens."""
    chunks = [json.dumps({"choices": [{"index": 0, "delta": {"content": "eight ch"}}]})] * 30
    server.respond_with("/chat/completions", Response(sse(*chunks), content_type=payloads.STREAM))
    prompt: Any = [{"role": "user", "content": "x" * 40}]
    with (
        asking(openai.OpenAI(base_url=server.url, api_key="k")) as client,
        client.chat.completions.create(model="gpt-4o", messages=prompt, stream=True) as answer,
    ):
        for _ in range(21):
            next(answer)
    call = metered.call
    assert (call.estimated, call.usage_reported, call.error) == (True, False, None)
    assert call.tokens["input"] == 10
    # More chunks may have arrived than the caller read, never fewer.
    assert 42 <= call.tokens["output"] <= 60
    assert metered.total("llm_usage_missing_total") == 1
    assert metered.total("llm_cost_usd_total", token_type="input") == pytest.approx(10 * 2.5e-6)


def test_the_estimate_of_a_complete_stream_counts_its_text(server: Server, metered: Metered) -> None:
    """30 chunks of 8 characters are 60 tokens; the prompt was empty."""
    chunks = [json.dumps({"choices": [{"index": 0, "delta": {"content": "eight ch"}}]})] * 30
    server.respond_with("/chat/completions", Response([*sse(*chunks), DONE], content_type=payloads.STREAM))
    with asking(openai.OpenAI(base_url=server.url, api_key="k")) as client:
        assert len(list(stream(client))) == 30
    assert metered.call.tokens == {"output": 60}


def test_a_failed_stream_is_not_estimated(server: Server, metered: Metered) -> None:
    body = [b'data: {"error": {"message": "overloaded", "type": "overloaded_error"}}\n\n']
    server.respond_with("/chat/completions", Response(body, content_type=payloads.STREAM))
    client = asking(openai.OpenAI(base_url=server.url, api_key="k"))
    with client, pytest.raises(openai.APIError):
        list(stream(client))
    assert (metered.call.error, metered.call.tokens, metered.call.estimated) == ("overloaded", {}, False)


def test_usage_is_requested_by_sync_and_async_clients(server: Server, metered: Metered) -> None:
    for kind in ("sync", "async"):
        operation = Operation(CHAT, kind, stream=True)
        server.respond_with(operation.path, operation.response())
        operation.run(asking(operation.client(server.url)))
        assert stream_options_of(server) == REQUESTED


def recorded_tests_section() -> str:
    document = (Path(__file__).parents[2] / "docs" / "testing.md").read_text(encoding="utf-8")
    return document.split("## Recorded tests")[1].split("\n## ")[0]


def test_the_documented_switches_of_recorded_tests_leave_requests_unchanged(
    server: Server, pipeline: Pipeline, metered: Metered, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The requests go to a service that would be asked."""
    pipeline.configure(Config(providers={server.url.removeprefix("http://"): "openai"}))
    server.respond_with("/chat/completions", payloads.chat_stream(None))
    section = recorded_tests_section()
    code, variable = re.findall(r"```python\n(.*?)```|(LLM_\w+=\w+) pytest", section, re.DOTALL)[::-1]

    def call() -> Any:
        with openai.OpenAI(base_url=server.url, api_key="k") as client:
            list(stream(client))
        return stream_options_of(server)

    llm_exporter.instrument()
    assert call() == REQUESTED
    exec(code[0], {})  # noqa: S102 - the documented code
    assert call() is None
    name, _, value = variable[1].partition("=")
    monkeypatch.setenv(name, value)
    llm_exporter.instrument()
    assert call() is None
