"""The frameworks that know which agent and which phase run here: one module for each."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Final

from ...client import inferred_labels
from ..imports import ImportHook
from . import (
    celery,
    crewai,
    http_headers,
    langchain,
    langgraph,
    llama_index,
    openai_agents,
    opentelemetry,
    pydantic_ai,
)
from .observing import Framework, end

FRAMEWORKS: Final[dict[str, Framework]] = {
    "openai_agents": openai_agents.FRAMEWORK,
    "langgraph": langgraph.FRAMEWORK,
    "pydantic_ai": pydantic_ai.FRAMEWORK,
    "crewai": crewai.FRAMEWORK,
    "llama_index": llama_index.FRAMEWORK,
    "langchain": langchain.FRAMEWORK,
    "opentelemetry": opentelemetry.FRAMEWORK,
    "http_headers": http_headers.FRAMEWORK,
    "celery": celery.FRAMEWORK,
}
"""By the name that `instrument(labels_from=…)` takes. The first one that knows a label has it."""

_hook: Final = ImportHook()


def use(names: Sequence[str]) -> None:
    """Ask these frameworks from now on, and observe those that are imported or will be.

    Raises:
        ValueError: if there is no such framework.
    """
    for name in names:
        if name not in FRAMEWORKS:
            raise ValueError(f"labels_from: {name!r} must be one of {', '.join(FRAMEWORKS)}")
    used = [FRAMEWORKS[name] for name in names]
    inferred_labels.use((framework.module, framework.source) for framework in used)
    for framework in used:
        for module, observe in framework.observed.items():
            _hook.expect(module, observe)
            if (imported := sys.modules.get(module)) is not None:
                observe(imported)


def restore() -> None:
    """Stop observing the frameworks, and put their methods back."""
    _hook.forget(module for framework in FRAMEWORKS.values() for module in framework.observed)
    end()
