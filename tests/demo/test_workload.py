"""The workload uses the SDKs in every supported way, and metered tokens equal the provider's."""

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
def test_the_workload_is_metered_to_the_token_and_with_all_labels(
    pipeline: Pipeline, metered: Metered
) -> None:
    stop = threading.Event()
    missing = {
        "planner",
        "researcher",
        "coder",
        "reviewer",
        "summarizer",
        "rate_limited",
        "overloaded",
        "unpriced",
    }

    def stop_once_all_are_seen(call: Call) -> None:
        missing.difference_update({call.agent, *call.retries, "unpriced" if call.unpriced_tokens else ""})
        if not missing:
            stop.set()

    pipeline.subscribe(stop_once_all_are_seen)
    with Provider(speed=200, rate_limited_every=8, overloaded_every=13) as provider:
        asyncio.run(work(provider.url, stop))
        generated = Counter[tuple[str, str]]()
        for completion in provider.completions:
            generated.update(
                {(completion.model.dated_name, kind): number for kind, number in completion.tokens.items()}
            )

    calls = [call for call in metered.calls if not call.error]
    counted = Counter[tuple[str, str]]()
    for call in calls:
        counted.update({(call.model, kind): number for kind, number in call.tokens.items()})
    assert counted == +generated
    assert len(calls) == len(provider.completions)
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
    assert all(
        {"team", "project", "session", "agent", "phase"} == call.labels.keys() for call in metered.calls
    )
