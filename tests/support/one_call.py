"""Assertions about the calls that a framework makes."""

from __future__ import annotations

from llm_exporter import Call
from support.metered import Metered
from support.operations import Format


def assert_one_call(metered: Metered, wire: Format) -> None:
    """Assert that exactly one call was counted, with the expected tokens and cost."""
    assert_is_the_call(metered.call, wire)


def assert_is_the_call(call: Call, wire: Format) -> None:
    """Assert that a call is the framework's and has the expected tokens and cost."""
    assert (call.provider, call.model, call.agent) == (wire.provider, wire.model, "framework")
    assert call.tokens == wire.tokens
    assert call.cost == wire.cost
    assert call.error is None
