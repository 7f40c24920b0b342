"""Instructor uses the official clients and retries invalid responses; each attempt is a call."""

from __future__ import annotations

import asyncio
from typing import Any

import anthropic
import instructor
import openai
import pytest
from pydantic import BaseModel

import llm_exporter
from support.metered import Metered
from support.one_call import assert_is_the_call
from support.operations import CHAT, MESSAGES, PROMPT, Format
from support.scripted import Server


class Count(BaseModel):
    number: int


CASES = [
    pytest.param(
        lambda url: openai.OpenAI(base_url=f"{url}/v1", api_key="k"),
        instructor.from_openai,
        CHAT,
        id="openai",
    ),
    pytest.param(
        lambda url: openai.AsyncOpenAI(base_url=f"{url}/v1", api_key="k"),
        instructor.from_openai,
        CHAT,
        id="openai async",
    ),
    pytest.param(
        lambda url: anthropic.Anthropic(base_url=url, api_key="k"),
        instructor.from_anthropic,
        MESSAGES,
        id="anthropic",
    ),
    pytest.param(
        lambda url: anthropic.AsyncAnthropic(base_url=url, api_key="k"),
        instructor.from_anthropic,
        MESSAGES,
        id="anthropic async",
    ),
]


def ask(patched: Any, wire: Format) -> Count:
    answer = patched.create(
        model=wire.requested_model, messages=PROMPT, max_tokens=99, response_model=Count, max_retries=2
    )
    return asyncio.run(answer) if asyncio.iscoroutine(answer) else answer


@pytest.mark.parametrize("instrument_client", [False, True], ids=["all clients", "all clients and this one"])
@pytest.mark.parametrize(("make", "patch", "wire"), CASES)
def test_an_invalid_response_and_its_retry_are_two_calls(
    make: Any, patch: Any, wire: Format, instrument_client: bool, server: Server, metered: Metered
) -> None:
    valid = wire.responses[0]()
    valid.body = valid.body.replace(b"Seven.", rb"{\"number\": 7}")
    server.respond_with(wire.paths[0], wire.responses[0](), valid)
    client = make(server.url)
    if instrument_client:
        llm_exporter.instrument(client)
    with llm_exporter.labels(agent="framework"):
        assert ask(patch(client, mode=instructor.Mode.JSON), wire).number == 7
    first, second = metered.calls
    assert_is_the_call(first, wire)
    assert_is_the_call(second, wire)
    assert metered.total("llm_calls_total") == 2
