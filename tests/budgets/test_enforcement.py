"""Budgets hold, spend, refuse and notify. A million tokens of gpt-4o cost $2.50 (input) and $10 (output)."""

from __future__ import annotations

import os
import pickle
import threading
from contextlib import suppress
from datetime import UTC, datetime

import pytest

from llm_exporter.budgets.errors import BudgetExceeded
from llm_exporter.call import Call
from llm_exporter.client.pipeline import Pipeline
from llm_exporter.config.model import Config
from support.budgets import Scenario, budget


def test_a_call_that_does_not_fit_is_refused_with_details() -> None:
    scenario = Scenario(budget(match={"agent": "planner"}))
    scenario.spend(0.97, 97_000, agent="planner")
    scenario.hold(2000, agent="planner")
    refused = scenario.refusal(2000, agent="planner")
    assert (refused.budget, refused.labels) == ("all", {"agent": "planner"})
    assert (refused.unit, refused.spent, refused.held, refused.estimate) == ("usd", 0.97, 0.02, 0.02)
    assert refused.limit == 1.0
    assert refused.resets_at == datetime(2026, 11, 24, tzinfo=UTC)
    assert str(refused) == (
        "budget all (agent planner) exceeded: $0.9700 of $1.00 spent, $0.0200 held for calls in flight, "
        "$0.0200 estimated for this call; resets at 2026-11-24 00:00 UTC"
    )
    again = pickle.loads(pickle.dumps(refused))  # noqa: S301 - our own
    assert str(again) == str(refused)
    assert repr(again) == repr(refused)
    assert repr(refused).startswith("BudgetExceeded(budget='all', labels={'agent': 'planner'}, unit='usd', ")


def test_a_hundred_cents_are_exactly_a_dollar() -> None:
    scenario = Scenario(budget())
    for _ in range(99):
        scenario.spend(0.01)
    scenario.hold(1000)
    assert scenario.status() == {("all",): (0.99, 0.01)}
    assert scenario.refusal(1000).held == 0.01


def test_settling_a_call_replaces_the_hold_by_the_cost() -> None:
    scenario = Scenario(budget())
    call = scenario.hold(1000)
    call.cost = {"output": 0.002}
    scenario.budgets.settle(call)
    assert scenario.status() == {("all",): (0.002, 0.0)}


def test_a_used_up_budget_refuses_even_calls_estimated_at_nothing() -> None:
    scenario = Scenario(budget())
    scenario.spend(1.0)
    unknown = Call(provider="x", model="unknown", requested_model="unknown", operation="chat")
    with pytest.raises(BudgetExceeded, match=r"\$1\.00 of \$1\.00 spent; resets"):
        scenario.budgets.hold(unknown, {})


def test_a_call_is_held_in_all_matching_budgets_or_in_none() -> None:
    scenario = Scenario(budget("1", name="wide"), budget("0.005", name="tight"))
    assert scenario.refusal(1000).budget == "tight"
    assert scenario.status() == {("wide",): (0.0, 0.0), ("tight",): (0.0, 0.0)}


def test_a_warning_budget_refuses_nothing() -> None:
    scenario = Scenario(budget("0.001", on_exceed="warn"))
    scenario.spend(5.0)
    scenario.hold(1000)
    assert scenario.status() == {("all",): (5.0, 0.0)}


@pytest.mark.parametrize(
    ("period", "now", "same", "following"),
    [
        ("hour", "2026-11-23T12:00:00", "2026-11-23T12:59:59.9", "2026-11-23T13:00:00"),
        ("day", "2026-11-23T00:00:00", "2026-11-23T23:59:59.9", "2026-11-24T00:00:00"),
        ("month", "2028-02-01T00:00:00", "2028-02-29T23:59:59.9", "2028-03-01T00:00:00"),
        ("month", "2026-12-31T23:00:00", "2026-12-31T23:59:59.9", "2027-01-01T00:00:00"),
    ],
)
def test_periods_are_calendar_periods_in_utc(period: str, now: str, same: str, following: str) -> None:
    scenario = Scenario(budget(period=period), now=at(now))
    scenario.spend(1.0)
    scenario.clock.now = at(same)
    assert scenario.refusal().resets_at == datetime.fromisoformat(following).replace(tzinfo=UTC)
    scenario.clock.now = at(following)
    assert scenario.status() == {("all",): (0.0, 0.0)}
    scenario.hold()


def at(moment: str) -> float:
    return datetime.fromisoformat(moment).replace(tzinfo=UTC).timestamp()


def test_a_total_budget_never_resets() -> None:
    scenario = Scenario(budget(period="total"))
    scenario.spend(1.0)
    scenario.clock.now += 10 * 365 * 86400
    refused = scenario.refusal()
    assert refused.resets_at is None
    assert str(refused) == "budget all exceeded: $1.00 of $1.00 spent; never resets"


