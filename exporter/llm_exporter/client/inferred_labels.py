"""Agents and phases that frameworks know: labels of calls that have none of their own.

A source returns what a framework says about the code that runs here. It imports nothing: if the program has
not imported the framework, there is nothing to know.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from contextvars import ContextVar
from typing import Any, Final

from ..bounds import clean_text
from ..labels import current_labels
from .guard import guarded

Source = Callable[[], Mapping[str, object]]

running_agent: Final[ContextVar[str]] = ContextVar("llm_exporter_running_agent", default="")
"""The agent of the OpenAI Agents SDK whose turn it is here."""
running_graph: Final[ContextVar[str]] = ContextVar("llm_exporter_running_graph", default="")
"""The name of the LangGraph graph that runs here."""

_NOTHING: Final[Mapping[str, object]] = {}


def _openai_agents() -> Mapping[str, object]:
    return {"agent": running_agent.get()}


def _langgraph() -> Mapping[str, object]:
    """Return the agent and the node that LangChain's configuration of the running node names.

    A graph inside a node of another one is an agent: it has the name of that node, unless it has its own.
    """
    module: Any = sys.modules.get("langchain_core.runnables.config")
    config = module and module.var_child_runnable_config.get()
    metadata = (config or {}).get("metadata") or {}
    node = metadata.get("langgraph_node")
    if not node:
        return _NOTHING
    outer, inside, _ = str(metadata.get("langgraph_checkpoint_ns") or "").partition("|")
    around = outer.partition(":")[0] if inside else ""
    return {"agent": metadata.get("lc_agent_name") or running_graph.get() or around, "phase": node}


def _opentelemetry() -> Mapping[str, object]:
    """Return the agent of the span in force, or of the baggage."""
    trace: Any = sys.modules.get("opentelemetry.trace")
    if trace is None:
        return _NOTHING
    attributes = getattr(trace.get_current_span(), "attributes", None) or {}
    baggage: Any = sys.modules.get("opentelemetry.baggage")
    known = baggage.get_all() if baggage is not None else {}
    name = "gen_ai.agent.name"
    return {
        "agent": attributes.get(name) or known.get(name) or known.get("agent"),
        "phase": known.get("phase"),
    }


SOURCES: Final[Mapping[str, tuple[str, Source]]] = {
    "openai_agents": ("agents.run_internal.run_loop", _openai_agents),
    "langgraph": ("langchain_core.runnables.config", _langgraph),
    "opentelemetry": ("opentelemetry.trace", _opentelemetry),
}
"""By the name that `instrument(labels_from=…)` takes: a module, and what to ask once it is imported.

The first one that knows a label has it.
"""

_in_use: tuple[tuple[str, Source], ...] = ()


def use(names: Sequence[str]) -> None:
    """Ask these sources from now on.

    Raises:
        ValueError: if there is no such source.
    """
    global _in_use  # noqa: PLW0603
    for name in names:
        if name not in SOURCES:
            raise ValueError(f"labels_from: {name!r} must be one of {', '.join(SOURCES)}")
    _in_use = tuple(SOURCES[name] for name in names)


def labels_of_call() -> Mapping[str, str]:
    """Return the labels of a call made here: those that are set, and an agent and phase if none is set."""
    labels = current_labels()
    if not _in_use or ("agent" in labels and "phase" in labels):
        return labels
    inferred: dict[str, str] = {}
    modules = sys.modules
    for module, source in _in_use:
        if module not in modules:
            continue
        for name, value in (guarded("labels", source) or _NOTHING).items():
            if value and name not in inferred:
                inferred[name] = clean_text(str(value))
    return {**inferred, **labels} if inferred else labels
