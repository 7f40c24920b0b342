"""The OpenAI Agents SDK: the agent whose turn it is."""

from __future__ import annotations

from collections.abc import Mapping
from contextvars import ContextVar
from types import ModuleType
from typing import Final

from .observing import Framework, Noting, wrap

_running: Final[ContextVar[str]] = ContextVar("llm_exporter_openai_agent", default="")
_MODULE: Final = "agents.run_internal.run_loop"


def _labels() -> Mapping[str, object]:
    return {"agent": _running.get()}


def _observe(module: ModuleType) -> None:
    for name in ("get_new_response", "run_single_turn_streamed"):
        wrap(module, name, Noting(_running, _agent_among).coroutine)


def _agent_among(*args: object, **kwargs: object) -> str:
    """Return the name of the agent among the arguments of a turn."""
    for argument in (*args, *kwargs.values()):
        if (agent := getattr(argument, "public_agent", None)) is not None:
            return str(agent.name)
    return ""


FRAMEWORK: Final = Framework(_MODULE, _labels, {_MODULE: _observe})
