"""Notes which agent of the OpenAI Agents SDK or which LangGraph graph runs, for the labels of its calls.

A framework that does not have these methods is left alone, and its calls have no such label.
"""

from __future__ import annotations

import sys
from collections.abc import AsyncGenerator, Callable, Generator
from contextlib import suppress
from contextvars import ContextVar
from functools import wraps
from types import ModuleType
from typing import Any, Final

from ..client.guard import guarded
from ..client.inferred_labels import running_agent, running_graph
from .imports import Imported, ImportHook

_hook: Final = ImportHook()
_WRAPPED: Final = "_llm_exporter_wrapped"
_originals: Final[list[tuple[Any, str, Any]]] = []
"""The owner, the name and the original of each method."""
_UNNAMED: Final = "LangGraph"
"""The name of a graph that has none."""


def observe() -> None:
    """Observe the frameworks that are imported, and those that will be."""
    for name, imported in _OBSERVED.items():
        _hook.expect(name, imported)
        if (module := sys.modules.get(name)) is not None:
            imported(module)


def restore() -> None:
    """Put the methods of the frameworks back, unless somebody else has wrapped them too."""
    _hook.forget(_OBSERVED)
    while _originals:
        owner, name, method = _originals.pop()
        if hasattr(getattr(owner, name), _WRAPPED):
            setattr(owner, name, method)


def _openai_agents(module: ModuleType) -> None:
    for name in ("get_new_response", "run_single_turn_streamed"):
        _wrap(module, name, _with_agent)


def _langgraph(module: ModuleType) -> None:
    graph = getattr(module, "Pregel", None)
    _wrap(graph, "stream", _with_graph)
    _wrap(graph, "astream", _with_graph_async)


_OBSERVED: Final[dict[str, Imported]] = {
    "agents.run_internal.run_loop": _openai_agents,
    "langgraph.pregel.main": _langgraph,
}


def _wrap(owner: Any, name: str, wrapper: Callable[[Callable[..., Any]], Callable[..., Any]]) -> None:
    method = getattr(owner, name, None)
    if method is not None and not hasattr(method, _WRAPPED):
        wrapped = wraps(method)(wrapper(method))
        setattr(wrapped, _WRAPPED, True)
        setattr(owner, name, wrapped)
        _originals.append((owner, name, method))


def _with_agent(turn: Callable[..., Any]) -> Callable[..., Any]:
    async def wrapped(*args: Any, **kwargs: Any) -> Any:
        with _During(running_agent, guarded("labels", _agent_in, (*args, *kwargs.values())) or ""):
            return await turn(*args, **kwargs)

    return wrapped


def _agent_in(arguments: tuple[Any, ...]) -> str:
    """Return the name of the agent among the arguments of a turn."""
    for argument in arguments:
        if (agent := getattr(argument, "public_agent", None)) is not None:
            return str(agent.name)
    return ""


def _with_graph(stream: Callable[..., Any]) -> Callable[..., Any]:
    def wrapped(self: Any, *args: Any, **kwargs: Any) -> Generator[Any, None, None]:
        parts = stream(self, *args, **kwargs)
        name = guarded("labels", _graph_name, self) or running_graph.get()
        try:
            while True:
                with _During(running_graph, name):  # not in the code that iterates
                    try:
                        part = next(parts)
                    except StopIteration:
                        return
                yield part
        finally:
            parts.close()

    return wrapped


def _with_graph_async(stream: Callable[..., Any]) -> Callable[..., Any]:
    async def wrapped(self: Any, *args: Any, **kwargs: Any) -> AsyncGenerator[Any, None]:
        parts = stream(self, *args, **kwargs)
        name = guarded("labels", _graph_name, self) or running_graph.get()
        try:
            while True:
                with _During(running_graph, name):
                    try:
                        part = await anext(parts)
                    except StopAsyncIteration:
                        return
                yield part
        finally:
            await parts.aclose()

    return wrapped


def _graph_name(graph: Any) -> str:
    name = str(graph.get_name())
    return "" if name == _UNNAMED else name


class _During:
    """Sets a context variable during a block, which may end in another context than it began."""

    def __init__(self, variable: ContextVar[str], value: str) -> None:
        self._variable, self._value = variable, value

    def __enter__(self) -> None:
        self._token = self._variable.set(self._value)

    def __exit__(self, *_: object) -> None:
        with suppress(ValueError):
            self._variable.reset(self._token)
