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
_originals: Final[list[tuple[Any, str, Any]]] = []
"""The owner, the name and the original of each method."""


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
    """Replace a method or function, if there is one, until `put_back`."""
    method = getattr(owner, name, None)
    if method is not None and not hasattr(method, _WRAPPED):
        wrapped = wraps(method)(wrapper(method))
        setattr(wrapped, _WRAPPED, True)
        setattr(owner, name, wrapped)
        _originals.append((owner, name, method))


def put_back() -> None:
    """Put back all methods, unless somebody else has wrapped them too."""
    while _originals:
        owner, name, method = _originals.pop()
        if hasattr(getattr(owner, name), _WRAPPED):
            setattr(owner, name, method)


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
