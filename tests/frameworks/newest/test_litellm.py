"""LiteLLM calls OpenAI through the official client, so each call is counted once."""

from __future__ import annotations

import asyncio
import os
from typing import Any

import pytest

import llm_exporter
from support.metered import Metered
from support.one_call import assert_one_call
from support.operations import CHAT

os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"  # do not download prices

import litellm  # reads the environment on import

litellm.telemetry = False


def options(url: str) -> dict[str, Any]:
    return {
        "model": "openai/gpt-4o",
        "messages": [{"role": "user", "content": "How many?"}],
        "api_base": f"{url}/v1",
        "api_key": "k",
    }


def completion(url: str) -> None:
    assert litellm.completion(**options(url)).choices[0].message.content == "Seven."


def acompletion(url: str) -> None:
    asyncio.run(litellm.acompletion(**options(url)))


def stream(url: str) -> None:
    assert list(litellm.completion(**options(url), stream=True))


@pytest.mark.parametrize("use", [completion, acompletion, stream])
def test_a_completion_is_one_call(use: Any, provider: str, metered: Metered) -> None:
    with llm_exporter.labels(agent="framework"):
        use(provider)
    assert_one_call(metered, CHAT)
