"""The reader of OpenAI's chat completions, and the dialects of compatible services."""

from __future__ import annotations

import json

import pytest

from llm_exporter.wire.error_kinds import kind_of_code
from llm_exporter.wire.framing import framing_for
from llm_exporter.wire.openai import ChatReader
from llm_exporter.wire.openai_responses import ResponsesReader
from llm_exporter.wire.reader import Reader, Reading
from support.openai_streams import SMALL, SMALL_TOKENS, TALK, Json, chunk, read


@pytest.mark.parametrize("reader", [ChatReader, ResponsesReader])
@pytest.mark.parametrize(
    ("requested", "answered", "tier"),
    [
        ("priority", "default", "default"),
        ("flex", None, "flex"),
        ("auto", None, None),
        (None, "ultrafast", "ultrafast"),
        ({}, None, None),
    ],
)
def test_tier_is_the_requested_one_if_the_response_names_none(
    reader: type[Reader], requested: object, answered: str | None, tier: str | None
) -> None:
    """`auto` names no tier: the project's settings decide."""
    opened = reader()
    opened.read_request({"model": "gpt-t", "service_tier": requested})
    opened.read_body(json.dumps({"model": "gpt-t", "service_tier": answered, "usage": SMALL}).encode())

    assert opened.reading.service_tier == tier


@pytest.mark.parametrize(
    ("model", "usage", "units"),
    [
        ("gpt-4o-search-preview-2025-03-11", {}, {"web_search_previews": 1}),
        ("gpt-4o-mini-search-preview", {}, {"web_search_previews": 1}),
        ("openai/gpt-4o-search-preview", {}, {"web_search_previews": 1}),
        ("gpt-5-search-api-2025-10-14", {}, {"web_searches": 1}),
        ("sonar", {"search_context_size": "low"}, {"search_requests_low": 1}),
        ("sonar-pro", {"search_context_size": "high"}, {"search_requests_high": 1}),
        ("sonar-pro", {"search_context_size": "high", "cost": {"total_cost": 0.02}}, {}),
        ("sonar-pro", {"search_context_size": "colossal"}, {}),
        ("research-t", {}, {}),
        ("gpt-4o", {}, {}),
    ],
)
def test_chat_searches_are_counted_by_model_and_context_size(
    model: str, usage: Json, units: dict[str, float]
) -> None:
    """Search models search before each response; a cost that the response reports includes the fee."""
    streamed = read(
        ChatReader(), chunk({"content": "Ten"}, model=model), chunk(usage={**SMALL, **usage}, model=model)
    )

    assert streamed.units == units


def test_chat_body_gives_the_answering_model_tokens_and_tier() -> None:
    """The model that answered may differ from the requested model."""
    reader = ChatReader()
    message = {"role": "assistant", "content": "Ten.", "refusal": None}
    body = {
        "id": "chatcmpl-t",
        "object": "chat.completion",
        "model": "gpt-t-2030-01-01",
        "choices": [{"index": 0, "message": message, "finish_reason": "stop"}],
        "usage": SMALL,
        "service_tier": "flex",
    }
    reader.read_body(json.dumps(body).encode())

    assert reader.reading == Reading(model="gpt-t-2030-01-01", tokens=SMALL_TOKENS, service_tier="flex")  # type: ignore[arg-type]


def test_chat_body_without_usage_reports_none() -> None:
    """Missing usage differs from zero usage."""
    reader = ChatReader()
    reader.read_body(b'{"model": "gpt-t", "choices": []}')

    assert reader.reading == Reading(model="gpt-t", tokens=None)


