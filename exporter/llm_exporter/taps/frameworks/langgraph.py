"""LangGraph: the graph or its agent, and the running node."""

from __future__ import annotations

from collections.abc import Mapping
from contextvars import ContextVar
from types import ModuleType
from typing import Any, Final

from .langchain import CONFIG, config_here
from .observing import Framework, Noting, wrap

_running: Final[ContextVar[str]] = ContextVar("llm_exporter_graph", default="")
"""The name of the graph that runs here."""
_UNNAMED: Final = "LangGraph"
"""The name of a graph that has none."""


def _labels() -> Mapping[str, object]:
    """Return the agent and the node that LangChain's configuration of the running node names.

    A graph inside a node of another one is an agent: it has the name of that node, unless it has its own.
    """
    metadata = config_here().get("metadata") or {}
    node = metadata.get("langgraph_node")
    if not node:
        return {}
    outer, inside, _ = str(metadata.get("langgraph_checkpoint_ns") or "").partition("|")
    around = outer.partition(":")[0] if inside else ""
    return {"agent": metadata.get("lc_agent_name") or _running.get() or around, "phase": node}


def _observe(module: ModuleType) -> None:
    graph = getattr(module, "Pregel", None)
    noting = Noting(_running, _name_of)
    wrap(graph, "stream", noting.generator)
    wrap(graph, "astream", noting.async_generator)


def _name_of(graph: Any, *_: object, **__: object) -> str:
    name = str(graph.get_name())
    return "" if name == _UNNAMED else name


FRAMEWORK: Final = Framework(CONFIG, _labels, {"langgraph.pregel.main": _observe})
