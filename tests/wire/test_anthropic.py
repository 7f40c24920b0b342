"""The reader of Anthropic's Messages API, streamed or not."""

from __future__ import annotations

import json
from typing import Any, get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llm_exporter.call import TokenType
from llm_exporter.wire.anthropic import MessagesReader
from llm_exporter.wire.framing import framing_for
from llm_exporter.wire.reader import Reading
from support.counts import sum_of_counts

Json = dict[str, Any]


def read(*events: Json) -> Reading:
    """Return the reading of a stream of these events."""
    reader = MessagesReader()
    framing = framing_for("text/event-stream; charset=utf-8", b"event:", reader)
    for event in events:
        framing.feed(f"event: {event.get('type')}\ndata: {json.dumps(event)}\n\n".encode())
    framing.end()
    return reader.reading


def read_body(usage: object, **fields: Any) -> Reading:
    """Return the reading of a message with this usage."""
    reader = MessagesReader()
    reader.read_body(json.dumps(message(usage, **fields)).encode())
    return reader.reading


def message(usage: object, **fields: Any) -> Json:
    """Return a message object."""
    head = {"id": "msg_t", "type": "message", "role": "assistant", "model": "claude-t-5", "content": []}
    return {**head, "stop_reason": None, "usage": usage, **fields}


def start(usage: Json, **fields: Any) -> Json:
    """Return a `message_start` event."""
    return {"type": "message_start", "message": message(usage, **fields)}


def end(usage: Json) -> Json:
    """Return a `message_delta` event with usage."""
    return {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": usage}


TEXT = {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "Ten"}}
PING = {"type": "ping"}
STOP = {"type": "message_stop"}

# ---- usage objects


@pytest.mark.parametrize(
    ("usage", "tokens"),
    [
        pytest.param({"input_tokens": 20, "output_tokens": 8}, {"input": 20, "output": 8}, id="plain"),
        pytest.param(
            {
                "input_tokens": 20,
                "cache_read_input_tokens": 3000,
                "cache_creation_input_tokens": 500,
                "output_tokens": 8,
            },
            {"input": 20, "cache_read": 3000, "cache_write": 500, "output": 8},
            id="input excludes cache reads and writes; no split",
        ),
        pytest.param(
            {
                "input_tokens": 20,
                "cache_creation_input_tokens": 900,
                "cache_creation": {"ephemeral_5m_input_tokens": 200, "ephemeral_1h_input_tokens": 700},
                "output_tokens": 8,
            },
            {"input": 20, "cache_write": 200, "cache_write_1h": 700, "output": 8},
            id="5 minutes and 1 hour",
        ),
        pytest.param(
            {
                "input_tokens": 20,
                "cache_creation_input_tokens": 900,
                "cache_creation": {"ephemeral_5m_input_tokens": 0, "ephemeral_1h_input_tokens": 0},
                "output_tokens": 8,
            },
            {"input": 20, "cache_write": 900, "output": 8},
            id="a split of zeros",
        ),
        pytest.param(
            {
                "input_tokens": 20,
                "cache_creation_input_tokens": 900,
                "cache_creation": {"ephemeral_5m_input_tokens": 300, "ephemeral_1h_input_tokens": 100},
                "output_tokens": 8,
            },
            {"input": 20, "cache_write": 800, "cache_write_1h": 100, "output": 8},  # 900 - 100
            id="a split below the total",
        ),
        pytest.param(
            {
                "input_tokens": 20,
                "cache_creation_input_tokens": 900,
                "cache_creation": {"ephemeral_5m_input_tokens": 900, "ephemeral_1h_input_tokens": 1200},
                "output_tokens": 8,
            },
            {"input": 20, "cache_write_1h": 900, "output": 8},
            id="a split above the total",
        ),
        pytest.param(
            {
                "input_tokens": 20,
                "cache_creation": {"ephemeral_5m_input_tokens": 40, "ephemeral_1h_input_tokens": 60},
                "output_tokens": 8,
            },
            {"input": 20, "cache_write": 40, "cache_write_1h": 60, "output": 8},
            id="a split without a total",
        ),
        pytest.param(
            {"input_tokens": 20, "output_tokens": 800, "output_tokens_details": {"thinking_tokens": 650}},
            {"input": 20, "output": 150, "reasoning": 650},  # 800 - 650
            id="output includes thinking",
        ),
        pytest.param(
            {"input_tokens": 20, "output_tokens": 8, "output_tokens_details": {"thinking_tokens": 9}},
            {"input": 20, "reasoning": 8},
            id="more thinking than output",
        ),
    ],
)
def test_tokens_are_disjoint_and_complete(usage: Json, tokens: dict[str, int]) -> None:
    """Each token is counted under one type."""
    assert read_body(usage).tokens == tokens


