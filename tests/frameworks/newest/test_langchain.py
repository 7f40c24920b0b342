"""LangChain's chat models use the official clients, so each call is counted once."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from langchain_anthropic import ChatAnthropic
from langchain_openai import ChatOpenAI

import llm_exporter
from support.metered import Metered
from support.one_call import assert_one_call
from support.operations import CHAT, MESSAGES, RESPONSES, Format

CASES = [
    pytest.param(
        lambda url: ChatOpenAI(model="gpt-4o", base_url=f"{url}/v1", api_key="k"), CHAT, id="openai chat"
    ),
    pytest.param(
        lambda url: ChatOpenAI(model="o4-mini", base_url=f"{url}/v1", api_key="k", use_responses_api=True),
        RESPONSES,
        id="openai responses",
    ),
    pytest.param(
        lambda url: ChatAnthropic(model="claude-sonnet-4-6", base_url=url, api_key="k"),
        MESSAGES,
        id="anthropic",
    ),
]


def invoke(model: Any) -> None:
    model.invoke("How many?")


def ainvoke(model: Any) -> None:
    asyncio.run(model.ainvoke("How many?"))


def stream(model: Any) -> None:
    assert list(model.stream("How many?"))


def astream(model: Any) -> None:
    async def run() -> None:
        assert [chunk async for chunk in model.astream("How many?")]

    asyncio.run(run())


@pytest.mark.parametrize("use", [invoke, ainvoke, stream, astream])
@pytest.mark.parametrize(("make", "wire"), CASES)
def test_a_chat_model_makes_one_call(
    make: Any, wire: Format, use: Any, provider: str, metered: Metered
) -> None:
    with llm_exporter.labels(agent="framework"):
        use(make(provider))
    assert_one_call(metered, wire)
