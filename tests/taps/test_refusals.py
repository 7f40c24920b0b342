"""A call that a budget does not allow is not sent, whichever SDK makes it."""

from __future__ import annotations

import asyncio
import gc
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

import llm_exporter
from llm_exporter import BudgetExceeded
from llm_exporter.client.pipeline import Pipeline
from support.budgets import allow
from support.metered import Metered
from support.operations import CHAT, OPENAI, OPERATIONS, STREAMS, Operation
from support.payloads import chat, dump
from support.scripted import Response, Server


def held(pipeline: Pipeline) -> float:
    assert pipeline.flush()
    return sum(account.held for _, account in pipeline.budgets.accounts())


@pytest.mark.parametrize("operation", OPERATIONS, ids=str)
def test_a_call_beyond_a_budget_is_not_sent(
    operation: Operation, pipeline: Pipeline, server: Server, metered: Metered
) -> None:
    allow(pipeline, "0.000001")
    client = llm_exporter.instrument(operation.client(server.url))
    with llm_exporter.labels(agent="planner"), pytest.raises(BudgetExceeded) as raised:
        operation.run(client)
    assert type(raised.value) is BudgetExceeded
    assert server.requests == []
    call = metered.call
    assert (call.error, call.tokens, call.cost) == ("budget", {}, {})
    assert (call.provider, call.model) == (operation.wire.provider, operation.wire.requested_model)
    assert metered.total("llm_calls_total", agent="planner") == 1
    assert metered.total("llm_call_errors_total", agent="planner", error="budget") == 1
    assert metered.samples("llm_budget_rejected_calls_total") == {("all",): 1.0}
    assert metered.samples("llm_latency_seconds_count") == {}
    assert held(pipeline) == 0


@pytest.mark.parametrize("operation", OPERATIONS, ids=str)
def test_a_call_within_a_budget_is_spent_and_no_longer_held(
    operation: Operation, pipeline: Pipeline, server: Server, metered: Metered
) -> None:
    allow(pipeline, "1")
    server.respond_with(operation.path, operation.response())
    operation.run(llm_exporter.instrument(operation.client(server.url)))
    assert metered.call.cost == operation.wire.cost
    spent = metered.total("llm_budget_spent_usd")
    assert spent == pytest.approx(sum(operation.wire.cost.values()), abs=1e-12)
    assert held(pipeline) == 0


@pytest.mark.parametrize("operation", [each for each in STREAMS if "async" not in each.kind], ids=str)
def test_a_dropped_stream_holds_nothing(
    operation: Operation, pipeline: Pipeline, server: Server, metered: Metered
) -> None:
    allow(pipeline, "1")
    server.respond_with(operation.path, operation.response())
    with llm_exporter.instrument(operation.client(server.url)) as client:
        stream = operation.wire.call(client, True)
        next(iter(stream))
        assert held(pipeline) > 0
        del stream
        gc.collect()
        assert held(pipeline) == 0


def test_a_failed_call_holds_nothing(pipeline: Pipeline, server: Server, metered: Metered) -> None:
    allow(pipeline, "1")
    server.respond_with("/chat/completions", Response(b'{"error": {"message": "no"}}', status=400))
    with pytest.raises(Exception, match="400"):
        Operation(CHAT, "sync", stream=False).run(llm_exporter.instrument(OPENAI["sync"](server.url)))
    assert metered.call.error == "invalid_request"
    assert held(pipeline) == 0


def test_a_free_call_is_sent_even_if_the_budget_is_used_up(
    pipeline: Pipeline, server: Server, metered: Metered
) -> None:
    allow(pipeline, "0.000001")
    moderation = {"id": "m", "model": "omni-moderation-latest", "results": []}
    server.respond_with("/moderations", Response(dump(moderation)))
    with llm_exporter.instrument(OPENAI["sync"](server.url)) as client:
        client.moderations.create(input="How many?")
    assert metered.call.error is None


# 1,600 tokens at $2.50 and 600 at $10 a million cost $0.01. So does the estimate, at 4 characters a token.
CENT = {"prompt_tokens": 1600, "completion_tokens": 600, "total_tokens": 2200}
ASKED = {
    "model": "gpt-4o",
    "messages": [{"role": "user", "content": "four" * 1597}],
    "max_tokens": 600,
}


def test_200_threads_spend_no_more_than_the_budget(
    pipeline: Pipeline, server: Server, metered: Metered
) -> None:
    allow(pipeline, "1")
    server.respond_with("/chat/completions", chat(CENT))

    def ask(client: Any) -> bool:
        try:
            client.chat.completions.create(**ASKED)
        except BudgetExceeded:
            return False
        return True

    with llm_exporter.instrument(OPENAI["sync"](server.url)) as client, ThreadPoolExecutor(200) as pool:
        sent = sum(pool.map(ask, [client] * 200))
    _adds_up(sent, pipeline, server, metered)


def test_200_tasks_spend_no_more_than_the_budget(
    pipeline: Pipeline, server: Server, metered: Metered
) -> None:
    allow(pipeline, "1")
    server.respond_with("/chat/completions", chat(CENT))

    async def ask(client: Any) -> bool:
        try:
            await client.chat.completions.create(**ASKED)
        except BudgetExceeded:
            return False
        return True

    async def all_of_them() -> int:
        async with llm_exporter.instrument(OPENAI["async"](server.url)) as client:
            return sum(await asyncio.gather(*(ask(client) for _ in range(200))))

    _adds_up(asyncio.run(all_of_them()), pipeline, server, metered)


def _adds_up(sent: int, pipeline: Pipeline, server: Server, metered: Metered) -> None:
    assert len(metered.calls) == 200
    assert len(server.requests) == sent == sum(call.error is None for call in metered.calls)
    assert metered.total("llm_budget_rejected_calls_total") == 200 - sent
    assert metered.total("llm_budget_spent_usd") == pytest.approx(sent / 100, abs=1e-9)
    assert 98 <= sent <= 100
    assert held(pipeline) == 0