counts = st.integers(0, 100_000)
NUMBERS = (
    "input_tokens",
    "output_tokens",
    "cache_read_input_tokens",
    "cache_creation_input_tokens",
    "ephemeral_5m_input_tokens",
    "ephemeral_1h_input_tokens",
    "thinking_tokens",
    "web_search_requests",
    "type",
    "model",
)
OBJECTS = ("cache_creation", "output_tokens_details", "server_tool_use", "iterations", "service_tier")
hostile = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(10**30), 10**30)
    | st.floats(allow_nan=False, allow_infinity=False)  # JSON has neither
    | st.text(max_size=5)
    | counts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(NUMBERS), inner, max_size=4),
    max_leaves=8,
)
usages = st.dictionaries(st.sampled_from((*NUMBERS, *OBJECTS)), hostile)


@settings(deadline=None)
@given(first=usages, last=usages)
def test_damaged_usage_neither_raises_nor_invents_tokens(first: Json, last: Json) -> None:
    """Counts are positive integers that add up to no more than those in the usage objects."""
    reading = read(start(first), TEXT, end(last), STOP)

    for each, reported in [(reading, {**first, **last}), *((sub, None) for sub in reading.sub_calls)]:
        tokens = each.tokens or {}
        assert all(type(number) is int and number > 0 for number in tokens.values())
        assert set(tokens) <= set(get_args(TokenType))
        assert reported is None or sum(tokens.values()) <= sum_of_counts(first) + sum_of_counts(last)
    assert all(type(uses) is int and uses > 0 for uses in reading.units.values())


@settings(deadline=None)
@given(fresh=counts, read_=counts, written=counts, out=counts, five=counts, hour=counts, thinking=counts)
def test_token_types_add_up_to_the_counts_whatever_the_details_claim(
    fresh: int, read_: int, written: int, out: int, five: int, hour: int, thinking: int
) -> None:
    """The token types add up to the four top-level counts."""
    usage = {
        "input_tokens": fresh,
        "cache_read_input_tokens": read_,
        "cache_creation_input_tokens": written,
        "output_tokens": out,
        "cache_creation": {"ephemeral_5m_input_tokens": five, "ephemeral_1h_input_tokens": hour},
        "output_tokens_details": {"thinking_tokens": thinking},
    }

    assert sum((read_body(usage).tokens or {}).values()) == fresh + read_ + written + out


# ---- messages


def test_body_gives_the_answering_model_tokens_tier_and_searches() -> None:
    """A message names its model, usage and service tier."""
    usage = {
        "input_tokens": 20,
        "output_tokens": 8,
        "service_tier": "priority",
        "server_tool_use": {"web_search_requests": 3, "web_fetch_requests": 1},
    }

    assert read_body(usage) == Reading(
        model="claude-t-5",
        tokens={"input": 20, "output": 8},
        service_tier="priority",
        units={"web_searches": 3},
    )


def test_response_overrides_the_requested_speed_and_region() -> None:
    """A response need not name them, and may have been served otherwise than requested."""
    request = {"speed": "fast", "inference_geo": "us"}
    usage = {"input_tokens": 20, "output_tokens": 8}
    body = {"type": "message", "model": "claude-t-5", "usage": usage}
    served = {"speed": "standard", "inference_geo": "global"}

    def read_requested(usage: Json) -> tuple[str | None, str]:
        reader = MessagesReader()
        reader.read_request(request)
        reader.read_body(json.dumps({**body, "usage": usage}).encode())
        return reader.reading.speed, reader.reading.region

    assert read_requested(usage) == ("fast", "us")
    assert read_requested({**usage, **served}) == ("standard", "global")


@pytest.mark.parametrize("usage", [None, {}, [], "none", 7], ids=repr)
def test_body_without_usage_reports_none(usage: object) -> None:
    """Missing usage differs from zero usage."""
    assert read_body(usage) == Reading(model="claude-t-5", tokens=None)


def test_error_body_is_read() -> None:
    """An error response to a streaming request is plain JSON."""
    reader = MessagesReader()
    reader.read_body(b'{"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}}')

    assert reader.reading == Reading(error="overloaded_error")


