"""What is spent in a period survives any step of the clock, and its events are emitted once."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal

import pytest

from llm_exporter.budgets import spending
from llm_exporter.budgets.events import ThresholdCrossed
from llm_exporter.budgets.thresholds import Thresholds
from llm_exporter.config.model import Threshold
from support.budgets import NOON, Clock, Scenario, budget

YEAR = 365 * 86400.0


def at(moment: str) -> float:
    return datetime.fromisoformat(moment).replace(tzinfo=UTC).timestamp()


BOUNDARIES = {
    "hour": "2026-11-23T13:00:00",
    "day": "2026-11-24T00:00:00",
    "month": "2026-12-01T00:00:00",
}


@pytest.mark.parametrize("period", BOUNDARIES)
@pytest.mark.parametrize("step", [0.002, 2.0, 1800.0])
def test_a_step_back_over_the_beginning_of_a_period_forgets_nothing(period: str, step: float) -> None:
    boundary = at(BOUNDARIES[period])
    scenario = Scenario(budget(period=period), now=boundary - step)
    scenario.spend(1.0)
    scenario.clock.now = boundary
    scenario.spend(0.75)
    for _ in range(3):
        scenario.clock.now = boundary - step
        assert scenario.refusal().spent == 1.0
        scenario.clock.now = boundary
        assert scenario.status() == {("all",): (0.75, 0.0)}
    scenario.spend(0.25)
    scenario.clock.now = boundary - step
    scenario.spend(0.5)
    assert [(event.ratio, event.spent) for event in scenario.events] == [(1.0, 1.0), (1.0, 1.0)]
    assert scenario.status() == {("all",): (1.5, 0.0)}


@pytest.mark.parametrize("period", BOUNDARIES)
@pytest.mark.parametrize("step", [YEAR, -YEAR])
def test_a_clock_that_is_wrong_by_a_year_freezes_and_forgets_nothing(period: str, step: float) -> None:
    scenario = Scenario(budget(period=period))
    scenario.spend(1.0)
    scenario.clock.now += step
    scenario.spend(0.5)
    scenario.clock.now -= step
    scenario.refusal()
    assert scenario.status() == {("all",): (1.0, 0.0)}
    scenario.clock.now = at("2027-01-01T00:00:00")  # the next period begins in time
    assert scenario.status() == {("all",): (0.0, 0.0)}
    assert [event.ratio for event in scenario.events] == [1.0]


def test_a_call_counts_in_the_period_that_it_started_in_whenever_it_ends() -> None:
    scenario = Scenario(budget())
    scenario.spend(0.25)
    call = scenario.call(0.5)
    scenario.clock.now += YEAR
    scenario.budgets.settle(call)
    assert scenario.status() == {("all",): (0.0, 0.0)}
    scenario.clock.now -= YEAR
    assert scenario.status() == {("all",): (0.75, 0.0)}


def test_a_threshold_is_crossed_once_although_the_clock_steps_back() -> None:
    clock = Clock(at("2026-11-23T12:59:59"))
    events: list[ThresholdCrossed] = []
    thresholds = Thresholds([Threshold(name="low", window="hour", usd=Decimal("0.5"))], events.append, clock)
    scenario = Scenario()
    scenario.clock = clock
    for step in (0, 2, -2, 2, -2):
        clock.now += step
        thresholds.settle(scenario.call(1.0))
    assert [(event.since, event.spent) for event in events] == [
        (at("2026-11-23T12:00:00"), 1.0),
        (at("2026-11-23T13:00:00"), 1.0),
    ]


def test_no_step_of_the_clock_ends_a_session() -> None:
    scenario = Scenario(budget(period="total", per=("session",)))
    scenario.spend(1.0, session="a")
    scenario.clock.now += YEAR
    scenario.refusal(session="a")
    scenario.clock.now = NOON - YEAR
    scenario.refusal(session="a")


def test_a_session_among_very_many_keeps_what_it_has_spent() -> None:
    scenario = Scenario(budget(period="total", per=("session",), warn_at=(0.5,)))
    scenario.spend(0.6, session="first")
    for number in range(spending._MAX_ACCOUNTS):
        scenario.spend(0.1, session=str(number))
    assert ("all", "first") not in scenario.status()
    scenario.spend(0.1, session="first")
    assert scenario.status()["all", "first"] == (0.7, 0.0)
    assert [event.ratio for event in scenario.events] == [0.5]
    scenario.spend(0.3, session="first")
    scenario.refusal(session="first")


def test_a_session_that_fell_out_of_memory_ends_after_a_day_and_with_its_period() -> None:
    scenario = Scenario(
        budget(name="all", period="total", per=("session",)), budget(name="day", per=("session",))
    )
    scenario.spend(1.0, session="first")
    for number in range(spending._MAX_ACCOUNTS):
        scenario.spend(0.1, session=str(number))
    scenario.clock.now += 86400
    assert scenario.refusal(session="first").budget == "all"
    scenario.spend(0.1, session="another")
    scenario.monotonic.now += 86401
    scenario.hold(session="first")


def test_it_is_logged_once_if_the_amounts_of_sessions_are_forgotten(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(spending, "_MAX_ACCOUNTS", 2)
    monkeypatch.setattr(spending, "_MAX_SET_ASIDE", 2)
    scenario = Scenario(budget(period="total", per=("session",)))
    for number in range(10):
        scenario.spend(0.1, session=str(number))
    assert [record.getMessage() for record in caplog.records] == [
        "llm-exporter: all has more than 4 accounts: what the least recently used ones have spent is "
        "forgotten"
    ]
