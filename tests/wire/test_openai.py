"""The readers of OpenAI's chat completions and responses, and the dialects of compatible services."""

from __future__ import annotations

import json
from typing import Any, get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from llm_exporter.call import TokenType
from llm_exporter.wire.error_kinds import kind_of_code
from llm_exporter.wire.framing import framing_for
from llm_exporter.wire.openai import ChatReader
from llm_exporter.wire.openai_responses import ResponsesReader
from llm_exporter.wire.openai_usage import tokens_of
from llm_exporter.wire.reader import Reader, Reading
from support.counts import sum_of_counts

Json = dict[str, Any]


def read(reader: Reader, *events: Json | str) -> Reading:
    """Return the reading of a stream of these events; a string is a raw line."""
    lines = [event if isinstance(event, str) else f"data: {json.dumps(event)}" for event in events]
    framing = framing_for("text/event-stream", b"data:", reader)
    for line in lines:
        framing.feed(f"{line}\n\n".encode())
    framing.end()
    return reader.reading


def chunk(delta: Json | None = None, **fields: Any) -> Json:
    """Return a chunk of a chat completion; without a delta it has no choices."""
    choices = [] if delta is None else [{"index": 0, "delta": delta, "finish_reason": None}]
    head = {"id": "chatcmpl-t", "object": "chat.completion.chunk", "model": "gpt-t-2030"}
    return {**head, "choices": choices, **fields}


SMALL = {"prompt_tokens": 12, "completion_tokens": 5, "total_tokens": 17}
SMALL_TOKENS = {"input": 12, "output": 5}

# ---- usage objects


