"""Notes in a context variable what a framework runs, while one of its methods runs.

A framework that does not have the method is left alone, and its calls have no such label.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Generator, Mapping
from contextlib import suppress
from contextvars import ContextVar
from dataclasses import dataclass, field
from functools import partial, wraps
from typing import Any, Final, Generic, TypeVar

from ...client.guard import guarded
from ...client.inferred_labels import Source
from ..imports import Imported

T = TypeVar("T")
Method = Callable[..., Any]

_WRAPPED: Final = "_llm_exporter_wrapped"
_undo: Final[list[Callable[[], object]]] = []
"""What ends each observation."""


@dataclass(frozen=True)
class Framework:
    """A framework that knows labels.

    Args:
        module: the module without which it knows nothing.
        source: returns the labels that it knows.
        observed: what to do with its modules once they are imported.
    """

    module: str
    source: Source
    observed: Mapping[str, Imported] = field(default_factory=dict)


def wrap(owner: Any, name: str, wrapper: Callable[[Method], Method]) -> None:
    """Replace a method or function, if there is one, until `end` puts it back."""
    method = getattr(owner, name, None)
    if method is None or hasattr(method, _WRAPPED):
        return
    wrapped = wraps(method)(wrapper(method))
    setattr(wrapped, _WRAPPED, True)
    setattr(owner, name, wrapped)

    def put_back() -> None:
        if hasattr(getattr(owner, name), _WRAPPED):  # otherwise somebody else has wrapped it too
            setattr(owner, name, method)

    at_end(put_back)


def at_end(undo: Callable[[], object]) -> None:
    """Have `end` call this."""
    _undo.append(undo)


def end() -> None:
    """End all observations."""
    while _undo:
        _undo.pop()()


@dataclass(frozen=True)
class Noting(Generic[T]):
    """Notes something in a variable while a method runs. Each of its methods wraps one kind of method.

    Args:
        variable: where to note it.
        noted: returns it from the arguments of the method; if it is empty, the variable stays as it is.
    """

    variable: ContextVar[T]
    noted: Callable[..., T]

    def function(self, method: Method) -> Method:
        """Wrap a function."""

        def wrapped(*args: Any, **kwargs: Any) -> Any:
            with self._during(args, kwargs):
                return method(*args, **kwargs)

        return wrapped

    def coroutine(self, method: Method) -> Method:
        """Wrap a coroutine function."""

        async def wrapped(*args: Any, **kwargs: Any) -> Any:
            with self._during(args, kwargs):
                return await method(*args, **kwargs)

        return wrapped

    def generator(self, method: Method) -> Method:
        """Wrap a generator function. Nothing is noted in the code that iterates."""

        def wrapped(*args: Any, **kwargs: Any) -> Generator[Any, None, None]:
            parts = method(*args, **kwargs)
            during = self._during(args, kwargs)
            try:
                while True:
                    with during:
                        try:
                            part = next(parts)
                        except StopIteration:
                            return
                    yield part
            finally:
                parts.close()

        return wrapped

    def async_generator(self, method: Method) -> Method:
        """Wrap an asynchronous generator function. Nothing is noted in the code that iterates."""

        async def wrapped(*args: Any, **kwargs: Any) -> AsyncGenerator[Any, None]:
            parts = method(*args, **kwargs)
            during = self._during(args, kwargs)
            try:
                while True:
                    with during:
                        try:
                            part = await anext(parts)
                        except StopAsyncIteration:
                            return
                    yield part
            finally:
                await parts.aclose()

        return wrapped

    def _during(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> _During[T]:
        noted = guarded("labels", partial(self.noted, *args, **kwargs))
        return _During(self.variable, noted or self.variable.get())


class _During(Generic[T]):
    """Sets a context variable during a block, which may end in another context than it began."""

    def __init__(self, variable: ContextVar[T], value: T) -> None:
        self._variable, self._value = variable, value

    def __enter__(self) -> None:
        self._token = self._variable.set(self._value)

    def __exit__(self, *_: object) -> None:
        with suppress(ValueError):
            self._variable.reset(self._token)