@pytest.mark.parametrize(
    ("events", "tokens"),
    [
        pytest.param(
            [
                chunk({"content": "Ten"}, usage=None),
                chunk({}, usage=None),
                chunk(usage=SMALL),
                "data: [DONE]",
            ],
            SMALL_TOKENS,
            id="null on every chunk, then a chunk without choices",
        ),
        pytest.param(
            [chunk({"content": "Ten"}), chunk({}), "data: [DONE]"], None, id="not requested, not sent"
        ),
        pytest.param(
            [chunk({"content": "Ten"}), chunk({"content": "."}, usage=SMALL)],
            SMALL_TOKENS,
            id="in a chunk with choices",
        ),
        pytest.param(
            [chunk({"content": "Ten"}), chunk({}, x_groq={"id": "req_t", "usage": SMALL})],
            SMALL_TOKENS,
            id="only in x_groq",
        ),
        pytest.param(
            [chunk({"content": "Ten"}), chunk({}, usage=SMALL, x_groq={"id": "req_t", "usage": SMALL})],
            SMALL_TOKENS,
            id="inside and outside x_groq, counted once",
        ),
        pytest.param(
            [
                chunk({"content": "T"}, usage={"prompt_tokens": 12, "completion_tokens": 1}),
                chunk({"content": "en"}, usage={"prompt_tokens": 12, "completion_tokens": 3}),
                chunk({"content": "."}, usage=SMALL),
            ],
            SMALL_TOKENS,
            id="cumulative, the last one is used",
        ),
        pytest.param(
            [
                chunk({"content": "Ten"}),
                chunk({}, usage=SMALL),
                chunk({}, usage=None),
                chunk({}),
                "data: [DONE]",
            ],
            SMALL_TOKENS,
            id="not in the last chunk",
        ),
        pytest.param([chunk({"content": "Ten"}), chunk(usage=SMALL)], SMALL_TOKENS, id="[DONE] is missing"),
        pytest.param(
            [": keep-alive", ": keep-alive", chunk({"content": "Ten"}), ": keep-alive", chunk(usage=SMALL)],
            SMALL_TOKENS,
            id="comments in between",
        ),
        pytest.param([chunk(usage=SMALL)], SMALL_TOKENS, id="usage before any token"),
    ],
)
def test_chat_stream_usage_is_found_wherever_the_service_puts_it(
    events: list[Json | str], tokens: dict[str, int] | None
) -> None:
    """Usage is read once, from any chunk."""
    assert read(ChatReader(), *events).tokens == tokens


def test_chat_stream_takes_the_model_from_a_chunk_that_names_one() -> None:
    """Azure's first chunk has `model: ""`, no choices, and content filter results."""
    reading = read(
        ChatReader(),
        chunk(model="", prompt_filter_results=[{"prompt_index": 0}]),
        chunk({"role": "assistant", "content": ""}, model="gpt-t-azure"),
        chunk({"content": "Ten"}, model="gpt-t-azure"),
        chunk(usage=SMALL, model=""),
    )

    assert (reading.model, reading.tokens) == ("gpt-t-azure", SMALL_TOKENS)


def test_chat_stream_takes_the_tier_of_the_last_chunk_that_names_one() -> None:
    """The chunks name the tier that served the call."""
    reading = read(
        ChatReader(),
        chunk({"role": "assistant"}, service_tier="auto"),
        chunk({"content": "Ten"}, service_tier="default"),
        chunk(usage=SMALL, service_tier=None),
    )

    assert reading.service_tier == "default"


@pytest.mark.parametrize(
    "delta",
    [
        pytest.param({"content": "T"}, id="text"),
        pytest.param({"role": "assistant", "content": "T"}, id="text with the role"),
        pytest.param({"content": " "}, id="white space is a token"),
        pytest.param({"content": None, "reasoning_content": "Let"}, id="DeepSeek's reasoning"),
        pytest.param({"content": "", "reasoning": "Let"}, id="OpenRouter's and Groq's reasoning"),
        pytest.param(
            {"tool_calls": [{"index": 0, "function": {"name": "f", "arguments": ""}}]}, id="tool call"
        ),
        pytest.param({"function_call": {"name": "f", "arguments": ""}}, id="function call"),
        pytest.param({"refusal": "I"}, id="refusal"),
        pytest.param({"audio": {"id": "audio_t", "data": "AAAA"}}, id="audio"),
    ],
)
def test_chat_first_token_may_be_of_any_kind(delta: Json) -> None:
    """Any generated content counts as a token."""
    assert read(ChatReader(), chunk({"role": "assistant", "content": ""}), chunk(delta)).token_seen


@pytest.mark.parametrize(
    "delta",
    [
        pytest.param(None, id="no choices"),
        pytest.param({}, id="empty"),
        pytest.param({"role": "assistant"}, id="role only"),
        pytest.param({"role": "assistant", "content": ""}, id="role and empty content"),
        pytest.param(
            {"role": "assistant", "content": None, "refusal": None, "tool_calls": None, "reasoning": None},
            id="nulls",
        ),
        pytest.param({"content": "", "reasoning_details": [], "tool_calls": []}, id="empty lists"),
    ],
)
def test_chat_chunk_without_content_is_not_the_first_token(delta: Json | None) -> None:
    """The first chunk of a stream has only a role."""
    assert read(ChatReader(), chunk(delta)).token_seen is False


