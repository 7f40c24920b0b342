"""OpenAI's chat streams report their usage without the caller noticing."""

from __future__ import annotations

import json
from itertools import pairwise
from typing import Any

import openai
import pytest
from hypothesis import given
from hypothesis import strategies as st

import llm_exporter
from llm_exporter.taps.usage_chunk import UsageChunkFilter, request_usage
from support import payloads
from support.metered import Metered
from support.operations import CHAT, Operation
from support.scripted import Response, Server, sse

USAGE = {"prompt_tokens": 1200, "completion_tokens": 300, "total_tokens": 1500}
REQUESTED = {"include_usage": True}


def stream_options_of(server: Server) -> Any:
    return json.loads(server.requests[-1].body).get("stream_options")


def stream(client: Any, **options: Any) -> Any:
    return client.chat.completions.create(model="gpt-4o", messages=[], stream=True, **options)


def test_usage_is_requested_and_the_caller_never_sees_the_usage_chunk(
    server: Server, metered: Metered
) -> None:
    server.respond_with("/chat/completions", payloads.chat_stream(USAGE), payloads.chat_stream(None))
    with openai.OpenAI(base_url=server.url, api_key="k") as client:
        llm_exporter.instrument(client)
        seen = list(stream(client))
        assert stream_options_of(server) == REQUESTED
        llm_exporter.uninstrument(client)
        unmetered = list(stream(client))
    assert [chunk.model_dump() for chunk in seen] == [chunk.model_dump() for chunk in unmetered]
    assert metered.call.tokens == {"input": 1200, "output": 300}
    assert not metered.call.estimated


def test_a_caller_that_sets_the_option_gets_what_it_requested(server: Server, metered: Metered) -> None:
    server.respond_with("/chat/completions", payloads.chat_stream(USAGE))
    with llm_exporter.instrument(openai.OpenAI(base_url=server.url, api_key="k")) as client:
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
    with llm_exporter.instrument(openai.OpenAI(base_url=server.url, api_key="k")) as client:
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


@pytest.mark.parametrize(
    ("body", "provider", "api_version"),
    [
        pytest.param({"stream": False}, "openai", None, id="no stream"),
        pytest.param({}, "openai", None, id="no stream said"),
        pytest.param({"stream": True}, "mistral", None, id="a provider that refuses it"),
        pytest.param({"stream": True}, "azure", "2024-06-01", id="an Azure too old"),
        pytest.param(
            {"stream": True, "stream_options": {"include_usage": False}}, "openai", None, id="said no"
        ),
        pytest.param({"stream": True, "stream_options": "x"}, "openai", None, id="not understood"),
        pytest.param([], "openai", None, id="no object"),
        pytest.param(None, "openai", None, id="no body"),
    ],
)
def test_other_requests_stay_unchanged(body: Any, provider: str, api_version: str | None) -> None:
    assert request_usage(body, provider, api_version) is None


def test_other_stream_options_are_kept() -> None:
    body = {"stream": True, "stream_options": {"include_obfuscation": False}}
    assert request_usage(body, "azure", "2024-10-21") == {
        "stream": True,
        "stream_options": {"include_obfuscation": False, "include_usage": True},
    }


def test_an_error_response_reaches_the_caller_unchanged(server: Server, metered: Metered) -> None:
    server.respond_with("/chat/completions", Response(b'{"error": {"message": "no"}}', status=400))
    client = llm_exporter.instrument(openai.OpenAI(base_url=server.url, api_key="k"))
    with client, pytest.raises(openai.BadRequestError, match="no"):
        stream(client)
    assert metered.call.error == "invalid_request"


USAGE_CHUNK = b'data: {"id": "c", "choices": [], "usage": {"total_tokens": 3}}\n\n'
AZURE_FIRST = b'data: {"choices": [], "prompt_filter_results": [], "usage": null}\r\n\r\n'
TEXT = 'data: {"choices": [{"delta": {"content": "Zwölf"}}], "usage": null}\n\n'.encode()
OTHER_DIALECT = b'data: {"choices": [{"delta": {}}], "usage": {"total_tokens": 3}}\n\n'
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


def test_complete_events_pass_at_once_and_an_incomplete_one_at_the_end() -> None:
    hidden = UsageChunkFilter()
    assert hidden.feed(TEXT + TEXT[:9]) == TEXT
    assert hidden.feed(TEXT[9:]) == TEXT
    assert hidden.feed(TEXT[:-2]) == b""
    assert hidden.end() == TEXT[:-2]


def test_a_failing_filter_passes_everything(
    server: Server, pipeline: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: object) -> bytes:
        raise RuntimeError

    server.respond_with("/chat/completions", payloads.chat_stream(USAGE))
    monkeypatch.setattr(UsageChunkFilter, "_without_usage", fails)
    with llm_exporter.instrument(openai.OpenAI(base_url=server.url, api_key="k")) as client:
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
        llm_exporter.instrument(openai.OpenAI(base_url=server.url, api_key="k")) as client,
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
    with llm_exporter.instrument(openai.OpenAI(base_url=server.url, api_key="k")) as client:
        assert len(list(stream(client))) == 30
    assert metered.call.tokens == {"output": 60}


def test_a_failed_stream_is_not_estimated(server: Server, metered: Metered) -> None:
    body = [b'data: {"error": {"message": "overloaded", "type": "overloaded_error"}}\n\n']
    server.respond_with("/chat/completions", Response(body, content_type=payloads.STREAM))
    client = llm_exporter.instrument(openai.OpenAI(base_url=server.url, api_key="k"))
    with client, pytest.raises(openai.APIError):
        list(stream(client))
    assert (metered.call.error, metered.call.tokens, metered.call.estimated) == ("overloaded", {}, False)


def test_usage_is_requested_by_sync_and_async_clients(server: Server, metered: Metered) -> None:
    for kind in ("sync", "async"):
        operation = Operation(CHAT, kind, stream=True)
        server.respond_with(operation.path, operation.response())
        operation.run(llm_exporter.instrument(operation.client(server.url)))
        assert stream_options_of(server) == REQUESTED
