"""Calls of the tests' own, whose costs add up without a rounding error."""

from __future__ import annotations

from typing import Any

from llm_exporter import Call


def a_call(**fields: Any) -> Call:
    """A call of 100 tokens in and 20 out for 0.75 dollars."""
    of_base: dict[str, Any] = {
        "provider": "openai",
        "model": "gpt-5",
        "operation": "chat",
        "labels": {"agent": "planner", "phase": "plan"},
        "tokens": {"input": 100, "output": 20},
        "cost": {"input": 0.25, "output": 0.5},
        "cost_source": "list",
        "duration": 1.5,
    }
    return Call(**{**of_base, **fields})