@pytest.mark.parametrize(
    ("usage", "tokens"),
    [
        pytest.param(
            {"prompt_tokens": 120, "completion_tokens": 30, "total_tokens": 150},
            {"input": 120, "output": 30},
            id="no details, as in older responses",
        ),
        pytest.param(
            {
                "prompt_tokens": 1500,
                "completion_tokens": 80,
                "total_tokens": 1580,
                "prompt_tokens_details": {"cached_tokens": 1024, "audio_tokens": 0},
                "completion_tokens_details": {"reasoning_tokens": 0, "accepted_prediction_tokens": 0},
            },
            {"input": 476, "cache_read": 1024, "output": 80},  # 1500 - 1024
            id="prompt includes cached",
        ),
        pytest.param(
            {
                "prompt_tokens": 2000,
                "completion_tokens": 7,
                "total_tokens": 2007,
                "prompt_tokens_details": {"cached_tokens": 512, "cache_write_tokens": 1024},
            },
            {"input": 464, "cache_read": 512, "cache_write": 1024, "output": 7},  # 2000 - 512 - 1024
            id="prompt includes cache writes",
        ),
        pytest.param(
            {
                "input_tokens": 3000,
                "input_tokens_details": {"cached_tokens": 2048},
                "output_tokens": 900,
                "output_tokens_details": {"reasoning_tokens": 640},
                "total_tokens": 3900,
            },
            {"input": 952, "cache_read": 2048, "output": 260, "reasoning": 640},
            id="field names of the Responses API",
        ),
        pytest.param(
            {
                "prompt_tokens": 40,
                "completion_tokens": 900,
                "total_tokens": 940,
                "completion_tokens_details": {"reasoning_tokens": 640},
            },
            {"input": 40, "output": 260, "reasoning": 640},  # 900 - 640
            id="OpenAI: completion includes reasoning",
        ),
        pytest.param(
            {
                "prompt_tokens": 200,
                "completion_tokens": 350,
                "total_tokens": 850,
                "completion_tokens_details": {"reasoning_tokens": 300},
            },
            {"input": 200, "output": 350, "reasoning": 300},  # 200 + 350 + 300 = 850
            id="xAI: completion excludes reasoning, the total includes it",
        ),
        pytest.param(
            {
                "prompt_tokens": 90,
                "completion_tokens": 12,
                "total_tokens": 102,
                "completion_tokens_details": {"reasoning_tokens": 75},
            },
            {"input": 90, "output": 12, "reasoning": 75},
            id="Vercel with Gemini: completion and total exclude reasoning",
        ),
        pytest.param(
            {
                "prompt_tokens": 11,
                "completion_tokens": 40,
                "total_tokens": 301,
                "prompt_tokens_details": {"cached_tokens": 0, "audio_tokens": 250},
            },
            {"input": 11, "input_audio": 250, "output": 40},  # 11 + 250 + 40 = 301
            id="Mistral: prompt excludes audio, the total includes it",
        ),
        pytest.param(
            {
                "prompt_tokens": 100,
                "completion_tokens": 200,
                "total_tokens": 300,
                "prompt_tokens_details": {"audio_tokens": 60, "text_tokens": 40},
                "completion_tokens_details": {"audio_tokens": 150, "text_tokens": 50},
            },
            {"input": 40, "input_audio": 60, "output": 50, "output_audio": 150},
            id="OpenAI: prompt and completion include audio",
        ),
        pytest.param(
            {
                "prompt_tokens": 700,
                "completion_tokens": 1310,
                "total_tokens": 2010,
                "prompt_tokens_details": {"image_tokens": 500, "video_tokens": 150},
                "completion_tokens_details": {"image_tokens": 1290},
            },
            {"input": 50, "input_image": 500, "input_video": 150, "output": 20, "output_image": 1290},
            id="images and video",
        ),
        pytest.param(
            {
                "prompt_tokens": 2100,
                "completion_tokens": 10,
                "total_tokens": 2110,
                "prompt_tokens_details": {"cached_tokens": 2088, "cache_write_tokens": 2088},
            },
            {"input": 12, "cache_read": 2088, "cache_write": 2088, "output": 10},  # 2100 - 2088
            id="OpenRouter with Gemini: tokens billed both as read and as written",
        ),
        pytest.param(
            {
                "prompt_tokens": 50,
                "completion_tokens": 9,
                "total_tokens": 59,
                "prompt_tokens_details": {"cached_tokens": 130, "text_tokens": 50},
            },
            {"cache_read": 50, "output": 9},
            id="Azure with Grok: more cached than prompt",
        ),
        pytest.param(
            {**SMALL, "prompt_cache_hit_tokens": 8, "prompt_cache_miss_tokens": 4},
            {"input": 4, "cache_read": 8, "output": 5},
            id="DeepSeek's field name",
        ),
        pytest.param(
            {**SMALL, "num_cached_tokens": 7},
            {"input": 5, "cache_read": 7, "output": 5},
            id="num_cached_tokens",
        ),
        pytest.param(
            {**SMALL, "cached_tokens": 3}, {"input": 9, "cache_read": 3, "output": 5}, id="top-level cached"
        ),
        pytest.param(
            {**SMALL, "prompt_tokens_details": {"cached_tokens": 6}, "prompt_cache_hit_tokens": 6},
            {"input": 6, "cache_read": 6, "output": 5},
            id="cached tokens under two names are counted once",
        ),
        pytest.param(
            {
                **SMALL,
                "prompt_token_details": {"cached_tokens": 2},
                "completion_token_details": {"reasoning_tokens": 4},
            },
            {"input": 10, "cache_read": 2, "output": 1, "reasoning": 4},
            id="chat details in the singular",
        ),
        pytest.param(
            {
                "input_tokens": 12,
                "output_tokens": 5,
                "input_token_details": {"cached_tokens": 2},
                "output_token_details": {"reasoning_tokens": 4},
            },
            {"input": 10, "cache_read": 2, "output": 1, "reasoning": 4},
            id="responses details in the singular",
        ),
        pytest.param(
            {**SMALL, "prompt_tokens_details": None, "completion_tokens_details": None},
            SMALL_TOKENS,
            id="details are null",
        ),
        pytest.param({**SMALL, "cost": 0.00125}, SMALL_TOKENS, id="OpenRouter's cost is a number"),
        pytest.param(
            {**SMALL, "cost": {"input_tokens_cost": 0.1, "request_cost": 5, "total_cost": 5.1}},
            SMALL_TOKENS,
            id="Perplexity's cost is an object",
        ),
        pytest.param({**SMALL, "cost_in_usd_ticks": 7_250_000}, SMALL_TOKENS, id="xAI's cost in ticks"),
        pytest.param(
            {
                "prompt_tokens": 100,
                "completion_tokens": 20,
                "total_tokens": 120,
                "prompt_tokens_details": {"cached_tokens": 90, "audio_tokens": 60, "image_tokens": 60},
                "completion_tokens_details": {"reasoning_tokens": 15, "audio_tokens": 15},
            },
            # 10 are fresh, of which audio may have all; 15 of 20 are reasoning, 5 are left for audio.
            {"cache_read": 90, "input_audio": 10, "reasoning": 15, "output_audio": 5},
            id="details that claim more than there is",
        ),
        pytest.param({"total_tokens": 30}, {}, id="only a total, which has no type"),
        pytest.param(
            {
                "input_tokens": 9000,
                "input_tokens_details": {
                    "cached_tokens": 1000,
                    "cache_write_tokens": 7000,
                    "cache_write_tokens_details": {"ttl_12h_tokens": 6000, "ttl_30m_tokens": 1000},
                },
                "output_tokens": 40,
                "total_tokens": 9040,
            },
            # 9000 - 1000 - 7000 are fresh; 7000 - 6000 are written for 30 minutes
            {"input": 1000, "cache_read": 1000, "cache_write": 1000, "cache_write_12h": 6000, "output": 40},
            id="cache writes with both lifetimes",
        ),
        pytest.param(
            {
                "input_tokens": 50,
                "input_tokens_details": {
                    "cache_write_tokens": 40,
                    "cache_write_tokens_details": {"ttl_12h_tokens": 90},
                },
                "output_tokens": 1,
            },
            {"input": 10, "cache_write_12h": 40, "output": 1},
            id="more 12-hour cache writes than cache writes",
        ),
    ],
)
def test_tokens_are_disjoint_and_complete_in_every_dialect(usage: Json, tokens: dict[str, int]) -> None:
    """Each token is counted under one type, whichever counts include it."""
    assert tokens_of(usage) == tokens


