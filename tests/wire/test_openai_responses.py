"""The reader of OpenAI's responses."""

from __future__ import annotations

import json
from typing import Any

import pytest
from msgspec.structs import replace

from llm_exporter.wire.openai_responses import ResponsesReader
from llm_exporter.wire.reader import Reading
from support.openai_streams import TALK, Json, read


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
