"""The benchmarks measure calls that are metered in full."""

from __future__ import annotations

import asyncio

import llm_exporter
from bench.sdks import plain_calls, streams
from support.metered import Metered

TOKENS = {
    "openai": {"input": 176, "cache_read": 1024, "output": 300},
    "anthropic": {"input": 176, "cache_read": 1024, "output": 300},
    "google-genai": {"input": 176, "cache_read": 1024, "output": 300, "reasoning": 64},
}


def test_each_call_and_each_stream_reports_its_tokens_and_has_a_price(metered: Metered) -> None:
    llm_exporter.instrument()
    with asyncio.Runner() as runner:
        calls = [
            *plain_calls(runner),
            *streams(runner, list, 3),
            *streams(runner, lambda events: [b"".join(events)], 3),
        ]
        for call in calls:
            call.run(1)
    assert [call.tokens for call in metered.calls] == [TOKENS[call.name.partition(",")[0]] for call in calls]
    assert [call.cost_source for call in metered.calls] == ["list"] * len(calls)