counts = st.integers(0, 100_000)
NUMBERS = (
    "prompt_tokens",
    "input_tokens",
    "completion_tokens",
    "output_tokens",
    "total_tokens",
    "prompt_cache_hit_tokens",
    "num_cached_tokens",
    "cached_tokens",
    "cache_write_tokens",
    "reasoning_tokens",
    "audio_tokens",
    "image_tokens",
    "video_tokens",
)
DETAILS = (
    "prompt_tokens_details",
    "prompt_token_details",
    "input_tokens_details",
    "completion_tokens_details",
    "output_token_details",
)
hostile = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.integers(-(10**30), 10**30)
    | st.floats()
    | st.text(max_size=5)
    | counts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(NUMBERS), inner, max_size=4),
    max_leaves=8,
)


@settings(deadline=None)
@given(st.dictionaries(st.sampled_from((*NUMBERS, *DETAILS)), hostile))
def test_damaged_usage_neither_raises_nor_invents_tokens(usage: Json) -> None:
    """Counts are positive integers that add up to no more than those in the usage object."""
    tokens = tokens_of(usage)

    assert all(type(number) is int and number > 0 for number in tokens.values())
    assert set(tokens) <= set(get_args(TokenType))
    assert sum(tokens.values()) <= sum_of_counts(usage)


@settings(deadline=None)
@given(data=st.data(), prompt=counts, completion=counts)
def test_token_types_add_up_to_the_total_whatever_the_details_claim(
    data: st.DataObject, prompt: int, completion: int
) -> None:
    """If prompt and completion add up to the total, so do the token types."""
    read = data.draw(st.integers(0, prompt))
    usage = {
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "total_tokens": prompt + completion,
        "prompt_tokens_details": {
            "cached_tokens": read,
            "cache_write_tokens": data.draw(st.integers(0, prompt - read)),
            "audio_tokens": data.draw(counts),
            "image_tokens": data.draw(counts),
            "video_tokens": data.draw(counts),
        },
        "completion_tokens_details": {
            "reasoning_tokens": data.draw(st.integers(0, completion)),
            "audio_tokens": data.draw(counts),
            "image_tokens": data.draw(counts),
        },
    }

    assert sum(tokens_of(usage).values()) == prompt + completion


