"""Sample calls, with costs that add up without rounding errors."""

from __future__ import annotations

from typing import Any

from llm_exporter import Call


def a_call(**fields: Any) -> Call:
    """Return a call with 100 input tokens and 20 output tokens for $0.75, changed by `fields`."""
    defaults: dict[str, Any] = {
        "provider": "openai",
        "model": "gpt-5",
        "operation": "chat",
        "labels": {"agent": "planner", "phase": "plan"},
        "tokens": {"input": 100, "output": 20},
        "cost": {"input": 0.25, "output": 0.5},
        "cost_source": "list",
        "duration": 1.5,
    }
    return Call(**{**defaults, **fields})


def calls(*names: str, **more: Any) -> list[Call]:
    """Return calls of half a dollar."""
    return [
        Call(id=name, provider="openai", model="gpt-5", operation="chat", cost={"output": 0.5}, **more)
        for name in names
    ]
