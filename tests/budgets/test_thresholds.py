"""Thresholds notify once per window."""

from __future__ import annotations

from decimal import Decimal

from llm_exporter.budgets.events import ThresholdCrossed
from llm_exporter.budgets.thresholds import Thresholds
from llm_exporter.config.model import Threshold
from support.budgets import NOON, Clock, Scenario


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
