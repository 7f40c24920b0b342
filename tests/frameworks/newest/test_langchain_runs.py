"""Calls of LangChain have the `run_name` of their chain, with no line of the program changed."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from langchain_core.prompts import ChatPromptTemplate
from langchain_core.runnables import Runnable, RunnableLambda
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI
from openai import OpenAI

import llm_exporter
from support.acting_model import ActingModel
from support.metered import Metered

INPUT = {"topic": "seven"}


def chain(url: str, who: str, model: str = "gpt-4o-mini") -> Runnable[Any, Any]:
    prompt = ChatPromptTemplate.from_messages([("system", f"You are {who}."), ("user", "{topic}")])
    return prompt | ChatOpenAI(model=model, base_url=url, api_key="k")


def writer_with_helpers(url: str) -> Runnable[Any, Any]:
    """Return a chain that runs two others beside one another, one in a tool, and a model of OpenAI's SDK."""
    checker = chain(url, "checker").with_config(run_name="checker")

    @tool
    def check(topic: str) -> str:
        """Check a topic."""
        return str(checker.invoke({"topic": topic}).content)

    def look_up(found: dict[str, Any]) -> dict[str, Any]:
        with OpenAI(base_url=url, api_key="k") as client:
            messages = [{"role": "user", "content": "You are writer."}]
            client.chat.completions.create(model="gpt-4o", messages=messages)
        return {"topic": found["topic"]}

    branches = {
        "research": chain(url, "researcher").with_config(run_name="researcher"),
        "check": RunnableLambda(check.invoke),
        "topic": RunnableLambda(lambda found: found["topic"]),
    }
    return branches | RunnableLambda(look_up) | chain(url, "writer", "gpt-4o")


def test_chains_run_in_threads_beside_one_another_and_in_tools(
    model: ActingModel, metered: Metered, figure: Callable[[str], None]
) -> None:
    writer = writer_with_helpers(model.url)
    named: Any = {"run_name": "writer"}

    async def run() -> None:
        await asyncio.gather(writer.ainvoke(INPUT, named), writer.abatch([INPUT], named))
        assert [part async for part in writer.astream(INPUT, named)]

    with ThreadPoolExecutor() as pool:
        run_in_thread = pool.submit(writer.with_config(run_name="writer").invoke, INPUT)
        writer.batch([INPUT, INPUT], named)
        assert list(writer.stream(INPUT, named))
        asyncio.run(run())
        run_in_thread.result()

    model.assert_labels(
        metered,
        {
            ("writer", "unattributed"): 2 * 7,  # of a chat model and of the SDK
            ("researcher", "unattributed"): 7,
            ("checker", "unattributed"): 7,
        },
    )
    share = model.share(metered)
    figure(f"{share:.1%} of the dollars have the right agent")
    assert share >= 0.95


@pytest.mark.parametrize("use", ["invoke", "batch", "stream"])
def test_the_name_of_a_model_is_the_phase_of_its_chain(
    use: str, model: ActingModel, metered: Metered
) -> None:
    named = ChatOpenAI(model="gpt-4o", base_url=model.url, api_key="k").with_config(run_name="draft")
    plain = ChatOpenAI(model="gpt-4o", base_url=model.url, api_key="k")
    writer = (RunnableLambda(lambda found: found["topic"]) | named).with_config(run_name="writer")

    def run(runnable: Runnable[Any, Any], value: object) -> None:
        result = getattr(runnable, use)([value] if use == "batch" else value)
        assert list(result)

    run(writer, INPUT)
    run(named, "You are draft.")
    run(plain, "Nobody in particular.")
    calls = {(call.agent, call.phase) for call in metered.calls}
    assert calls == {("writer", "draft"), ("draft", "unattributed"), ("unattributed", "unattributed")}
    assert len(metered.calls) == 3


def test_explicit_labels_come_first(model: ActingModel, metered: Metered) -> None:
    with llm_exporter.labels(agent="mine"):
        chain(model.url, "writer").invoke(INPUT, {"run_name": "writer"})
    assert metered.call.agent == "mine"


def test_nobody_is_asked_if_the_program_says_so(model: ActingModel, metered: Metered) -> None:
    llm_exporter.instrument(labels_from=())
    chain(model.url, "writer").invoke(INPUT, {"run_name": "writer"})
    assert metered.call.agent == "unattributed"


def test_a_chain_of_a_program_that_is_no_longer_metered_has_its_own_methods_back() -> None:
    from langchain_core.callbacks.base import BaseCallbackManager
    from langchain_core.language_models import BaseChatModel
    from langchain_core.runnables import base

    observed = (base.patch_config, BaseCallbackManager.copy, BaseChatModel.generate, BaseChatModel.astream)
    llm_exporter.uninstrument()
    own = (base.patch_config, BaseCallbackManager.copy, BaseChatModel.generate, BaseChatModel.astream)
    assert not any(hasattr(method, "_llm_exporter_wrapped") for method in own)
    assert all(hasattr(method, "_llm_exporter_wrapped") for method in observed)
