"""A response that several requests return is counted once."""

from __future__ import annotations

import time

from llm_exporter.call import Call
from llm_exporter.client.retrieval import Outcome, Retrievals

DAY = 86_400


def a_call(started: float | None = None, duration: float = 1.0, agent: str = "", **fields: int) -> Call:
    return Call(
        provider="openai",
        model="gpt-5",
        operation="chat",
        started=time.time() if started is None else started,
        duration=duration,
        labels={"agent": agent} if agent else {},
        tokens={"input": 5} if fields.get("tokens") else {},
        usage_reported=bool(fields.get("tokens")),
    )


def test_a_background_response_that_is_polled_is_one_call_of_its_first_request() -> None:
    retrievals = Retrievals()
    now = time.time()
    created = a_call(started=now, duration=1, agent="planner")
    assert retrievals.settle(Outcome(created, response_id="r", pending=True)) == []
    poll = Outcome(a_call(started=now + 10), response_id="r", pending=True, retrieved=True)
    assert retrievals.settle(poll) == []
    retrieved = a_call(started=now + 20, duration=2, tokens=1)
    (call,) = retrievals.settle(Outcome(retrieved, response_id="r", retrieved=True))
    assert (call.id, call.agent, call.tokens) == (created.id, "planner", {"input": 5})
    assert (call.started, call.duration) == (now, 22)  # from 0 to 20 + 2
    again = Outcome(a_call(tokens=1), response_id="r", retrieved=True)
    assert retrievals.settle(again) == []


def test_a_response_that_was_counted_when_created_is_not_counted_when_retrieved() -> None:
    retrievals = Retrievals()
    created = Outcome(a_call(tokens=1), response_id="r")
    assert retrievals.settle(created) == [created.call]
    assert retrievals.settle(Outcome(a_call(tokens=1), response_id="r", retrieved=True)) == []


def test_a_response_that_was_counted_when_retrieved_is_not_counted_when_its_creation_ends() -> None:
    retrievals = Retrievals()
    polled = Outcome(a_call(tokens=1), response_id="r", retrieved=True)
    assert retrievals.settle(polled) == [polled.call]
    assert retrievals.settle(Outcome(a_call(tokens=1), response_id="r")) == []


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


def test_a_background_response_that_failed_is_counted_when_it_is_retrieved() -> None:
    retrievals = Retrievals()
    created = a_call()
    retrievals.settle(Outcome(created, response_id="r", pending=True))
    failed = a_call()
    failed.error = "server_error"
    (call,) = retrievals.settle(Outcome(failed, response_id="r", retrieved=True))
    assert (call.id, call.error, call.usage_reported) == (created.id, "server_error", False)
    assert retrievals.settle(Outcome(a_call(), response_id="r", retrieved=True)) == []
    assert retrievals.close() == []


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


def test_a_response_that_is_not_retrieved_within_a_day_is_counted_without_usage() -> None:
    retrievals = Retrievals()
    old, recent = a_call(started=time.time() - DAY - 1), a_call(started=time.time() - DAY + 60)
    assert retrievals.settle(Outcome(old, response_id="old", pending=True)) == [old]
    assert retrievals.settle(Outcome(recent, response_id="recent", pending=True)) == []
    assert not old.usage_reported


def test_responses_that_are_not_retrieved_are_counted_at_the_end() -> None:
    retrievals = Retrievals()
    created = a_call()
    retrievals.settle(Outcome(created, response_id="r", pending=True))
    assert retrievals.close() == [created]
    assert retrievals.close() == []


def test_a_forked_process_leaves_the_calls_that_wait_to_its_parent() -> None:
    retrievals = Retrievals()
    retrievals.settle(Outcome(a_call(started=time.time() - DAY + 60), response_id="parent", pending=True))
    retrievals.after_fork()
    own = a_call()
    retrievals.settle(Outcome(own, response_id="own", pending=True))
    assert retrievals.close() == [own]


def test_a_pending_response_without_an_id_is_counted_at_once() -> None:
    created = a_call()
    assert Retrievals().settle(Outcome(created, pending=True)) == [created]


def test_a_container_is_counted_with_the_first_call_that_runs_code_in_it() -> None:
    retrievals = Retrievals()
    containers = {"cntr_1": "containers_1g", "cntr_2": "containers_4g"}
    (first,) = retrievals.settle(Outcome(a_call(tokens=1), response_id="r1", containers=containers))
    (second,) = retrievals.settle(Outcome(a_call(tokens=1), response_id="r2", containers=containers))
    assert (first.units, second.units) == ({"containers_1g": 1, "containers_4g": 1}, {})


def test_calls_of_a_job_have_the_labels_of_the_request_that_started_it() -> None:
    retrievals = Retrievals()
    retrievals.settle(Outcome(a_call(agent="judge"), response_id="evalrun_1", pending=True))
    line = a_call(tokens=1)
    done = Outcome(a_call(), sub_calls=[line], response_id="evalrun_1", retrieved=True)
    assert retrievals.settle(done) == [line]
    assert line.labels == {"agent": "judge"}
    assert retrievals.close() == []


def a_total(tokens: int, *, pending: bool = False, retrieved: bool = False) -> Outcome:
    """Return the outcome of a request for something that runs, with all its tokens so far."""
    call = a_call(tokens=tokens)
    call.tokens = {"input": tokens} if tokens else {}
    return Outcome(call, response_id="sess", pending=pending, retrieved=retrieved, is_running_total=True)


def test_tokens_of_a_running_total_are_counted_as_they_are_added() -> None:
    retrievals = Retrievals()
    created = a_total(0, pending=True)
    assert retrievals.settle(created) == []
    (first,) = retrievals.settle(a_total(100, retrieved=True))
    assert (first.id, first.tokens) == (created.call.id, {"input": 100})
    assert retrievals.settle(a_total(100, retrieved=True)) == []
    (second,) = retrievals.settle(a_total(130, retrieved=True))
    assert second.tokens == {"input": 30}
    assert retrievals.settle(a_total(120, retrieved=True)) == []


def test_a_running_total_of_another_process_is_one_call_without_usage() -> None:
    retrievals = Retrievals()
    assert retrievals.settle(a_total(0, retrieved=True)) == []
    (call,) = retrievals.settle(a_total(100, retrieved=True))
    assert (call.tokens, call.usage_reported) == ({}, False)
    assert retrievals.settle(a_total(130, retrieved=True)) == []


def test_a_running_total_without_tokens_is_counted_without_usage_at_the_end() -> None:
    retrievals = Retrievals()
    created = a_total(0, pending=True)
    retrievals.settle(created)
    assert retrievals.close() == [created.call]