@pytest.mark.parametrize(
    ("value", "counted"),
    [
        pytest.param(-5, {}, id="negative"),
        pytest.param(True, {}, id="boolean"),
        pytest.param("12", {}, id="string"),
        pytest.param(None, {}, id="null"),
        pytest.param([12], {}, id="list"),
        pytest.param({"tokens": 12}, {}, id="object"),
        pytest.param(float("nan"), {}, id="NaN"),
        pytest.param(float("inf"), {}, id="infinity"),
        pytest.param(10**12, {"input": 10**12}, id="a trillion"),
        pytest.param(10**12 + 1, {}, id="more than a trillion"),
        pytest.param(1.0e300, {}, id="a huge float"),
        pytest.param(12.0, {"input": 12}, id="a whole float"),
        pytest.param(12.9, {"input": 12}, id="a fractional float"),
    ],
)
def test_invalid_count_is_ignored(value: object, counted: dict[str, int]) -> None:
    """A value that cannot be a token count is treated as missing."""
    assert tokens_of({"prompt_tokens": value}) == counted


@pytest.mark.parametrize(
    ("usage", "cost", "parts"),
    [
        pytest.param({"cost": 0.00125}, 0.00125, {}, id="OpenRouter and Vercel: a number"),
        pytest.param(
            {
                "cost": 0.004,
                "is_byok": False,
                "cost_details": {
                    "upstream_inference_prompt_cost": 0.001,
                    "upstream_inference_completions_cost": 0.003,
                },
            },
            0.004,
            {"input": 0.001, "output": 0.003},
            id="OpenRouter: split",
        ),
        pytest.param(
            {
                "cost": 0.0002,
                "is_byok": True,
                "cost_details": {
                    "upstream_inference_cost": 0.004,
                    "upstream_inference_prompt_cost": 0.001,
                    "upstream_inference_completions_cost": 0.003,
                },
            },
            0.0042,
            {"input": 0.001, "output": 0.003, "tools": 0.0002},
            id="OpenRouter: split, with the fee for a key of the user's own",
        ),
        pytest.param(
            {"cost": 0.006, "cost_details": {"upstream_inference_prompt_cost": 0.001}},
            0.006,
            {},
            id="OpenRouter: the parts do not add up to the cost",
        ),
        pytest.param(
            {"cost": 0, "is_byok": True, "cost_details": {"upstream_inference_cost": None}},
            None,
            {},
            id="OpenRouter: unknown upstream cost",
        ),
        pytest.param(
            {
                "cost": {
                    "input_tokens_cost": 0.00012,
                    "output_tokens_cost": 0.0031,
                    "reasoning_tokens_cost": 0.0007,
                    "citation_tokens_cost": 0.00008,
                    "request_cost": 0.006,
                    "search_queries_cost": 0.02,
                    "total_cost": 0.03,
                }
            },
            0.03,
            {"input": 0.0002, "output": 0.0038, "tools": 0.026},
            id="Perplexity: split",
        ),
        pytest.param(
            {
                "cost": {
                    "currency": "USD",
                    "input_cost": 0.0004,
                    "cache_creation_cost": 0.0011,
                    "output_cost": 0.002,
                    "tool_calls_cost": 0.005,
                    "total_cost": 0.0085,
                }
            },
            0.0085,
            {"input": 0.0015, "output": 0.002, "tools": 0.005},
            id="Perplexity's Agent API: split",
        ),
        pytest.param({"cost": {"usd": 0.0003}}, 0.0003, {}, id="Charm Hyper"),
        pytest.param({"cost_in_usd_ticks": 7_250_000}, 0.000725, {}, id="xAI: ticks"),
        pytest.param({"cost_in_usd_ticks": 0}, None, {}, id="Grok on Azure: 0 is no report"),
        pytest.param({"cost": 0}, None, {}, id="0 is no report"),
        pytest.param({"cost": {"total_cost": 0}}, None, {}, id="a total of 0 is no report"),
        pytest.param({"cost": {"usd": "0.1"}}, None, {}, id="not a number"),
        pytest.param({}, None, {}, id="none"),
    ],
)
def test_reported_cost_is_read_with_its_parts(
    usage: Json, cost: float | None, parts: dict[str, float]
) -> None:
    """The parts are for the prompt, the generated tokens and fees. They must add up to the cost."""
    reading = read(ChatReader(), chunk(usage={**SMALL, **usage}))

    assert reading.reported_cost == pytest.approx(cost)
    assert reading.reported_costs == pytest.approx(parts)


