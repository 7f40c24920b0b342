"""The usage objects of OpenAI and of compatible services: tokens by type, and reported costs."""

from __future__ import annotations

from typing import get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llm_exporter.call import TokenType
from llm_exporter.wire.openai import ChatReader
from llm_exporter.wire.openai_usage import tokens_of
from support.counts import sum_of_counts
from support.openai_streams import SMALL, SMALL_TOKENS, Json, chunk, read


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