@pytest.mark.parametrize(
    ("first", "last", "tokens"),
    [
        pytest.param(
            {"input_tokens": 20, "output_tokens": 4},
            {"output_tokens": 90},
            {"input": 20, "output": 90},
            id="output is cumulative: 90, not 94",
        ),
        pytest.param(
            {
                "input_tokens": 20,
                "cache_read_input_tokens": 1000,
                "cache_creation_input_tokens": 300,
                "output_tokens": 1,
            },
            {"output_tokens": 90},
            {"input": 20, "cache_read": 1000, "cache_write": 300, "output": 90},
            id="an older delta has only the output",
        ),
        pytest.param(
            {"input_tokens": 20, "cache_read_input_tokens": 1000, "output_tokens": 1},
            {
                "input_tokens": 520,
                "cache_read_input_tokens": 1700,
                "cache_creation_input_tokens": 40,
                "output_tokens": 90,
            },
            {"input": 520, "cache_read": 1700, "cache_write": 40, "output": 90},
            id="a newer delta repeats all counts, increased by server tools",
        ),
        pytest.param(
            {"input_tokens": 20, "cache_read_input_tokens": 1000, "output_tokens": 1},
            {"input_tokens": None, "cache_read_input_tokens": None, "output_tokens": 90},
            {"input": 20, "cache_read": 1000, "output": 90},
            id="a null is ignored",
        ),
        pytest.param(
            {
                "input_tokens": 20,
                "cache_creation_input_tokens": 900,
                "cache_creation": {"ephemeral_5m_input_tokens": 200, "ephemeral_1h_input_tokens": 700},
                "output_tokens": 1,
            },
            {"input_tokens": 20, "cache_creation_input_tokens": 900, "output_tokens": 90},
            {"input": 20, "cache_write": 200, "cache_write_1h": 700, "output": 90},
            id="only the start has the split",
        ),
        pytest.param(
            {"input_tokens": 20, "output_tokens": 4},
            {"output_tokens": 0},
            {"input": 20},
            id="zero is a count",
        ),
    ],
)
def test_stream_usage_of_the_delta_overrides_that_of_the_start(
    first: Json, last: Json, tokens: dict[str, int]
) -> None:
    """The counts of `message_delta` are cumulative and replace those of `message_start`, key by key."""
    assert read(start(first), PING, TEXT, TEXT, end(last), STOP).tokens == tokens


def test_stream_with_several_deltas_uses_the_last() -> None:
    """Each `message_delta` repeats the counts so far."""
    deltas = [end({"output_tokens": number}) for number in (10, 50, 70)]

    assert read(start({"input_tokens": 20, "output_tokens": 1}), TEXT, *deltas).tokens == {
        "input": 20,
        "output": 70,
    }


def test_stream_that_ends_early_has_the_usage_of_its_start() -> None:
    """The prompt was read even if the stream broke after its first words."""
    assert read(start({"input_tokens": 20, "output_tokens": 3}), TEXT).tokens == {"input": 20, "output": 3}


def test_stream_tier_is_read_from_the_start() -> None:
    """The delta need not repeat the tier, and does not name the model."""
    reading = read(
        start({"input_tokens": 20, "output_tokens": 1, "service_tier": "batch"}),
        TEXT,
        end({"output_tokens": 9}),
    )

    assert (reading.model, reading.service_tier) == ("claude-t-5", "batch")


def test_stream_searches_are_read_from_the_delta() -> None:
    """Server tools run during generation. Their number is cumulative too."""
    reading = read(
        start({"input_tokens": 20, "output_tokens": 1, "server_tool_use": {"web_search_requests": 0}}),
        TEXT,
        end({"output_tokens": 5, "server_tool_use": {"web_search_requests": 1}}),
        end({"output_tokens": 9, "server_tool_use": {"web_search_requests": 2}}),
    )

    assert reading.units == {"web_searches": 2}


# ---- iterations


def step(kind: str, into: int, out: int, **fields: Any) -> Json:
    """Return one iteration."""
    caches = {"cache_read_input_tokens": 0, "cache_creation_input_tokens": 0}
    return {"type": kind, "input_tokens": into, "output_tokens": out, **caches, **fields}


