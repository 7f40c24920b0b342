"""A response that several requests return is counted once."""

from __future__ import annotations

from llm_exporter.call import Call
from llm_exporter.client.retrieval import Outcome, Retrievals


def a_call(started: float = 100.0, duration: float = 1.0, agent: str = "", **fields: int) -> Call:
    return Call(
        provider="openai",
        model="gpt-5",
        operation="chat",
        started=started,
        duration=duration,
        labels={"agent": agent} if agent else {},
        tokens={"input": 5} if fields.get("tokens") else {},
        usage_reported=bool(fields.get("tokens")),
    )


def test_a_background_response_that_is_polled_is_one_call_of_its_first_request() -> None:
    retrievals = Retrievals()
    created = a_call(started=100, duration=1, agent="planner")
    assert retrievals.settle(Outcome(created, response_id="r", pending=True)) == []
    poll = Outcome(a_call(started=110), response_id="r", pending=True, retrieved=True)
    assert retrievals.settle(poll) == []
    retrieved = a_call(started=120, duration=2, tokens=1)
    (call,) = retrievals.settle(Outcome(retrieved, response_id="r", retrieved=True))
    assert (call.id, call.agent, call.tokens) == (created.id, "planner", {"input": 5})
    assert (call.started, call.duration) == (100, 22)  # from 100 to 120 + 2
    again = Outcome(a_call(tokens=1), response_id="r", retrieved=True)
    assert retrievals.settle(again) == []


def test_a_response_that_was_counted_when_created_is_not_counted_when_retrieved() -> None:
    retrievals = Retrievals()
    created = Outcome(a_call(tokens=1), response_id="r")
    assert retrievals.settle(created) == [created.call]
    assert retrievals.settle(Outcome(a_call(tokens=1), response_id="r", retrieved=True)) == []


def test_two_requests_are_two_calls_even_if_the_response_ids_are_equal() -> None:
    retrievals = Retrievals()
    for _ in range(2):
        created = Outcome(a_call(tokens=1), response_id="r")
        assert retrievals.settle(created) == [created.call]


def test_labels_of_the_retrieving_request_override_those_of_the_first() -> None:
    retrievals = Retrievals()
    created = a_call(agent="planner")
    created.labels["session"] = "s"
    retrievals.settle(Outcome(created, response_id="r", pending=True))
    (call,) = retrievals.settle(Outcome(a_call(agent="poller", tokens=1), response_id="r", retrieved=True))
    assert call.labels == {"agent": "poller", "session": "s"}


def test_a_retrieval_without_usage_is_not_a_call() -> None:
    assert Retrievals().settle(Outcome(a_call(), response_id="r", retrieved=True)) == []


def test_a_retrieved_response_is_recorded_with_its_sub_calls() -> None:
    retrieved, image = a_call(tokens=1), a_call(tokens=1)
    outcome = Outcome(retrieved, sub_calls=[image], response_id="r", retrieved=True)
    assert Retrievals().settle(outcome) == [retrieved, image]


def test_a_batch_is_recorded_as_its_calls_only() -> None:
    line = a_call(tokens=1)
    outcome = Outcome(a_call(), sub_calls=[line], response_id="r", retrieved=True)
    assert Retrievals().settle(outcome) == [line]


def test_the_oldest_waiting_call_is_recorded_when_too_many_wait() -> None:
    retrievals = Retrievals(remembered=2)
    calls = [a_call(agent=str(number)) for number in range(3)]
    settled = [
        retrievals.settle(Outcome(call, response_id=f"r{number}", pending=True))
        for number, call in enumerate(calls)
    ]
    assert settled == [[], [], [calls[0]]]


def test_only_the_latest_responses_are_remembered() -> None:
    retrievals = Retrievals(remembered=2)
    for number in range(3):
        retrievals.settle(Outcome(a_call(tokens=1), response_id=f"r{number}"))
    forgotten = Outcome(a_call(tokens=1), response_id="r0", retrieved=True)
    assert retrievals.settle(forgotten) == [forgotten.call]