# ---- chat completions


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


TALK = 'It contains "usage": {"prompt_tokens": 999, "completion_tokens": 999} and "error": {"code": 500}.'


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


# ---- responses


def response(status: str, usage: Json | None = None, **fields: Any) -> Json:
    """Return a response object."""
    return {
        "id": "resp_t",
        "object": "response",
        "status": status,
        "model": "o-t-2030",
        "error": None,
        "output": [],
        "service_tier": "default",
        "usage": usage,
        **fields,
    }


REASONED = {
    "input_tokens": 500,
    "input_tokens_details": {"cached_tokens": 128},
    "output_tokens": 300,
    "output_tokens_details": {"reasoning_tokens": 256},
    "total_tokens": 800,
}
REASONED_TOKENS = {"input": 372, "cache_read": 128, "output": 44, "reasoning": 256}  # 500 - 128, 300 - 256
CREATED = {"type": "response.created", "response": response("in_progress", service_tier="auto")}
TEXT = {"type": "response.output_text.delta", "item_id": "msg_t", "delta": "Ten"}


def test_responses_body_gives_model_tokens_and_tier() -> None:
    """The response object names all of them."""
    reader = ResponsesReader()
    reader.read_body(json.dumps(response("completed", REASONED)).encode())

    reading = replace(reader.reading, response_id="")
    assert reading == Reading(model="o-t-2030", tokens=REASONED_TOKENS, service_tier="default")  # type: ignore[arg-type]


@pytest.mark.parametrize("closing", ["response.completed", "response.incomplete"])
def test_responses_stream_has_its_usage_in_the_last_event(closing: str) -> None:
    """A response that reached its token limit is billed too."""
    status = closing.removeprefix("response.")
    reading = read(
        ResponsesReader(), CREATED, TEXT, {"type": closing, "response": response(status, REASONED)}
    )

    assert (reading.model, reading.tokens, reading.service_tier, reading.error) == (
        "o-t-2030",
        REASONED_TOKENS,
        "default",
        None,
    )


def test_responses_output_includes_reasoning_at_xai_too() -> None:
    """Unlike its chat completions, xAI's responses include reasoning in the output."""
    usage = {
        "input_tokens": 60,
        "output_tokens": 410,
        "total_tokens": 470,
        "output_tokens_details": {"reasoning_tokens": 400},
        "cost_in_usd_ticks": 3_000_000,
    }
    reading = read(
        ResponsesReader(), {"type": "response.completed", "response": response("completed", usage)}
    )

    assert reading.tokens == {"input": 60, "output": 10, "reasoning": 400}


def test_responses_failure_has_an_error_and_no_usage() -> None:
    """`response.failed` ends the stream with null usage."""
    error = {"code": "server_error", "message": "broke"}
    reading = read(
        ResponsesReader(),
        CREATED,
        TEXT,
        {"type": "response.failed", "response": response("failed", error=error)},
    )

    assert (reading.tokens, reading.error) == (None, "server_error")


def test_responses_in_the_background_have_no_usage_yet() -> None:
    """A queued response reports its usage when it is retrieved later."""
    reader = ResponsesReader()
    reader.read_body(json.dumps(response("queued", background=True)).encode())

    assert (reader.reading.tokens, reader.reading.error) == (None, None)


@pytest.mark.parametrize(
    ("event", "error"),
    [
        pytest.param(
            {"type": "error", "code": "rate_limit_exceeded", "message": "slow", "param": None},
            "rate_limit_exceeded",
            id="code",
        ),
        pytest.param({"type": "error", "code": None, "message": "broke"}, "broke", id="message"),
        pytest.param(
            {"type": "error", "error": {"type": "server_error", "code": None, "message": "broke"}},
            "server_error",
            id="object",
        ),
        pytest.param({"type": "error"}, "error", id="nothing"),
    ],
)
@pytest.mark.parametrize("before", [[], [CREATED, TEXT]], ids=["at once", "after the first token"])
def test_responses_error_inside_a_stream_is_read(before: list[Json], event: Json, error: str) -> None:
    """`event: error` may arrive after HTTP 200."""
    assert read(ResponsesReader(), *before, event).error == error


