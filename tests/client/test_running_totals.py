"""`totals()`: what this process has spent, by any dimension."""

from __future__ import annotations

import os
import threading
import tracemalloc

import pytest

import llm_exporter
from llm_exporter.client import running_totals
from llm_exporter.client.pipeline import Pipeline
from llm_exporter.client.running_totals import RunningTotals
from llm_exporter.types import Totals
from support.calls import a_call


def test_totals_have_cost_tokens_calls_errors_and_the_mean_latency() -> None:
    totals = RunningTotals()
    totals.add(a_call())
    totals.add(a_call(tokens={"input": 1, "reasoning": 5}, cost={}, unpriced_tokens=6, duration=0.5))
    totals.add(a_call(tokens={}, cost={}, error="timeout", duration=4.0))
    totals.add(a_call(tokens={}, cost={}, error="budget", duration=0.0))
    totals.add(a_call(approximated={"tier": 120}, duration=2.0))

    assert totals.total() == Totals(
        calls=5,
        errors=2,
        cost_usd=1.5,
        tokens={"input": 201, "output": 40, "reasoning": 5},
        unpriced_tokens=6,
        approximated_tokens=120,
        mean_latency_seconds=2.0,  # of the four calls that were sent
    )
    assert RunningTotals().total() == Totals()


@pytest.mark.parametrize(
    ("by", "values"),
    [
        ("provider", {"openai": 3}),
        ("model", {"gpt-5": 2, "gpt-4o": 1}),
        ("operation", {"chat": 3}),
        ("agent", {"planner": 2, "unattributed": 1}),
        ("phase", {"plan": 2, "unattributed": 1}),
        ("session", {"unattributed": 2, "s-17": 1}),
        ("nosuch", {"unattributed": 3}),
    ],
)
def test_totals_are_by_any_dimension(
    by: str, values: dict[str, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    for recent in (1, 256):  # the label appears late
        monkeypatch.setattr(running_totals, "_MAX_RECENT", recent)
        totals = RunningTotals()
        totals.add(a_call())
        totals.add(a_call(labels={"agent": ""}))
        totals.add(a_call(model="gpt-4o", labels={"agent": "planner", "phase": "plan", "session": "s-17"}))

        assert {value: one.calls for value, one in totals.by(by).items()} == values
        assert sum(one.cost_usd for one in totals.by(by).values()) == 2.25


def test_the_most_expensive_value_comes_first() -> None:
    totals = RunningTotals()
    for agent, cost in (("a", 0.5), ("b", 2.0), ("c", 1.0)):
        totals.add(a_call(labels={"agent": agent}, cost={"output": cost}))

    assert list(totals.by("agent")) == ["b", "c", "a"]


def test_too_many_values_are_added_up_as_other(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(running_totals, "_MAX_VALUES", 2)
    totals = RunningTotals()
    for number in range(5):
        totals.add(a_call(labels={"session": f"s-{number}"}))

    assert {value: one.calls for value, one in totals.by("session").items()} == {
        "other": 3,
        "s-0": 1,
        "s-1": 1,
    }


def test_too_many_labels_are_logged_once(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(running_totals, "_MAX_DIMENSIONS", 6)
    totals = RunningTotals()
    totals.add(a_call(labels={"a": "1"}))
    totals.total()
    for name in ("b", "c"):
        totals.add(a_call(labels={name: "1"}))

    assert totals.by("a").keys() == {"1", "unattributed"}
    assert totals.total().calls == 3
    assert [record.getMessage() for record in caplog.records] == [
        "llm-exporter: there are too many labels for totals by b"
    ]


def test_a_session_takes_less_than_a_kilobyte() -> None:
    totals = RunningTotals()
    totals.add(a_call(labels={"agent": "planner", "session": "the first"}))
    totals.total()
    tracemalloc.start()
    try:
        for number in range(2000):
            totals.add(a_call(labels={"agent": "planner", "session": f"session-{number}"}))
        totals.total()
        taken, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert taken / 2000 < 1000


def test_totals_are_consistent_while_calls_are_added() -> None:
    totals = RunningTotals()
    ended = threading.Event()

    def add() -> None:
        for number in range(5000):
            totals.add(a_call(labels={"session": f"s-{number % 300}"}))
        ended.set()

    thread = threading.Thread(target=add)
    thread.start()
    while not ended.is_set():
        total = totals.total()
        assert total.cost_usd == 0.75 * total.calls
        assert total.tokens.get("input", 0) == 100 * total.calls
    thread.join()
    by_session = totals.by("session")
    assert (len(by_session), sum(one.calls for one in by_session.values())) == (300, 5000)


def test_totals_include_every_call_that_has_ended_until_they_are_reset(pipeline: Pipeline) -> None:
    for agent in ("planner", "coder"):
        with llm_exporter.labels(agent=agent):
            llm_exporter.record(
                provider="openai", model="gpt-4o", tokens={"input": 1000, "output": 500}, duration=1.5
            )
    expected = Totals(
        calls=1, cost_usd=0.0075, tokens={"input": 1000, "output": 500}, mean_latency_seconds=1.5
    )
    assert llm_exporter.totals(by="agent") == {"coder": expected, "planner": expected}
    assert llm_exporter.totals().calls == 2

    llm_exporter.reset()

    assert llm_exporter.totals() == Totals()
    assert llm_exporter.totals(by="agent") == {}
    assert pipeline.metrics.has_calls


def test_a_subscriber_may_ask_for_totals(pipeline: Pipeline) -> None:
    seen: list[Totals] = []
    llm_exporter.subscribe(lambda _: seen.append(llm_exporter.totals()))
    pipeline.record(a_call())
    assert pipeline.flush()
    assert [one.calls for one in seen] == [1]


def test_a_forked_process_starts_at_0(pipeline: Pipeline) -> None:
    pipeline.record(a_call())
    assert llm_exporter.totals().calls == 1
    child = os.fork()
    if not child:
        pipeline.record(a_call())
        os._exit(0 if llm_exporter.totals().calls == 1 else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