@pytest.mark.parametrize(
    ("usage", "model", "tokens", "sub_calls"),
    [
        pytest.param(
            {"input_tokens": 130, "output_tokens": 17, "iterations": [step("message", 130, 17)]},
            "claude-t-5",
            {"input": 130, "output": 17},
            [],
            id="one message, same as the top level",
        ),
        pytest.param(
            {
                "input_tokens": 190,
                "output_tokens": 12,
                "iterations": [
                    step("compaction", 70_000, 400, cache_read_input_tokens=500),
                    step("message", 190, 12),
                ],
            },
            "claude-t-5",
            {"input": 190, "output": 12},
            [("claude-t-5", {"input": 70_000, "cache_read": 500, "output": 400})],
            id="a compaction is billed in addition, under the same model",
        ),
        pytest.param(
            {
                "input_tokens": 2300,
                "output_tokens": 160,
                "iterations": [
                    step("message", 1000, 150),
                    step("advisor_message", 2600, 90, model="claude-t-advisor"),
                    step("message", 1300, 10),
                ],
            },
            "claude-t-5",
            {"input": 2300, "output": 160},  # 1000 + 1300, 150 + 10
            [("claude-t-advisor", {"input": 2600, "output": 90})],
            id="an advisor is billed under its own model",
        ),
        pytest.param(
            {
                "input_tokens": 410,
                "output_tokens": 250,
                "iterations": [
                    step("message", 405, 0, model="claude-t-5"),
                    step("fallback_message", 410, 250, model="claude-t-4"),
                ],
            },
            "claude-t-4",
            {"input": 410, "output": 250},
            [("claude-t-5", {"input": 405})],
            id="a fallback model answered, and the refused attempt is billed in addition",
        ),
    ],
)
def test_iterations_outside_the_top_level_usage_are_sub_calls(
    usage: Json, model: str, tokens: dict[str, int], sub_calls: list[tuple[str, dict[str, int]]]
) -> None:
    """Compactions, advisors and refused attempts are billed separately, under their own model."""
    streamed = read(start({"input_tokens": 1, "output_tokens": 1}), TEXT, end(usage), STOP)

    for reading in (read_body(usage), streamed):
        assert (reading.model, reading.tokens) == (model, tokens)
        assert [(sub.model, sub.tokens) for sub in reading.sub_calls] == sub_calls


def test_iterations_repeated_in_a_later_delta_are_counted_once() -> None:
    """The list of iterations is cumulative too."""
    usage = {"input_tokens": 9, "output_tokens": 3, "iterations": [step("compaction", 800, 40)]}
    reading = read(start({"input_tokens": 9, "output_tokens": 1}), TEXT, end(usage), end(usage))

    assert [sub.tokens for sub in reading.sub_calls] == [{"input": 800, "output": 40}]


# ---- errors, first token, check for usage

OVERLOADED = {"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}}


@pytest.mark.parametrize(
    ("before", "tokens"),
    [
        pytest.param([], None, id="at once"),
        pytest.param(
            [start({"input_tokens": 20, "output_tokens": 2}), TEXT], {"input": 20, "output": 2}, id="midway"
        ),
    ],
)
def test_error_inside_a_stream_is_read(before: list[Json], tokens: dict[str, int] | None) -> None:
    """An overload error may arrive after HTTP 200. Earlier usage is kept."""
    reading = read(*before, OVERLOADED)

    assert (reading.error, reading.tokens) == ("overloaded_error", tokens)


@pytest.mark.parametrize(
    "delta",
    [
        pytest.param({"type": "text_delta", "text": "T"}, id="text"),
        pytest.param({"type": "thinking_delta", "thinking": "Let"}, id="thinking"),
        pytest.param({"type": "input_json_delta", "partial_json": '{"a'}, id="tool call"),
    ],
)
def test_first_token_may_be_of_any_kind(delta: Json) -> None:
    """Any generated content counts as a token."""
    event = {"type": "content_block_delta", "index": 0, "delta": delta}

    assert read(start({"input_tokens": 1, "output_tokens": 1}), event).token_seen


@pytest.mark.parametrize(
    "event",
    [
        start({"input_tokens": 20, "output_tokens": 2}),
        PING,
        {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
        {"type": "content_block_stop", "index": 0},
        end({"output_tokens": 9}),
        STOP,
        {"type": "an_unknown_event", "usage": {"output_tokens": 9}},
    ],
    ids=lambda event: event["type"],
)
def test_event_without_content_is_not_the_first_token(event: Json) -> None:
    """A stream starts with metadata, pings and empty blocks."""
    assert read(event).token_seen is False


def test_text_that_mentions_usage_carries_none() -> None:
    """Quotes inside a JSON string are escaped, so generated text cannot be mistaken for a key."""
    talk = 'It says "usage": {"output_tokens": 999}, "error": {"type": "api_error"}.'
    event = {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": talk}}

    assert not MessagesReader().may_carry_usage(json.dumps(event).encode())
    reading = read(start({"input_tokens": 20, "output_tokens": 2}), TEXT, event)
    assert (reading.tokens, reading.error) == ({"input": 20, "output": 2}, None)