@pytest.mark.parametrize(
    ("tool_usage", "uses"),
    [
        pytest.param(None, {"web_searches": 2}, id="not reported"),
        pytest.param({}, {"web_searches": 2}, id="no searches reported"),
        pytest.param({"web_search": {"num_requests": 1}}, {"web_searches": 1}, id="one was free"),
        pytest.param({"web_search": {"num_requests": 0}}, {}, id="all were free"),
    ],
)
def test_reported_number_of_billed_searches_is_used(tool_usage: object, uses: dict[str, int]) -> None:
    """Newer responses report it, and it may differ from the number of output items."""
    items = [{"type": "web_search_call", "action": {"type": "search"}}] * 2
    reader = ResponsesReader()
    reader.read_body(
        json.dumps(response("completed", REASONED, output=items, tool_usage=tool_usage)).encode()
    )

    assert reader.reading.units == uses


@pytest.mark.parametrize(
    ("tools", "unit"),
    [
        (["web_search_preview"], "web_search_previews"),
        (["web_search_preview_2025_03_11"], "web_search_previews"),
        (["web_search"], "web_searches"),
        (["web_search_2025_08_26", "web_search_preview"], "web_searches"),
        (["file_search"], "web_searches"),
        ([], "web_searches"),
    ],
)
@pytest.mark.parametrize(
    "tool_usage", [None, {"web_search": {"num_requests": 1}}], ids=["listed", "reported"]
)
def test_preview_of_web_search_has_a_separate_unit(tools: list[str], unit: str, tool_usage: object) -> None:
    """The preview costs more than web search for some models."""
    items = [{"type": "web_search_call", "action": {"type": "search"}}]
    done = response(
        "completed",
        REASONED,
        output=items,
        tools=[{"type": kind} for kind in tools],
        tool_usage=tool_usage,
    )
    reader = ResponsesReader()
    reader.read_body(json.dumps(done).encode())

    assert reader.reading.units == {unit: 1}


def ran_code(*containers: str) -> list[Json]:
    """Return the calls of a code interpreter in these containers."""
    return [
        {"type": "code_interpreter_call", "container_id": container, "code": "1"} for container in containers
    ]


def ran_commands(environment: object) -> list[Json]:
    """Return the call of a shell in an environment."""
    return [{"type": "shell_call", "environment": environment, "action": {"commands": ["ls"]}}]


REFERENCE = {"type": "container_reference", "container_id": "cntr_1"}


@pytest.mark.parametrize(
    ("tools", "items", "containers"),
    [
        pytest.param(
            [{"type": "code_interpreter", "container": {"type": "auto"}}],
            ran_code("cntr_1", "cntr_1", "cntr_2"),
            {"cntr_1": "containers_1g", "cntr_2": "containers_1g"},
            id="distinct containers",
        ),
        pytest.param(
            [{"type": "code_interpreter", "container": {"type": "auto", "memory_limit": "16g"}}],
            ran_code("cntr_1"),
            {"cntr_1": "containers_16g"},
            id="more memory",
        ),
        pytest.param(
            [{"type": "code_interpreter", "container": "cntr_1"}],
            ran_code("cntr_1"),
            {},
            id="a container that was created before",
        ),
        pytest.param(
            [{"type": "shell", "environment": {"type": "container_auto", "memory_limit": "4g"}}],
            ran_commands(REFERENCE),
            {"cntr_1": "containers_4g"},
            id="shell",
        ),
        pytest.param(
            [{"type": "shell", "environment": {"type": "container_reference", "container_id": "cntr_1"}}],
            ran_commands(REFERENCE),
            {},
            id="shell in a container that was created before",
        ),
        pytest.param(
            [{"type": "shell", "environment": {"type": "local"}}],
            ran_commands({"type": "local"}),
            {},
            id="local",
        ),
        pytest.param([], ran_code("cntr_1"), {"cntr_1": "containers_1g"}, id="no tools in the response"),
        pytest.param(
            [{"type": "code_interpreter", "container": {"type": "auto", "memory_limit": ["4g"]}}],
            [*ran_code("cntr_1"), {"type": "code_interpreter_call", "container_id": 7}],
            {"cntr_1": "containers_1g"},
            id="damaged",
        ),
    ],
)
def test_containers_are_read_with_their_memory(
    tools: list[Json], items: list[Json], containers: dict[str, str]
) -> None:
    """The tools say how much memory a container has, the output says which containers ran code."""
    done = response("completed", REASONED, output=items, tools=tools)
    reader = ResponsesReader()
    reader.read_body(json.dumps(done).encode())

    assert reader.reading.containers == containers


