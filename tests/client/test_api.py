"""Recording calls by hand, and subscribing to calls."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from logging import LogRecord
from typing import Any, get_args

import pytest

import llm_exporter
from llm_exporter import Call
from llm_exporter.call import ErrorKind, TokenType
from llm_exporter.client.pipeline import Pipeline

TOKEN_TYPES = ", ".join(get_args(TokenType))
ERROR_KINDS = ", ".join(get_args(ErrorKind))


def recorded(**fields: Any) -> Call:
    """Record a call to an unknown provider, with these fields."""
    return llm_exporter.record(**{"provider": "acme", "model": "t-1", "tokens": {"input": 10}, **fields})


# ---- record


def test_each_argument_becomes_a_field_of_the_call(pipeline: Pipeline) -> None:
    call = recorded(
        tokens={"input": 10, "cache_read": 20, "output": 3},
        operation="text_completion",
        duration=1.5,
        error="timeout",
    )

    assert (call.provider, call.model, call.requested_model, call.operation) == (
        "acme",
        "t-1",
        "t-1",
        "text_completion",
    )
    assert (call.tokens, call.total_tokens) == ({"input": 10, "cache_read": 20, "output": 3}, 33)
    assert (call.duration, call.error, call.retries, call.stream) == (1.5, "timeout", [], False)


def test_the_defaults_are_a_successful_chat_without_duration(pipeline: Pipeline) -> None:
    """Only provider, model and tokens are required."""
    call = recorded()

    assert (call.operation, call.duration, call.error) == ("chat", 0.0, None)


def test_a_recorded_call_gets_the_current_labels(pipeline: Pipeline) -> None:
    """Like a metered call."""
    with llm_exporter.labels(agent="planner", phase="plan", session="s-1"):
        call = recorded()

    assert call.labels == {"agent": "planner", "phase": "plan", "session": "s-1"}
    assert (call.agent, call.phase) == ("planner", "plan")


def test_token_types_of_zero_are_left_out(pipeline: Pipeline) -> None:
    """Zero is allowed and makes no series."""
    assert recorded(tokens={"input": 0, "output": 4}).tokens == {"output": 4}
    assert recorded(tokens={}).tokens == {}


@pytest.mark.parametrize("kind", get_args(TokenType))
def test_every_token_type_can_be_recorded(pipeline: Pipeline, kind: TokenType) -> None:
    """The types are those of `Call`."""
    assert recorded(tokens={kind: 1}).tokens == {kind: 1}


@pytest.mark.parametrize("kind", get_args(ErrorKind))
def test_every_error_kind_can_be_recorded(pipeline: Pipeline, kind: ErrorKind) -> None:
    """The kinds are those of `Call`."""
    assert recorded(error=kind).error == kind


def test_later_changes_to_the_mapping_do_not_reach_the_call(pipeline: Pipeline) -> None:
    """The call is priced later, on another thread."""
    tokens: dict[TokenType, int] = {"input": 10}
    call = recorded(tokens=tokens)
    tokens["input"] = 99

    assert call.tokens == {"input": 10}


def test_each_call_has_a_unique_id(pipeline: Pipeline) -> None:
    """32 hex digits."""
    first, second = recorded(), recorded()

    assert first.id != second.id
    assert len(first.id) == len(second.id) == 32
    assert bytes.fromhex(first.id)


def test_a_known_model_is_priced_before_the_sinks_get_the_call(pipeline: Pipeline) -> None:
    """Only the recorded types have a cost."""
    call = recorded(provider="openai", model="gpt-4o", tokens={"input": 1000, "output": 100})
    assert pipeline.flush()

    assert set(call.cost) == {"input", "output"}
    assert call.total_cost > 0
    assert call.unpriced_tokens == 0


def test_an_unknown_provider_is_counted_as_unpriced(pipeline: Pipeline) -> None:
    """Its tokens count as unpriced."""
    call = recorded(tokens={"input": 10, "output": 5})
    assert pipeline.flush()

    assert (call.total_cost, call.unpriced_tokens) == (0, 15)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        pytest.param(
            {"tokens": {"prompt": 1}},
            f"tokens: 'prompt' must be one of {TOKEN_TYPES}",
            id="unknown token type",
        ),
        pytest.param(
            {"tokens": {"input": -1}},
            "tokens: input must be a token count, not -1",
            id="negative",
        ),
        pytest.param(
            {"tokens": {"input": 1.0}},
            "tokens: input must be a token count, not 1.0",
            id="float",
        ),
        pytest.param(
            {"tokens": {"input": math.nan}},
            "tokens: input must be a token count, not nan",
            id="NaN",
        ),
        pytest.param(
            {"tokens": {"input": "7"}},
            "tokens: input must be a token count, not '7'",
            id="string",
        ),
        pytest.param(
            {"tokens": {"input": True}},
            "tokens: input must be a token count, not True",
            id="boolean",
        ),
        pytest.param(
            {"tokens": {"input": None}},
            "tokens: input must be a token count, not None",
            id="None",
        ),
        pytest.param(
            {"tokens": {"input": 1, "output": -2}},
            "tokens: output must be a token count, not -2",
            id="not the first",
        ),
        pytest.param(
            {"duration": -0.1},
            "duration must be finite seconds, not -0.1",
            id="negative duration",
        ),
        pytest.param({"duration": math.nan}, "duration must be finite seconds, not nan", id="NaN duration"),
        pytest.param(
            {"duration": math.inf},
            "duration must be finite seconds, not inf",
            id="endless duration",
        ),
        pytest.param(
            {"error": "broken"}, f"error: 'broken' must be one of {ERROR_KINDS}", id="unknown error"
        ),
        pytest.param({"error": ""}, f"error: '' must be one of {ERROR_KINDS}", id="empty error"),
    ],
)
def test_invalid_arguments_raise_and_record_nothing(
    pipeline: Pipeline, fields: dict[str, Any], message: str
) -> None:
    """The message names the argument, its value and the valid ones."""
    calls: list[Call] = []
    llm_exporter.subscribe(calls.append)

    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        recorded(**fields)
    assert pipeline.flush()
    assert calls == []


# ---- subscribe


def test_a_subscriber_gets_every_call_in_order(pipeline: Pipeline) -> None:
    """It gets the same object, priced."""
    calls: list[Call] = []
    llm_exporter.subscribe(calls.append)
    made = [recorded(model=f"t-{number}") for number in range(20)]
    assert pipeline.flush()

    assert len(calls) == 20
    assert all(got is call for got, call in zip(calls, made, strict=True))


def test_an_unsubscribed_callback_is_no_longer_called(pipeline: Pipeline) -> None:
    """It has got the earlier calls."""
    calls: list[Call] = []
    callback: Callable[[Call], None] = calls.append
    llm_exporter.subscribe(callback)
    before = recorded()
    assert pipeline.flush()
    llm_exporter.unsubscribe(callback)
    recorded()
    assert pipeline.flush()

    assert calls == [before]


def test_unsubscribing_an_unknown_callback_is_ignored(pipeline: Pipeline) -> None:
    """It never was called."""
    llm_exporter.unsubscribe(print)


def test_a_failing_subscriber_is_logged_and_counted_and_affects_nobody_else(
    pipeline: Pipeline, said: Callable[[], list[LogRecord]]
) -> None:
    """Neither the recording code nor other subscribers."""
    calls: list[Call] = []

    def broken(call: Call) -> None:
        raise LookupError("mine")

    llm_exporter.subscribe(broken)
    llm_exporter.subscribe(calls.append)
    call = recorded()
    assert pipeline.flush()  # to the sinks
    assert pipeline.flush()  # to the log

    assert calls == [call]
    (entry,) = (record for record in said() if record.levelname == "ERROR")
    assert "subscriber" in entry.getMessage()
    assert pipeline.registry.get_sample_value("llm_exporter_errors_total", {"where": "subscriber"}) == 1
