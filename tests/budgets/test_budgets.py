"""Budgets hold, spend, refuse and notify. A million tokens of gpt-4o cost $2.50 (input) and $10 (output)."""

from __future__ import annotations

import os
import pickle
import threading
from contextlib import suppress
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest

import llm_exporter
from llm_exporter.budgets.enforcement import Budgets
from llm_exporter.budgets.errors import BudgetExceeded
from llm_exporter.budgets.estimates import max_output_tokens
from llm_exporter.budgets.events import BudgetReached, ThresholdCrossed
from llm_exporter.budgets.thresholds import Thresholds
from llm_exporter.call import Call
from llm_exporter.client.pipeline import Pipeline
from llm_exporter.config.model import Budget, Config, Prices, Threshold
from llm_exporter.pricing.prices import PriceList
from support.metered import Metered

NOON = datetime(2026, 11, 23, 12, tzinfo=UTC).timestamp()


class Clock:
    def __init__(self, now: float = NOON) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


class Scenario:
    """Budgets, the events that they emitted, and calls of a given cost."""

    def __init__(self, *budgets: Budget, now: float = NOON) -> None:
        self.clock = Clock(now)
        self.events: list[BudgetReached] = []
        self.budgets = Budgets(budgets, PriceList(), self.events.append, self.clock)

    def call(self, usd: float = 0.0, tokens: int = 0, **labels: str) -> Call:
        return Call(
            provider="openai",
            model="gpt-4o-2024-08-06",
            requested_model="gpt-4o",
            operation="chat",
            started=self.clock.now,
            labels=labels,
            tokens={"output": tokens} if tokens else {},
            cost={"output": usd} if usd else {},
        )

    def spend(self, usd: float = 0.0, tokens: int = 0, **labels: str) -> None:
        self.budgets.settle(self.call(usd, tokens, **labels))

    def hold(self, max_tokens: int = 0, **labels: str) -> Call:
        """Hold the estimate of a call without a prompt: $0.01 for 1,000 tokens."""
        call = self.call(0.0, 0, **labels)
        self.budgets.hold(call, {"max_tokens": max_tokens})
        return call

    def refusal(self, max_tokens: int = 0, **labels: str) -> BudgetExceeded:
        with pytest.raises(BudgetExceeded) as raised:
            self.hold(max_tokens, **labels)
        return raised.value

    def status(self) -> dict[tuple[str, ...], tuple[float, float]]:
        """Return (spent, held) by budget and label values."""
        return {
            (budget.name, *account.labels.values()): (
                account.to_float(account.spent),
                account.to_float(account.held),
            )
            for budget, account in self.budgets.accounts()
        }


def budget(usd: str | None = "1", **more: Any) -> Budget:
    rule = {"name": "all", "period": "day", "usd": usd, "on_exceed": "block", **more}
    return Budget.model_validate(rule)


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
    scenario.clock.now += 86401  # a day without a call
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


# Estimates


@pytest.mark.parametrize(
    ("request_", "tokens"),
    [
        ({}, 0),
        ({"max_tokens": 100}, 100),
        ({"max_completion_tokens": 100, "n": 3}, 300),
        ({"max_output_tokens": 7}, 7),
        ({"generationConfig": {"maxOutputTokens": 9}}, 9),
        ({"max_tokens": "many", "n": -1, "generationConfig": []}, 0),
        (b"bytes", 0),
    ],
)
def test_the_maximum_output_is_read_from_the_request(request_: object, tokens: int) -> None:
    assert max_output_tokens(request_) == tokens


def test_the_first_call_of_a_model_is_estimated_by_its_maximum() -> None:
    prompt = "four" * 500
    for asked, tokens in [({}, 500 + 1024), ({"max_tokens": 64_000}, 500 + 4096), ({"max_tokens": 9}, 509)]:
        scenario = Scenario(budget(None, tokens=100_000))
        scenario.budgets.hold(scenario.call(), {"messages": [{"content": prompt}], **asked})
        assert scenario.status() == {("all",): (0.0, tokens)}


def test_later_calls_are_estimated_by_the_most_expensive_recent_response() -> None:
    scenario = Scenario(budget("100"), budget(None, name="tokens", tokens=1_000_000))
    scenario.spend(0.4, tokens=10_000)
    scenario.spend(0.1, tokens=1_000)  # the estimate decays by 5%, to $0.38 and 9,500 tokens
    scenario.hold(64_000)
    assert scenario.status() == {("all",): (0.5, 0.38), ("tokens",): (11_000, 9_500)}
    scenario.hold(950)  # a tenth of it
    assert scenario.status() == {("all",): (0.5, 0.418), ("tokens",): (11_000, 10_450)}


def test_an_unknown_model_is_estimated_at_the_fallback_price() -> None:
    prices = PriceList(Prices(fallback={"input": Decimal(10), "output": Decimal(30)}))
    budgets = Budgets([budget("0.03")], prices, lambda event: None, Clock())
    call = Call(provider="x", model="unknown", requested_model="unknown", operation="chat")
    with pytest.raises(BudgetExceeded) as raised:
        budgets.hold(call, {"max_tokens": 2000})
    assert raised.value.estimate == 0.06


def test_estimate_cost_uses_the_same_prices_as_calls(pipeline: Pipeline) -> None:
    assert llm_exporter.estimate_cost("gpt-4o", 1000, 500) == 0.0075
    assert llm_exporter.estimate_cost("gpt-4o", 1000, provider="openai") == 0.0025
    # Above 200,000 tokens of prompt gemini-2.5-pro costs $2.50 in and $15 out.
    assert llm_exporter.estimate_cost("gemini-2.5-pro", 300_000, 1000) == 0.765
    assert llm_exporter.estimate_cost("unknown", 1000, 500) == 0
    pipeline.configure(Config(prices=Prices(fallback={"input": Decimal(10), "output": Decimal(30)})))
    assert llm_exporter.estimate_cost("unknown", 1000, 500) == 0.025
    with pytest.raises(ValueError, match="-1 is not a number of tokens"):
        llm_exporter.estimate_cost("gpt-4o", -1)


# In a pipeline


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
                budget("2", match={"agent": "planner"}),
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


# Thresholds


def test_a_threshold_is_notified_once_per_window() -> None:
    clock = Clock()
    events: list[ThresholdCrossed] = []
    rule = Threshold(name="hourly", window="hour", usd=Decimal(1), match={"agent": "planner"})
    thresholds = Thresholds([rule], events.append, clock)
    scenario = Scenario()

    def spend(usd: float, agent: str) -> None:
        scenario.clock.now = clock.now
        thresholds.settle(scenario.call(usd, agent=agent))

    spend(1.0, "planner")  # not above 1
    spend(5.0, "coder")
    assert events == []
    spend(0.5, "planner")
    spend(5.0, "planner")
    clock.now += 3600
    spend(1.25, "planner")
    assert events == [
        ThresholdCrossed(
            threshold="hourly", window="hour", match={"agent": "planner"}, limit=1.0, spent=spent, since=since
        )
        for spent, since in [(1.5, NOON), (1.25, NOON + 3600)]
    ]


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