def image(**fields: object) -> Json:
    """Return an image that a response has generated."""
    size = {"quality": "high", "size": "1024x1536"}
    return {"type": "image_generation_call", "status": "completed", "result": "AAAA", **size, **fields}


@pytest.mark.parametrize("tool_usage", [None, {"image_gen": {"input_tokens": 0, "output_tokens": 0}}])
def test_images_without_usage_are_counted_by_quality_and_size(tool_usage: object) -> None:
    """Older responses do not report the image model's tokens."""
    items = [image(), image(), image(quality="auto", size=None), image(status="failed")]
    tools = [{"type": "image_generation", "model": "gpt-image-t"}]
    done = response("completed", REASONED, output=items, tools=tools, tool_usage=tool_usage)
    (images,) = read(
        ResponsesReader(), CREATED, TEXT, {"type": "response.completed", "response": done}
    ).sub_calls

    units = {"images_high_1024x1536": 2.0, "images_auto_auto": 1.0}
    assert images == Reading(model="gpt-image-t", tokens={}, units=units, operation="image_generation")


def test_cached_tokens_of_the_image_model_are_read() -> None:
    """`tool_usage` names them differently."""
    used = {**IMAGES, "cached_tokens": 120, "cached_tokens_details": {"cached_image_tokens": 100}}
    done = response("completed", REASONED, tool_usage={"image_gen": used})
    (images,) = read(ResponsesReader(), {"type": "response.completed", "response": done}).sub_calls

    assert images.tokens == {
        "input": 30,  # 350 - 300 image tokens - 20 cached text tokens
        "input_image": 200,
        "cache_read": 20,
        "cache_read_image": 100,
        "output": 200,
        "output_image": 4000,
    }


def test_author_of_svg_images_is_a_sub_call() -> None:
    """`svg_usage` is separate from the usage of the image model and of the response."""
    svg = {
        "model": "gpt-t",
        "input_tokens": 70,
        "output_tokens": 50,
        "reasoning_tokens": 30,
        "total_tokens": 120,
    }
    done = response("completed", REASONED, output=[image(svg_usage=svg)], tool_usage={"image_gen": IMAGES})
    author, images = read(ResponsesReader(), {"type": "response.completed", "response": done}).sub_calls

    tokens: Any = {"input": 70, "output": 20, "reasoning": 30}
    assert author == Reading(model="gpt-t", tokens=tokens, operation="chat")
    assert images.operation == "image_generation"


IMAGES = {
    "input_tokens": 350,
    "input_tokens_details": {"text_tokens": 50, "image_tokens": 300},
    "output_tokens": 4200,
    "output_tokens_details": {"text_tokens": 200, "image_tokens": 4000},
    "total_tokens": 4550,
}


@pytest.mark.parametrize(
    ("tools", "model"),
    [
        ([{"type": "web_search"}, {"type": "image_generation", "model": "gpt-image-t"}], "gpt-image-t"),
        ([{"type": "image_generation"}], "image_generation"),
        ([], "image_generation"),
        (None, "image_generation"),
    ],
    ids=repr,
)
def test_images_of_a_response_are_a_sub_call_to_the_image_model(tools: object, model: str) -> None:
    """The response's own usage excludes them. An unnamed model has no price, because the default changes."""
    done = response("completed", REASONED, tools=tools, tool_usage={"image_gen": IMAGES})
    plain = ResponsesReader()
    plain.read_body(json.dumps(done).encode())
    streamed = read(ResponsesReader(), CREATED, TEXT, {"type": "response.completed", "response": done})
    (images,) = streamed.sub_calls

    assert plain.reading.sub_calls == [images]
    assert (images.operation, images.model) == ("image_generation", model)
    assert images.tokens == {"input": 50, "input_image": 300, "output": 200, "output_image": 4000}


