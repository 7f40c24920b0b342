"""LlamaIndex's models use the official clients, so each call is counted once."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from google.genai.types import HttpOptions
from llama_index.core.llms import ChatMessage
from llama_index.llms.anthropic import Anthropic
from llama_index.llms.google_genai import GoogleGenAI
from llama_index.llms.openai import OpenAI, OpenAIResponses

import llm_exporter
from support.metered import Metered
from support.one_call import assert_one_call
from support.operations import CHAT, GEMINI, MESSAGES, RESPONSES, Format

PROMPT = [ChatMessage(role="user", content="How many?")]

CASES = [
    pytest.param(
        lambda url: OpenAI(model="gpt-4o", api_base=f"{url}/v1", api_key="k"), CHAT, id="openai chat"
    ),
    pytest.param(
        lambda url: OpenAIResponses(model="o4-mini", api_base=f"{url}/v1", api_key="k"),
        RESPONSES,
        id="openai responses",
    ),
    pytest.param(
        lambda url: Anthropic(model="claude-sonnet-4-6", base_url=url, api_key="k"), MESSAGES, id="anthropic"
    ),
    pytest.param(
        lambda url: GoogleGenAI(
            model="gemini-2.5-pro",
            api_key="k",
            context_window=1_000_000,  # otherwise it queries the provider
            max_tokens=1_000,
            http_options=HttpOptions(base_url=url),
        ),
        GEMINI,
        id="google",
    ),
]


def chat(model: Any) -> None:
    assert model.chat(PROMPT).message.content == "Seven."


def achat(model: Any) -> None:
    asyncio.run(model.achat(PROMPT))


def complete(model: Any) -> None:
    assert model.complete("How many?").text == "Seven."


def stream(model: Any) -> None:
    assert list(model.stream_chat(PROMPT))


def astream(model: Any) -> None:
    async def run() -> None:
        assert [chunk async for chunk in await model.astream_chat(PROMPT)]

    asyncio.run(run())


def clients_of(model: Any) -> list[Any]:
    if isinstance(model, GoogleGenAI):
        return [model._client]
    if isinstance(model, OpenAI):
        return [model._get_client(), model._get_aclient()]
    return [model._client, model._aclient]


@pytest.mark.parametrize("instrument_client", [False, True], ids=["all clients", "all clients and this one"])
@pytest.mark.parametrize("use", [chat, achat, complete, stream, astream])
@pytest.mark.parametrize(("make", "wire"), CASES)
def test_a_model_makes_one_call(
    make: Any, wire: Format, use: Any, instrument_client: bool, provider: str, metered: Metered
) -> None:
    model = make(provider)
    if instrument_client:
        for client in clients_of(model):
            llm_exporter.instrument(client)
    with llm_exporter.labels(agent="framework"):
        use(model)
    assert_one_call(metered, wire)
