"""Pydantic AI's models use the official clients, so each call is counted once."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from pydantic_ai import Agent
from pydantic_ai.models.anthropic import AnthropicModel
from pydantic_ai.models.google import GoogleModel
from pydantic_ai.models.openai import OpenAIChatModel, OpenAIResponsesModel
from pydantic_ai.providers.anthropic import AnthropicProvider
from pydantic_ai.providers.google import GoogleProvider
from pydantic_ai.providers.openai import OpenAIProvider

import llm_exporter
from support.metered import Metered
from support.one_call import assert_one_call
from support.operations import CHAT, GEMINI, MESSAGES, RESPONSES, Format


def openai_provider(url: str) -> OpenAIProvider:
    return OpenAIProvider(base_url=f"{url}/v1", api_key="k")


CASES = [
    pytest.param(
        lambda url: OpenAIChatModel("gpt-4o", provider=openai_provider(url)), CHAT, id="openai chat"
    ),
    pytest.param(
        lambda url: OpenAIResponsesModel("o4-mini", provider=openai_provider(url)),
        RESPONSES,
        id="openai responses",
    ),
    pytest.param(
        lambda url: AnthropicModel(
            "claude-sonnet-4-6", provider=AnthropicProvider(base_url=url, api_key="k")
        ),
        MESSAGES,
        id="anthropic",
    ),
    pytest.param(
        lambda url: GoogleModel("gemini-2.5-pro", provider=GoogleProvider(base_url=url, api_key="k")),
        GEMINI,
        id="google",
    ),
]


@pytest.mark.parametrize("streamed", [False, True], ids=["plain", "stream"])
@pytest.mark.parametrize(("make", "wire"), CASES)
def test_an_agent_run_is_one_call(
    make: Any, wire: Format, streamed: bool, provider: str, metered: Metered
) -> None:
    async def run() -> None:
        agent = Agent(make(provider))
        if streamed:
            async with agent.run_stream("How many?") as answer:
                assert await answer.get_output()
        else:
            assert (await agent.run("How many?")).output == "Seven."

    with llm_exporter.labels(agent="framework"):
        asyncio.run(run())
    assert_one_call(metered, wire)
