"""The OpenAI Agents SDK uses the official client, so each turn is counted once."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from agents import Agent, OpenAIChatCompletionsModel, OpenAIResponsesModel, Runner, set_tracing_disabled
from openai import AsyncOpenAI

import llm_exporter
from support.metered import Metered
from support.one_call import assert_one_call
from support.operations import CHAT, RESPONSES, Format


@pytest.mark.parametrize("streamed", [False, True], ids=["plain", "stream"])
@pytest.mark.parametrize(
    ("model", "name", "wire"),
    [(OpenAIChatCompletionsModel, "gpt-4o", CHAT), (OpenAIResponsesModel, "o4-mini", RESPONSES)],
    ids=["chat", "responses"],
)
def test_an_agent_turn_is_one_call(
    model: Any, name: str, wire: Format, streamed: bool, provider: str, metered: Metered
) -> None:
    set_tracing_disabled(True)

    async def run() -> None:
        async with AsyncOpenAI(base_url=f"{provider}/v1", api_key="k") as client:
            agent = Agent(name="counter", model=model(name, openai_client=client))
            if streamed:
                result = Runner.run_streamed(agent, "How many?")
                async for _ in result.stream_events():
                    pass
            else:
                assert (await Runner.run(agent, "How many?")).final_output == "Seven."

    with llm_exporter.labels(agent="framework"):
        asyncio.run(run())
    assert_one_call(metered, wire)
