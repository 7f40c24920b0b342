"""Budgets and thresholds in a pipeline: status, gauges, events and reloads."""

from __future__ import annotations

from decimal import Decimal

import openai
import pytest

import llm_exporter
from llm_exporter.budgets.errors import BudgetExceeded
from llm_exporter.budgets.events import BudgetReached, ThresholdCrossed
from llm_exporter.client import worker
from llm_exporter.client.pipeline import Pipeline
from llm_exporter.config.model import Config, Threshold
from support.budgets import budget
from support.metered import Metered
from support.payloads import chat
from support.scripted import Server


def test_check_budget_returns_the_status_of_matching_budgets(pipeline: Pipeline, metered: Metered) -> None:
    pipeline.configure(
        Config(
            labels=("project",),
            budgets=(budget("2", period="total"), budget("1", name="acme", match={"project": "acme"})),
        )
    )
    with llm_exporter.labels(project="acme"):
        llm_exporter.record(provider="openai", model="gpt-4o", tokens={"output": 50_000})
        assert metered.call.total_cost == 0.5
        both = llm_exporter.check_budget()
    assert [(each.budget, each.labels, each.limit, each.spent, each.left) for each in both] == [
        ("all", {}, 2.0, 0.5, 1.5),
        ("acme", {"project": "acme"}, 1.0, 0.5, 0.5),
    ]
    assert both[0].resets_at is None
    assert [each.budget for each in llm_exporter.check_budget(project="other")] == ["all"]


def test_gauges_have_no_id_labels(pipeline: Pipeline, metered: Metered) -> None:
    pipeline.configure(
        Config(
            budgets=(
                budget("2", match={"agent": "planner"}, on_exceed="warn"),
                budget(None, name="each", tokens=100_000, per=("session", "agent"), period="total"),
            ),
            thresholds=(Threshold(name="hourly", window="hour", usd=Decimal(3)),),
        )
    )
    for session, tokens in ("a", 10_000), ("b", 30_000):
        with llm_exporter.labels(agent="planner", session=session):
            llm_exporter.record(provider="openai", model="gpt-4o", tokens={"output": tokens})
    planner = {"budget": "all", "period": "day", "agent": "planner"}
    assert metered.samples("llm_budget_limit_usd", **planner) == {(): 2.0}
    assert metered.samples("llm_budget_spent_usd", **planner) == {(): 0.4}
    assert metered.samples("llm_budget_spent_tokens") == {("planner", "each", "total"): 30_000.0}
    assert metered.samples("llm_budget_blocking") == {("all", "day"): 0.0, ("each", "total"): 1.0}
    assert metered.samples("llm_cost_threshold_usd") == {("hourly", "hour"): 3.0}
    assert metered.samples("llm_cost_threshold_spent_usd") == {("hourly", "hour"): 0.4}


def test_spending_is_kept_when_a_limit_changes(pipeline: Pipeline, metered: Metered) -> None:
    pipeline.configure(Config(budgets=(budget("2"),)))
    llm_exporter.record(provider="openai", model="gpt-4o", tokens={"output": 50_000})
    assert metered.call.total_cost == 0.5
    pipeline.configure(Config(budgets=(budget("0.4"), budget("1", name="new"))))
    assert metered.samples("llm_budget_spent_usd") == {("all", "day"): 0.5, ("new", "day"): 0.0}
    with pytest.raises(BudgetExceeded):
        pipeline.budgets.hold(metered.call, {})


def test_a_call_is_not_refused_because_calls_that_have_ended_are_not_settled_yet(
    pipeline: Pipeline, metered: Metered, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first call costs $0.50, so the others are estimated at about that much. They cost $0.01."""
    monkeypatch.setattr(worker, "_GATHER_SECONDS", 3600.0)
    pipeline.configure(Config(budgets=(budget("2"),)))
    client = openai.OpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0)
    llm_exporter.instrument(client)
    usages = [{"prompt_tokens": 0, "completion_tokens": tokens} for tokens in (50_000, 1000)]
    server.respond_with("/chat/completions", *map(chat, usages))
    for _ in range(10):
        client.chat.completions.create(model="gpt-4o", messages=[])
    assert metered.total("llm_cost_usd_total") == pytest.approx(0.59)
    client.close()


def test_events_reach_their_subscribers(pipeline: Pipeline, metered: Metered) -> None:
    events: list[object] = []
    llm_exporter.subscribe(events.append, BudgetReached)
    llm_exporter.subscribe(events.append, ThresholdCrossed)
    pipeline.configure(
        Config(
            budgets=(budget("0.5"),),
            thresholds=(Threshold(name="low", window="month", usd=Decimal("0.4")),),
        )
    )
    for _ in range(3):
        llm_exporter.record(provider="openai", model="gpt-4o", tokens={"output": 25_000})
    assert len(metered.calls) == 3
    assert [str(event) for event in events] == [
        "budget all is used up: $0.5000 of $0.5000 today",
        "threshold low crossed: $0.50 spent this month, limit $0.40",
    ]
    llm_exporter.unsubscribe(events.append)
