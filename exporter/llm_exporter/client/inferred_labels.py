"""Labels that others know for a call that has none of its own: an agent and a phase above all.

A source returns what it knows about the code that runs here. It imports nothing: if the program has not
imported what the source asks, there is nothing to know.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Mapping
from contextvars import ContextVar
from types import MappingProxyType
from typing import Final

from ..bounds import clean_text
from ..labels import current_labels
from .guard import guarded

Source = Callable[[], Mapping[str, object]]
"""Returns labels by name. Values that are empty or None count as unknown."""

_NOTHING: Final[Mapping[str, str]] = MappingProxyType({})
of_request: Final[ContextVar[Mapping[str, str]]] = ContextVar("llm_exporter_request", default=_NOTHING)
"""The labels of the HTTP request that is being served, which may be any."""

_in_use: tuple[tuple[str, Source], ...] = ()
_modules: frozenset[str] = frozenset()
"""The modules of the sources in use."""


def use(sources: Iterable[tuple[str, Source]]) -> None:
    """Ask these sources from now on, each once its module is imported: the first to know a label has it."""
    global _in_use, _modules  # noqa: PLW0603
    _in_use = tuple(sources)
    _modules = frozenset(module for module, _ in _in_use)


def labels_of_call() -> Mapping[str, str]:
    """Return the labels of a call made here: those that are set, and others that a source knows."""
    labels = current_labels()
    if not _in_use or ("agent" in labels and "phase" in labels and not of_request.get()):
        return labels
    modules = sys.modules
    if modules.keys().isdisjoint(_modules):  # one look-up for each, without a bytecode
        return labels
    inferred: dict[str, str] = {}
    for module, source in _in_use:
        if module not in modules:
            continue
        for name, value in (guarded("labels", source) or _NOTHING).items():
            if value and name not in inferred:
                inferred[name] = clean_text(str(value))
    return {**inferred, **labels} if inferred else labels