def test_response_without_images_has_no_sub_call() -> None:
    """All image counts are zero."""
    none = {"input_tokens": 0, "output_tokens": 0, "total_tokens": 0}
    reader = ResponsesReader()
    reader.read_body(json.dumps(response("completed", REASONED, tool_usage={"image_gen": none})).encode())

    assert reader.reading.sub_calls == []


@pytest.mark.parametrize(
    ("items", "uses"),
    [
        pytest.param([], {}, id="none"),
        pytest.param(
            [
                {
                    "type": "web_search_call",
                    "status": "completed",
                    "action": {"type": "search", "query": "t"},
                },
                {
                    "type": "web_search_call",
                    "status": "completed",
                    "action": {"type": "search", "query": "u"},
                },
                {"type": "message", "content": []},
            ],
            {"web_searches": 2},
            id="web searches",
        ),
        pytest.param(
            [
                {"type": "web_search_call", "action": {"type": "search"}},
                {"type": "web_search_call", "action": {"type": "open_page", "url": "t"}},
                {"type": "web_search_call", "action": {"type": "find_in_page", "pattern": "t"}},
            ],
            {"web_searches": 1},
            id="opening a page is not a search",
        ),
        pytest.param(
            [{"type": "web_search_call", "status": "completed"}], {"web_searches": 1}, id="no action"
        ),
        pytest.param(
            [{"type": "file_search_call", "queries": ["t"]}], {"storage_searches": 1}, id="file search"
        ),
        pytest.param([{"type": "function_call", "name": "web_search_call"}], {}, id="the caller's own tool"),
    ],
)
def test_responses_tools_with_a_fee_are_counted_in_the_output(
    items: list[Json], uses: dict[str, int]
) -> None:
    """The output items show which of the provider's tools were used."""
    done = response("completed", REASONED, output=items)
    plain = ResponsesReader()
    plain.read_body(json.dumps(done).encode())

    assert plain.reading.units == uses
    streamed = read(ResponsesReader(), CREATED, TEXT, {"type": "response.completed", "response": done})
    assert streamed.units == uses


@pytest.mark.parametrize(
    "kind",
    [
        "response.output_text.delta",
        "response.reasoning_text.delta",
        "response.reasoning_summary_text.delta",
        "response.function_call_arguments.delta",
        "response.custom_tool_call_input.delta",
        "response.refusal.delta",
        "response.audio.delta",
    ],
)
def test_responses_first_token_may_be_of_any_kind(kind: str) -> None:
    """Reasoning and tool calls are tokens too."""
    assert read(ResponsesReader(), CREATED, {"type": kind, "delta": "T"}).token_seen


@pytest.mark.parametrize(
    "event",
    [
        CREATED,
        {"type": "response.in_progress", "response": response("in_progress")},
        {"type": "response.output_item.added", "item": {"type": "message", "content": []}},
        {"type": "response.content_part.added", "part": {"type": "output_text", "text": ""}},
        {"type": "response.web_search_call.searching", "item_id": "ws_t"},
        {"type": "response.completed", "response": response("completed", REASONED)},
    ],
    ids=lambda event: event["type"],
)
def test_responses_event_without_content_is_not_the_first_token(event: Json) -> None:
    """Several events precede the first token."""
    assert read(ResponsesReader(), event).token_seen is False


@pytest.mark.parametrize(
    "event",
    [
        {**TEXT, "delta": TALK + ' "type": "error"'},
        {"type": "response.output_text.done", "text": TALK},
        {"type": "response.in_progress", "response": response("in_progress")},
    ],
    ids=["text", "whole text", "nulls"],
)
def test_responses_event_that_mentions_usage_carries_none(event: Json) -> None:
    """Quotes inside a JSON string are escaped, so generated text cannot be mistaken for a key."""
    reader = ResponsesReader()

    assert not reader.may_carry_usage(json.dumps(event).encode())
    reading = read(reader, CREATED, TEXT, event)
    assert (reading.tokens, reading.error) == (None, None)