def test_a_call_of_an_earlier_period_does_not_count_in_this_one() -> None:
    scenario = Scenario(budget())
    late = scenario.call(0.5)
    scenario.clock.now += 86400
    scenario.budgets.settle(late)
    assert scenario.status() == {("all",): (0.0, 0.0)}


def test_a_budget_per_label_counts_each_value_separately() -> None:
    scenario = Scenario(budget(per=("session", "agent"), match={"project": "acme"}))
    scenario.spend(1.0, project="acme", session="a", agent="planner")
    scenario.refusal(session="a", agent="planner", project="acme")
    scenario.hold(session="b", agent="planner", project="acme")
    scenario.hold(session="a", agent="coder", project="acme")
    scenario.hold(project="acme")  # in no session
    scenario.hold(project="other", session="a", agent="planner")
    assert list(scenario.status()) == [
        ("all", "acme", "a", "planner"),
        ("all", "acme", "b", "planner"),
        ("all", "acme", "a", "coder"),
    ]


def test_the_spending_of_a_session_is_dropped_when_it_ends() -> None:
    scenario = Scenario(budget(period="total", per=("session",)))
    scenario.spend(1.0, session="a")
    scenario.refusal(session="a")
    scenario.monotonic.now += 86401  # a day without a call
    scenario.hold(session="a")


def test_a_budget_matches_the_requested_model_and_the_model_in_the_response() -> None:
    scenario = Scenario(
        budget(name="requested", match={"model": "gpt-4o"}),
        budget(name="answers", match={"model": "gpt-4o-2024-08-06"}),
        budget(name="other", match={"model": "gpt-4.1"}),
    )
    scenario.spend(0.25, tokens=100)
    scenario.hold(100)  # the model that answers is known by now
    assert scenario.status() == {
        ("requested", "gpt-4o"): (0.25, 0.25),
        ("answers", "gpt-4o-2024-08-06"): (0.25, 0.25),
        ("other", "gpt-4.1"): (0.0, 0.0),
    }


def test_a_budget_in_tokens_counts_tokens() -> None:
    scenario = Scenario(budget(None, tokens=5000))
    scenario.spend(99.0, tokens=4000)
    refused = scenario.refusal(2000)
    assert (refused.unit, refused.spent, refused.limit, refused.estimate) == ("tokens", 4000, 5000, 2000)
    assert "4,000 tokens of 5,000 tokens spent" in str(refused)


def test_each_fraction_of_a_budget_is_notified_once_per_period() -> None:
    scenario = Scenario(budget(on_exceed="warn", warn_at=(0.5, 0.8)))
    for _ in range(12):
        scenario.spend(0.1)
    assert [(event.ratio, event.spent, event.limit) for event in scenario.events] == [
        (0.5, 0.5, 1.0),
        (0.8, 0.8, 1.0),
        (1.0, 1.0, 1.0),
    ]
    assert str(scenario.events[1]) == "budget all is 80% used: $0.8000 of $1.00 today"
    scenario.clock.now += 86400
    scenario.spend(0.9)
    assert [event.ratio for event in scenario.events[3:]] == [0.8]


def test_a_forked_process_holds_nothing_for_its_parent() -> None:
    scenario = Scenario(budget())
    scenario.hold(1000)
    scenario.spend(0.5)
    scenario.budgets.after_fork()
    assert scenario.status() == {("all",): (0.5, 0.0)}


def test_concurrent_threads_never_hold_more_than_the_limit() -> None:
    scenario = Scenario(budget())
    held: list[Call] = []
    begin = threading.Barrier(8)

    def hold() -> None:
        begin.wait()
        for _ in range(50):
            with suppress(BudgetExceeded):
                held.append(scenario.hold(1000))

    threads = [threading.Thread(target=hold) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(held) == 100
    assert scenario.status() == {("all",): (0.0, 1.0)}


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs os.fork")
def test_a_lock_that_is_held_while_forking_is_free_in_the_child(pipeline: Pipeline) -> None:
    pipeline.configure(Config(budgets=(budget(),)))
    held, forked = threading.Event(), threading.Event()

    def hold() -> None:
        with pipeline.budgets._lock:
            held.set()
            forked.wait()

    holder = threading.Thread(target=hold)
    holder.start()
    held.wait()
    child = os.fork()
    if child == 0:
        pipeline.budgets.hold(Call(provider="openai", model="gpt-4o", operation="chat"), {})
        os._exit(0)
    forked.set()
    holder.join()
    assert os.waitpid(child, 0)[1] == 0
