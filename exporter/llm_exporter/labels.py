"""Labels of the calls made in a block, a function or a coroutine, carried by a context variable."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Mapping
from contextvars import ContextVar
from dataclasses import dataclass
from functools import wraps
from inspect import isasyncgenfunction, iscoroutinefunction, isgeneratorfunction
from types import MappingProxyType, TracebackType
from typing import Any, Final, TypeVar, cast
from urllib.parse import unquote

log = logging.getLogger("llm_exporter")

F = TypeVar("F", bound=Callable[..., Any])


@dataclass(frozen=True, slots=True)
class _Frame:
    """The labels in force inside one block, and the block around it."""

    labels: Mapping[str, str]
    owner: Labels | None = None
    outer: _Frame | None = None

    def without(self, owner: Labels) -> _Frame:
        """Return the frames without the innermost one of an owner."""
        if self.outer is None:
            return self
        if self.owner is owner:
            return self.outer
        outer = self.outer.without(owner)
        return self if outer is self.outer else _Frame(self.labels, self.owner, outer)


def from_environment() -> dict[str, str]:
    """Return the labels in LLM_EXPORTER_LABELS: `agent=planner,phase=plan`, with %2C for a comma."""
    given: dict[str, str] = {}
    for pair in filter(None, os.environ.get("LLM_EXPORTER_LABELS", "").split(",")):
        name, equals, value = pair.partition("=")
        if name.strip() and equals:
            given[unquote(name.strip())] = unquote(value.strip())
        else:
            log.warning("llm-exporter: LLM_EXPORTER_LABELS: %r is not name=value", pair)
    return given


_current: Final[ContextVar[_Frame]] = ContextVar(
    "llm_exporter_labels",
    default=_Frame(MappingProxyType(from_environment())),  # noqa: B039 - frozen, of a read-only mapping
)


def current_labels() -> Mapping[str, str]:
    """Return the labels in force here, read-only."""
    return _current.get().labels


class Labels:
    """What `labels(...)` returns: a context manager and a decorator.

    It keeps no state of its own, so that one object can be used again, nested, and in many threads and tasks.
    """

    __slots__ = ("_added",)

    def __init__(self, added: dict[str, str]) -> None:
        self._added = added

    def __enter__(self) -> None:
        outer = _current.get()
        _current.set(_Frame(MappingProxyType({**outer.labels, **self._added}), self, outer))

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        # Blocks in generators may be left in another order than they were entered in, and in another context.
        _current.set(_current.get().without(self))

    def __call__(self, function: F) -> F:
        """Decorate a function or coroutine function: every call of it runs under these labels.

        Raises:
            TypeError: for a generator function, whose body runs in the context of whoever iterates it.
        """
        if isgeneratorfunction(function) or isasyncgenfunction(function):
            raise TypeError("labels(...) cannot decorate a generator: use `with labels(...)` inside it")
        if iscoroutinefunction(function):

            @wraps(function)
            async def labelled_coroutine(*args: Any, **kwargs: Any) -> Any:
                with Labels(self._added):
                    return await function(*args, **kwargs)

            return cast("F", labelled_coroutine)

        @wraps(function)
        def labelled(*args: Any, **kwargs: Any) -> Any:
            with Labels(self._added):
                return function(*args, **kwargs)

        return cast("F", labelled)


def labels(**values: object) -> Labels:
    """Label the calls made in a block or by a function.

    As in `with labels(agent="planner", phase="plan"): ...` and `@labels(agent="planner")`.
    Inner labels are laid over outer ones. Asyncio tasks inherit the labels in force where they are created;
    a thread does when it is started with a copied context (`contextvars.copy_context().run`), as
    `asyncio.to_thread` does by itself.

    Args:
        values: label values by name, made strings; None leaves the outer value as it is.
    """
    return Labels({name: str(value) for name, value in values.items() if value is not None})
