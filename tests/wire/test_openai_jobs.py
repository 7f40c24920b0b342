"""The readers of what OpenAI runs after it has responded."""

from __future__ import annotations

import json
from typing import Any

import pytest

from llm_exporter.wire.framing import framing_for
from llm_exporter.wire.openai_jobs import (
    ContainerReader,
    EvaluationReader,
    FineTuningReader,
    GraderReader,
    RunReader,
)
from llm_exporter.wire.reader import Reader, Reading

Json = dict[str, Any]


def read(reader: Reader, body: object) -> Reading:
    """Return the reading of a response body."""
    reader.read_body(json.dumps(body).encode())
    return reader.reading


def streamed(*events: Json) -> Reading:
    """Return the reading of a streamed run."""
    reader = RunReader()
    framing = framing_for("text/event-stream", b"event:", reader)
    for event in events:
        framing.feed(f"event: {event['object']}\ndata: {json.dumps(event)}\n\n".encode())
    framing.feed(b"event: done\ndata: [DONE]\n\n")
    framing.end()
    return reader.reading


def run(status: str, usage: Json | None = None, **fields: Any) -> Json:
    """Return a run."""
    head = {"id": "run_t", "object": "thread.run", "model": "gpt-t", "tools": [], "instructions": "x"}
    return {**head, "status": status, "usage": usage, "last_error": None, **fields}


USED = {
    "prompt_tokens": 300,
    "completion_tokens": 20,
    "total_tokens": 320,
    "prompt_token_details": {"cached_tokens": 100},
}
TOKENS = {"input": 200, "cache_read": 100, "output": 20}
SAID = {
    "id": "msg_t",
    "object": "thread.message.delta",
    "delta": {"content": [{"index": 0, "type": "text", "text": {"value": "Ten"}}]},
}
STEP = {"id": "step_t", "object": "thread.run.step", "status": "completed", "usage": USED}


@pytest.mark.parametrize("status", ["queued", "in_progress", "requires_action", "cancelling"])
def test_unfinished_run_is_pending(status: str) -> None:
    """Its usage is known when it is retrieved."""
    reading = read(RunReader(), run(status))

    assert (reading.response_id, reading.model, reading.pending) == ("run_t", "gpt-t", True)
    assert reading.tokens is None


@pytest.mark.parametrize("status", ["completed", "incomplete", "cancelled", "expired"])
def test_finished_run_has_usage(status: str) -> None:
    """A run that stopped early is billed too."""
    reading = read(RunReader(), run(status, USED))

    assert (reading.pending, reading.tokens, reading.error) == (False, TOKENS, None)


def test_failed_run_has_an_error_and_usage() -> None:
    """`last_error` says why it failed."""
    error = {"code": "rate_limit_exceeded", "message": "slow"}
    reading = read(RunReader(), run("failed", USED, last_error=error))

    assert (reading.error, reading.tokens) == ("rate_limit_exceeded", TOKENS)


def test_streamed_run_has_the_usage_of_the_run_and_not_of_its_steps() -> None:
    """The usage of a run includes its steps."""
    reading = streamed(run("queued"), run("in_progress"), SAID, STEP, run("completed", USED))

    assert (reading.tokens, reading.pending, reading.token_seen) == (TOKENS, False, True)
    assert reading.response_id == "run_t"


def test_streamed_run_that_waits_for_a_tool_is_pending() -> None:
    """The request that submits the tool's output continues the same run."""
    call = {
        "object": "thread.run.step.delta",
        "delta": {"step_details": {"type": "tool_calls", "tool_calls": [{"function": {"name": "f"}}]}},
    }
    reading = streamed(run("queued"), call, run("requires_action"))

    assert (reading.tokens, reading.pending, reading.token_seen) == (None, True, True)


def job(status: str, trained: int | None = None, **fields: Any) -> Json:
    """Return a fine-tuning job."""
    head = {"id": "ftjob-t", "object": "fine_tuning.job", "model": "gpt-t", "error": None}
    return {**head, "status": status, "trained_tokens": trained, **fields}


@pytest.mark.parametrize("status", ["validating_files", "queued", "running", "paused"])
def test_unfinished_fine_tuning_is_pending(status: str) -> None:
    """The number of trained tokens is not known yet."""
    reading = read(FineTuningReader(), job(status))

    assert (reading.response_id, reading.pending, reading.tokens) == ("ftjob-t", True, None)


