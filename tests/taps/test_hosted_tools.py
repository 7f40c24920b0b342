"""The image models and containers that OpenAI's responses use. Prices are those of 2026-11."""

from __future__ import annotations

import openai

import llm_exporter
from support import payloads
from support.metered import Metered
from support.operations import require
from support.payloads import dump, image_usage
from support.scripted import Response, Server


def test_images_in_a_response_are_priced_by_the_image_model(server: Server, metered: Metered) -> None:
    """gpt-image-1-mini: text in 2, image in 2.50, image out 8 a million tokens; also when it is retrieved."""
    used = {"input_tokens": 500, "output_tokens": 260, "total_tokens": 760}
    images = image_usage(100, 400, 1000)
    done = {
        **payloads._response("completed", used, "gpt-5-2025-08-07"),
        "tools": [{"type": "image_generation", "model": "gpt-image-1-mini"}],
        "tool_usage": {"image_gen": images, "web_search": {"num_requests": 0}},
    }
    server.respond_with("/resp_1", Response(dump(done)))
    with llm_exporter.instrument(openai.OpenAI(base_url=server.url, api_key="k")) as client:
        client.responses.retrieve("resp_1")
    response, image = metered.calls
    assert (response.model, response.tokens) == ("gpt-5-2025-08-07", {"input": 500, "output": 260})
    assert (image.model, image.operation, image.batch) == ("gpt-image-1-mini", "image_generation", False)
    assert image.cost == {"input": 0.0002, "input_image": 0.001, "output_image": 0.008}


def test_images_of_an_unnamed_model_have_no_price(server: Server, metered: Metered) -> None:
    used = {"input_tokens": 500, "output_tokens": 260, "total_tokens": 760}
    done = payloads._response("completed", used, "gpt-5-2025-08-07")
    server.respond_with(
        "/responses", Response(dump({**done, "tool_usage": {"image_gen": image_usage(100, 400, 1000)}}))
    )
    with llm_exporter.instrument(openai.OpenAI(base_url=server.url, api_key="k")) as client:
        client.responses.create(model="gpt-5", input="x")
    _, image = metered.calls
    assert (image.cost, image.unpriced_tokens) == ({}, 1500)


def test_a_container_is_counted_once_however_many_responses_use_it(server: Server, metered: Metered) -> None:
    used = {"input_tokens": 500, "output_tokens": 260, "total_tokens": 760}
    done = {
        **payloads._response("completed", used, "gpt-5-2025-08-07"),
        "output": [
            {
                "type": "code_interpreter_call",
                "id": f"ci_{number}",
                "container_id": "cntr_1",
                "status": "completed",
            }
            for number in range(2)
        ],
        "tools": [{"type": "code_interpreter", "container": {"type": "auto", "memory_limit": "4g"}}],
    }
    second = {**done, "id": "resp_2"}
    server.respond_with("/responses", Response(dump(done)), Response(dump(second)))
    with llm_exporter.instrument(openai.OpenAI(base_url=server.url, api_key="k")) as client:
        for _ in range(2):
            client.responses.create(model="gpt-5", input="x")
    assert [call.units for call in metered.calls] == [{"containers_4g": 1}, {}]


def test_a_created_container_is_a_call(server: Server, metered: Metered) -> None:
    server.respond_with(
        "/containers", Response(dump({"id": "cntr_1", "object": "container", "memory_limit": "16g"}))
    )
    with llm_exporter.instrument(openai.OpenAI(base_url=server.url, api_key="k")) as client:
        require(client, "containers.create")(name="x", extra_body={"memory_limit": "16g"})
    call = metered.call
    assert (call.operation, call.units, call.usage_reported) == ("container", {"containers_16g": 1}, True)
