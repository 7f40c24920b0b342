"""Labels for the calls made in a block, function or coroutine, kept in a context variable."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Mapping
from contextvars import ContextVar
from functools import cache, wraps
from types import MappingProxyType, TracebackType
from typing import Any, Final, NamedTuple, TypeVar, cast
from urllib.parse import unquote

log = logging.getLogger("llm_exporter")

F = TypeVar("F", bound=Callable[..., Any])


class _Frame(NamedTuple):
    """The labels in force inside one block, and the frame of the block around it."""

    labels: Mapping[str, str]
    owner: Labels | None = None
    outer: _Frame | None = None

    def without(self, owner: Labels) -> _Frame:
        """Return these frames without the innermost one of an owner."""
        if self.outer is None:
            return self
        if self.owner is owner:
            return self.outer
        outer = self.outer.without(owner)
        return self if outer is self.outer else _Frame(self.labels, self.owner, outer)


def from_environment() -> dict[str, str]:
    """Return the labels in LLM_EXPORTER_LABELS: `agent=planner,phase=plan`, with %2C for a comma."""
    found: dict[str, str] = {}
    for pair in filter(None, os.environ.get("LLM_EXPORTER_LABELS", "").split(",")):
        name, equals, value = pair.partition("=")
        if name.strip() and equals:
            found[unquote(name.strip())] = unquote(value.strip())
        else:
            log.warning("llm-exporter: LLM_EXPORTER_LABELS: %r is not name=value", pair)
    return found


_innermost: Final[ContextVar[_Frame | None]] = ContextVar("llm_exporter_labels", default=None)


@cache  # read on first use, so that importing this module has no effects
def _outermost() -> _Frame:
    return _Frame(MappingProxyType(from_environment()))


def _current() -> _Frame:
    return _innermost.get() or _outermost()


def current_labels() -> Mapping[str, str]:
    """Return the labels in force here, read-only."""
    return _current().labels


class Labels:
    """Returned by `labels(...)`: a context manager and a decorator.

    It keeps no state, so one object can be reused, nested, and shared by threads and tasks.
    """

    __slots__ = ("_added",)

    def __init__(self, added: dict[str, str]) -> None:
        self._added = added

    def __repr__(self) -> str:
        return f"labels({', '.join(f'{name}={value!r}' for name, value in self._added.items())})"

    def __enter__(self) -> None:
        outer = _current()
        _innermost.set(_Frame(MappingProxyType({**outer.labels, **self._added}), self, outer))

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        # Blocks in generators may be left in a different order than they were entered, or in another context.
        _innermost.set(_current().without(self))

    def __call__(self, function: F) -> F:
        """Decorate a function or coroutine function to run under these labels.

        Raises:
            TypeError: if it is a generator function: its body runs in the context of the code that iterates.
        """
        # Imported late: `inspect` takes a while, and not every program decorates.
        from inspect import isasyncgenfunction, iscoroutinefunction, isgeneratorfunction  # noqa: PLC0415

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
    """Label the LLM calls made in a block or by a function.

    Inner labels override outer ones. An asyncio task inherits the labels in force where it is created. A
    thread inherits labels only if it runs in a copied context (`contextvars.copy_context().run`), as with
    `asyncio.to_thread`.

    Args:
        values: label values by name, converted to strings; None keeps the outer value.

    Returns:
        A context manager that is also a decorator.

    Example:
        >>> with labels(agent="planner", phase="plan"):
        ...     dict(current_labels())
        {'agent': 'planner', 'phase': 'plan'}
    """
    return Labels({name: str(value) for name, value in values.items() if value is not None})
