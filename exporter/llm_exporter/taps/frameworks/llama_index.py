"""LlamaIndex: the running agent or workflow, and its step, which it keeps in context variables."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any, Final

from .observing import Framework

_MODULE: Final = "workflows.runtime.types.results"


def _labels() -> Mapping[str, object]:
    """Return the step and its agent: the one that its event names, else the agent or workflow it is in."""
    step = _in_force("StepWorkerStateContextVar")
    if step is None:
        return {}
    reference = _in_force("InternalContextVar")
    workflow = getattr(getattr(reference and reference(), "_face", None), "_workflow", None)
    names = (
        getattr(getattr(step, "event", None), "current_agent_name", None),
        getattr(workflow, "name", None),
        getattr(workflow, "_workflow_name", None),
        workflow and type(workflow).__name__,
    )
    # A workflow may have a step that is called `name`.
    agent = next((name for name in names if name and isinstance(name, str)), None)
    return {"agent": agent, "phase": getattr(getattr(step, "state", None), "step_name", None)}


def _in_force(variable: str) -> Any:
    found = getattr(sys.modules[_MODULE], variable, None)
    return found and found.get(None)


FRAMEWORK: Final = Framework(_MODULE, _labels)
