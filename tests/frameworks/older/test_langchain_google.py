"""LangChain's Gemini models use the official client, so each call is counted once."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest
from langchain_google_genai import ChatGoogleGenerativeAI

import llm_exporter
from support.metered import Metered
from support.one_call import assert_one_call
from support.operations import GEMINI


def invoke(model: ChatGoogleGenerativeAI) -> None:
    assert model.invoke("How many?").text == "Seven."


def ainvoke(model: ChatGoogleGenerativeAI) -> None:
    asyncio.run(model.ainvoke("How many?"))


def stream(model: ChatGoogleGenerativeAI) -> None:
    assert list(model.stream("How many?"))


def astream(model: ChatGoogleGenerativeAI) -> None:
    async def run() -> None:
        assert [chunk async for chunk in model.astream("How many?")]

    asyncio.run(run())


@pytest.mark.parametrize("instrument_client", [False, True], ids=["all clients", "all clients and this one"])
@pytest.mark.parametrize("use", [invoke, ainvoke, stream, astream])
def test_a_chat_model_makes_one_call(
    use: Callable[[ChatGoogleGenerativeAI], None], instrument_client: bool, provider: str, metered: Metered
) -> None:
    model = ChatGoogleGenerativeAI(model="gemini-2.5-pro", base_url=provider, api_key="k")
    if instrument_client:
        llm_exporter.instrument(model.client)
    with llm_exporter.labels(agent="framework"):
        use(model)
    assert_one_call(metered, GEMINI)
