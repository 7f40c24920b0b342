"""CrewAI: the role of the agent, and the name of the task that it works on.

The role is as it was written, with the placeholders of inputs: with their values, each input would be another
agent. A task without a name has only a description, which is a prompt, so it is nameless.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextvars import ContextVar
from types import ModuleType
from typing import Any, Final

from .observing import Framework, Noting, wrap

_TASK: Final = "crewai.task"
_AGENT: Final = "crewai.agent.core"
_running: Final[ContextVar[Mapping[str, object] | None]] = ContextVar("llm_exporter_crewai", default=None)


def _labels() -> Mapping[str, object]:
    return _running.get() or {}


def _observe_tasks(module: ModuleType) -> None:
    task, noting = getattr(module, "Task", None), Noting(_running, _of_task)
    wrap(task, "execute_sync", noting.function)
    wrap(task, "execute_async", noting.function)  # on a thread, in a copy of the context
    wrap(task, "aexecute_sync", noting.coroutine)


def _observe_agents(module: ModuleType) -> None:
    agent, noting = getattr(module, "Agent", None), Noting(_running, _of_agent)
    wrap(agent, "execute_task", noting.function)  # also of what another agent delegates
    wrap(agent, "aexecute_task", noting.coroutine)
    wrap(agent, "kickoff", noting.function)
    wrap(agent, "kickoff_async", noting.coroutine)


def _of_task(task: Any, agent: Any = None, *_: object, **__: object) -> Mapping[str, object]:
    return _of_agent(agent or task.agent, task)


def _of_agent(agent: Any, task: Any = None, *_: object, **__: object) -> Mapping[str, object]:
    """Return the labels of an agent's work. What is delegated to it belongs to the task around."""
    role = getattr(agent, "_original_role", None) or getattr(agent, "role", None) or ""
    return {
        "agent": " ".join(str(role).split()),
        "phase": getattr(task, "name", None) or _labels().get("phase"),
    }


FRAMEWORK: Final = Framework(_TASK, _labels, {_TASK: _observe_tasks, _AGENT: _observe_agents})