@pytest.mark.parametrize(
    ("body", "units", "error"),
    [
        pytest.param(job("succeeded", 52_000), {"trained_tokens": 52_000}, None, id="succeeded"),
        pytest.param(
            job("succeeded", 52_000, method={"type": "dpo"}),
            {"trained_tokens": 52_000},
            None,
            id="preferences",
        ),
        pytest.param(
            job("succeeded", 52_000, method={"type": "reinforcement"}),
            {"reinforcement_trainings": 1},
            None,
            id="billed by time",
        ),
        pytest.param(job("cancelled", 9000), {"trained_tokens": 9000}, None, id="cancelled"),
        pytest.param(
            job("failed", error={"code": "invalid_training_file", "message": "x"}),
            {},
            "invalid_training_file",
            id="failed",
        ),
    ],
)
def test_finished_fine_tuning_has_the_trained_tokens(body: Json, units: Json, error: str | None) -> None:
    """A failed job is not billed."""
    reading = read(FineTuningReader(), body)

    assert (reading.pending, reading.tokens, reading.units, reading.error) == (False, {}, units, error)


def evaluation(status: str, *usage: Json) -> Json:
    """Return a run of an evaluation."""
    return {"id": "evalrun_t", "object": "eval.run", "status": status, "per_model_usage": list(usage)}


def test_finished_evaluation_has_the_usage_of_each_model() -> None:
    """The counted prompt includes cached tokens."""
    usage = {
        "model_name": "gpt-t",
        "invocation_count": 4,
        "prompt_tokens": 400,
        "cached_tokens": 150,
        "completion_tokens": 30,
        "total_tokens": 430,
    }
    reading = read(EvaluationReader(), evaluation("completed", usage, {**usage, "model_name": "judge-t"}))

    tokens: Any = {"input": 250, "cache_read": 150, "output": 30}
    assert reading.sub_calls == [Reading(model=model, tokens=tokens) for model in ("gpt-t", "judge-t")]
    assert (reading.response_id, reading.pending, reading.tokens) == ("evalrun_t", False, None)


def test_evaluation_without_models_has_no_usage() -> None:
    """Graders may compare text only."""
    reading = read(EvaluationReader(), evaluation("completed"))

    assert (reading.tokens, reading.sub_calls) == ({}, [])


@pytest.mark.parametrize("status", ["queued", "in_progress"])
def test_unfinished_evaluation_is_pending(status: str) -> None:
    """Its usage is known when it is retrieved."""
    assert read(EvaluationReader(), evaluation(status)).pending


def test_grader_has_the_usage_of_each_model() -> None:
    """The first model's usage is the call's own."""
    usage = {"prompt_tokens": 190, "completion_tokens": 30, "cached_tokens": 40, "total_tokens": 220}
    reading = read(
        GraderReader(),
        {"reward": 1.0, "model_grader_token_usage_per_model": {"gpt-t": usage, "judge-t": usage}},
    )

    tokens: Any = {"input": 150, "cache_read": 40, "output": 30}
    assert (reading.model, reading.tokens) == ("gpt-t", tokens)
    assert reading.sub_calls == [Reading(model="judge-t", tokens=tokens)]


@pytest.mark.parametrize(
    ("usage", "tokens"),
    [({}, {}), ({"gpt-t": 220}, None), (None, None)],
    ids=["no model", "a number", "missing"],
)
def test_grader_without_usage_of_a_model(usage: object, tokens: object) -> None:
    """A grader need not ask a model. A number does not say which tokens it counts."""
    reading = read(GraderReader(), {"reward": 1.0, "model_grader_token_usage_per_model": usage})

    assert (reading.tokens, reading.sub_calls) == (tokens, [])


@pytest.mark.parametrize(("memory", "unit"), [("64g", "containers_64g"), (None, "containers_1g")])
def test_created_container_is_counted_by_its_memory(memory: str | None, unit: str) -> None:
    """It is billed from its creation."""
    body = {"id": "cntr_t", "object": "container", "status": "running", "memory_limit": memory}
    reading = read(ContainerReader(), body)

    assert (reading.containers, reading.tokens) == ({"cntr_t": unit}, {})


@pytest.mark.parametrize("reader", [RunReader, FineTuningReader, EvaluationReader, ContainerReader])
@pytest.mark.parametrize(
    "body", [{}, {"error": {"message": "no"}}, {"id": 5, "status": [], "usage": 7, "per_model_usage": "x"}]
)
def test_damaged_response_reports_nothing(reader: type[Reader], body: Json) -> None:
    """Fields of other types are ignored."""
    reading = read(reader(), body)

    assert not reading.units
    assert not reading.containers
    assert not reading.pending
