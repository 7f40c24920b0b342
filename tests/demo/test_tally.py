from __future__ import annotations

from demo.tally import Tally
from llm_exporter import Call


def test_the_table_adds_up_the_spending_by_model_and_agent() -> None:
    tally = Tally()
    for call in (
        Call(
            provider="openai",
            model="gpt-4o",
            operation="chat",
            labels={"agent": "coder"},
            tokens={"input": 1000, "cache_read": 200, "output": 30, "reasoning": 4},
            cost={"input": 0.25, "output": 0.5},
            retries=["rate_limited"],
        ),
        Call(
            provider="openai",
            model="gpt-4o",
            operation="chat",
            labels={"agent": "coder"},
            tokens={"cache_write": 50, "cache_write_1h": 6},
            cost={"cache_write": 0.25},
        ),
        Call(provider="openai", model="gpt-4o", operation="chat", error="timeout"),
        Call(provider="acme", model="x", operation="chat", tokens={"output": 7}, unpriced_tokens=7),
    ):
        tally.add(call)

    assert [" ".join(line.split()) for line in tally.table().splitlines() if line.strip("-")] == [
        "provider/model agent calls retries errors input cached output reasoning USD",
        "acme/x unattributed 1 0 0 0 0 7 0 no price",
        "openai/gpt-4o coder 2 1 0 1,056 200 30 4 1.0000",
        "openai/gpt-4o unattributed 1 0 1 0 0 0 0 0.0000",
        "total 4 1 1 1,056 200 37 4 1.0000",
    ]
    assert tally.total.tokens == 1297
    assert len({len(line) for line in tally.table().splitlines()}) == 1, "the columns are aligned"
    assert tally.notes() == ["7 tokens have no known price."]


def test_the_notes_say_which_costs_are_not_exact() -> None:
    tally = Tally()
    assert tally.notes() == []
    for call in (
        Call(
            provider="openai",
            model="gpt-5",
            operation="chat",
            tokens={"input": 1200},
            approximated={"tier": 1200, "region": 1200},
        ),
        Call(provider="openai", model="", operation="unread", route="POST /v1/things"),
        Call(provider="openai", model="", operation="unread", route="POST /v1/things", error="timeout"),
    ):
        tally.add(call)
    assert tally.notes() == [
        "1,200 tokens have an approximate cost.",
        "Requests whose usage cannot be read: 1.",
    ]
