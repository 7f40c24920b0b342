"""The workload uses the SDKs in every way there is, and what is metered is what the provider gave."""

from __future__ import annotations

import asyncio
import threading
from collections import Counter

import pytest

from demo.provider import Provider
from demo.workload import work
from llm_exporter import Call
from llm_exporter.client.pipeline import Pipeline
from support.metered import Metered


@pytest.mark.filterwarnings("ignore:Inheritance class AiohttpClientSession:DeprecationWarning")
def test_every_token_that_the_provider_gave_is_metered_with_who_it_was_for(
    pipeline: Pipeline, metered: Metered
) -> None:
    enough = threading.Event()
    awaited = {
        "planner",
        "researcher",
        "coder",
        "reviewer",
        "summarizer",
        "rate_limited",
        "overloaded",
        "unpriced",
    }

    def see(call: Call) -> None:
        awaited.difference_update({call.agent, *call.retries, "unpriced" if call.unpriced_tokens else ""})
        if not awaited:
            enough.set()

    pipeline.subscribe(see)
    with Provider(speed=200, rate_limited_every=8, overloaded_every=13) as provider:
        asyncio.run(work(provider.url, enough))
        given = Counter[tuple[str, str]]()
        for answer in provider.answers:
            given.update({(answer.model.answers_as, kind): number for kind, number in answer.tokens.items()})

    calls = [call for call in metered.calls if not call.error]
    counted = Counter[tuple[str, str]]()
    for call in calls:
        counted.update({(call.model, kind): number for kind, number in call.tokens.items()})
    assert counted == +given
    assert len(calls) == len(provider.answers)
    assert {call.provider for call in calls} == {"openai", "anthropic", "google"}
    assert {call.stream for call in calls} == {True, False}
    assert {kind for _, kind in counted} == {
        "input",
        "cache_read",
        "cache_write",
        "cache_write_1h",
        "output",
        "reasoning",
    }
    assert {call.error for call in metered.calls} >= {"invalid_request"}
    assert all({"project", "session", "agent", "phase"} == call.labels.keys() for call in metered.calls)