def test_chat_first_token_may_be_of_any_choice() -> None:
    """With n > 1, any choice may start first."""
    choices = [{"index": 0, "delta": {"role": "assistant"}}, {"index": 1, "delta": {"content": "T"}}]

    assert read(ChatReader(), chunk(choices=choices)).token_seen


@pytest.mark.parametrize(
    ("event", "error"),
    [
        pytest.param(
            {"error": {"type": "rate_limit_error", "code": None, "message": "slow"}},
            "rate_limit_error",
            id="type",
        ),
        pytest.param({"error": {"code": 502, "message": "upstream"}}, "502", id="OpenRouter's number"),
        pytest.param(
            {"error": {"type": "requests", "code": "rate_limit_exceeded", "message": "slow"}},
            "rate_limit_exceeded",
            id="a code that says more than the type",
        ),
        pytest.param(
            {"error": {"type": "upstream_error", "code": 502, "message": "?"}}, "502", id="an unknown type"
        ),
        pytest.param({"error": {"type": "odd", "code": "odder"}}, "odd", id="nothing is known"),
        pytest.param({"error": {"message": "upstream broke"}}, "upstream broke", id="message"),
        pytest.param({"error": "engine overloaded"}, "engine overloaded", id="text"),
    ],
)
@pytest.mark.parametrize(
    "before", [[], [chunk({"content": "Ten"})]], ids=["at once", "after the first token"]
)
def test_chat_error_inside_a_stream_is_read(before: list[Json], event: Json, error: str) -> None:
    """The error arrives after HTTP 200, at the start of the stream or later."""
    assert read(ChatReader(), *before, event).error == error


def test_chat_stream_keeps_the_usage_reported_with_an_error() -> None:
    """Tokens generated before the error are billed."""
    reading = read(
        ChatReader(),
        chunk({"content": "Ten"}),
        chunk({}, error={"code": 400, "message": "limit"}, usage=SMALL),
    )

    assert (reading.error, reading.tokens) == ("400", SMALL_TOKENS)


def test_chat_error_body_to_a_streaming_request_is_read() -> None:
    """An error response is plain JSON even if a stream was requested."""
    reader = ChatReader()
    data = (
        b'{"error": {"message": "no such model", "type": "invalid_request_error", "code": "model_not_found"}}'
    )
    framing = framing_for("application/json", data, reader)
    framing.feed(data)
    framing.end()

    assert reader.reading == Reading(error="invalid_request_error")


@pytest.mark.parametrize(
    "event",
    [
        pytest.param(chunk({"content": TALK}), id="text"),
        pytest.param(chunk({"tool_calls": [{"index": 0, "function": {"arguments": TALK}}]}), id="arguments"),
        pytest.param(chunk({"content": "x"}, usage=None), id="usage null"),
        pytest.param(chunk({"content": "x"}, error=None), id="error null"),
    ],
)
def test_chat_chunk_that_mentions_usage_carries_none(event: Json) -> None:
    """Quotes inside a JSON string are escaped, so generated text cannot be mistaken for a key."""
    reader = ChatReader()

    assert not reader.may_carry_usage(json.dumps(event).encode())
    assert not reader.may_carry_usage(json.dumps(event, separators=(",", ":")).encode())
    reading = read(reader, chunk({"content": "Ten"}), event)
    assert (reading.tokens, reading.error) == (None, None)


@pytest.mark.parametrize(
    "data",
    [
        b'{"usage":{"prompt_tokens":1}}',
        b'{"usage" : {"total_tokens":1}}',
        b'{"usage":\n {"completion_tokens":1}}',
        b'{"x_groq":{"usage":{"prompt_tokens":1}}}',
    ],
)
def test_chat_usage_is_found_however_it_is_spaced(data: bytes) -> None:
    """A service may put any white space into its JSON."""
    assert ChatReader().may_carry_usage(data)


@pytest.mark.parametrize("reader", [ChatReader, ResponsesReader])
def test_rate_limit_inside_a_stream_is_known_by_its_code(reader: type[Reader]) -> None:
    """The type of such an error is the exhausted limit."""
    error = {"type": "tokens", "code": "rate_limit_exceeded", "message": "Limit 30000", "param": None}
    reading = read(reader(), {"type": "error", "error": error})

    assert kind_of_code(reading.error or "") == "rate_limited"
