"""What several requests bring is counted once."""

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


def test_a_background_response_is_one_call_from_who_asked_however_often_it_is_polled() -> None:
    retrievals = Retrievals()
    asked = a_call(started=100, duration=1, agent="planner")
    assert retrievals.settle(Outcome(asked, response_id="r", pending=True)) == []
    poll = Outcome(a_call(started=110), response_id="r", pending=True, retrieved=True)
    assert retrievals.settle(poll) == []
    fetched = a_call(started=120, duration=2, tokens=1)
    (call,) = retrievals.settle(Outcome(fetched, response_id="r", retrieved=True))
    assert (call.id, call.agent, call.tokens) == (asked.id, "planner", {"input": 5})
    assert (call.started, call.duration) == (100, 22)  # from 100 to 120 + 2
    again = Outcome(a_call(tokens=1), response_id="r", retrieved=True)
    assert retrievals.settle(again) == []


def test_a_response_that_was_counted_when_it_was_made_is_not_counted_when_it_is_retrieved() -> None:
    retrievals = Retrievals()
    made = Outcome(a_call(tokens=1), response_id="r")
    assert retrievals.settle(made) == [made.call]
    assert retrievals.settle(Outcome(a_call(tokens=1), response_id="r", retrieved=True)) == []


def test_two_requests_that_were_answered_are_two_calls_though_the_ids_are_the_same() -> None:
    retrievals = Retrievals()
    for _ in range(2):
        made = Outcome(a_call(tokens=1), response_id="r")
        assert retrievals.settle(made) == [made.call]


def test_labels_of_who_fetches_lie_over_those_of_who_asked() -> None:
    retrievals = Retrievals()
    asked = a_call(agent="planner")
    asked.labels["session"] = "s"
    retrievals.settle(Outcome(asked, response_id="r", pending=True))
    (call,) = retrievals.settle(Outcome(a_call(agent="poller", tokens=1), response_id="r", retrieved=True))
    assert call.labels == {"agent": "poller", "session": "s"}


def test_asking_in_vain_is_no_call() -> None:
    assert Retrievals().settle(Outcome(a_call(), response_id="r", retrieved=True)) == []


def test_a_response_is_fetched_together_with_what_was_called_on_its_way() -> None:
    fetched, image = a_call(tokens=1), a_call(tokens=1)
    outcome = Outcome(fetched, sub_calls=[image], response_id="r", retrieved=True)
    assert Retrievals().settle(outcome) == [fetched, image]


def test_a_batch_is_only_what_it_was_made_of() -> None:
    line = a_call(tokens=1)
    outcome = Outcome(a_call(), sub_calls=[line], response_id="r", retrieved=True)
    assert Retrievals().settle(outcome) == [line]


def test_a_call_that_no_one_fetches_is_recorded_when_too_many_wait() -> None:
    retrievals = Retrievals(remembered=2)
    calls = [a_call(agent=str(number)) for number in range(3)]
    settled = [
        retrievals.settle(Outcome(call, response_id=f"r{number}", pending=True))
        for number, call in enumerate(calls)
    ]
    assert settled == [[], [], [calls[0]]]


def test_no_more_answers_are_remembered_than_are_to_be() -> None:
    retrievals = Retrievals(remembered=2)
    for number in range(3):
        retrievals.settle(Outcome(a_call(tokens=1), response_id=f"r{number}"))
    forgotten = Outcome(a_call(tokens=1), response_id="r0", retrieved=True)
    assert retrievals.settle(forgotten) == [forgotten.call]
