"""Notes in a context variable what a framework runs, while one of its methods runs.

A framework that does not have the method is left alone, and its calls have no such label.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Generator, Mapping
from contextlib import suppress
from contextvars import ContextVar
from dataclasses import dataclass, field
from functools import wraps
from typing import Any, Final

from ...client.guard import guarded
from ...client.inferred_labels import Source
from ..imports import Imported

Method = Callable[..., Any]
Name = Callable[..., str]
"""Returns what is to be noted, from the arguments of a method; empty for what is noted already."""

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


def noting_in_coroutine(variable: ContextVar[str], name: Name) -> Callable[[Method], Method]:
    """Return a wrapper of coroutine functions that notes a name while the coroutine runs."""

    def wrapper(method: Method) -> Method:
        async def wrapped(*args: Any, **kwargs: Any) -> Any:
            with _During(variable, guarded("labels", name, *args, *kwargs.values()) or variable.get()):
                return await method(*args, **kwargs)

        return wrapped

    return wrapper


def noting_in_generator(variable: ContextVar[str], name: Name) -> Callable[[Method], Method]:
    """Return a wrapper of generator functions that notes a name while the generator runs.

    It is not noted in the code that iterates.
    """

    def wrapper(method: Method) -> Method:
        def wrapped(*args: Any, **kwargs: Any) -> Generator[Any, None, None]:
            parts = method(*args, **kwargs)
            noted = guarded("labels", name, *args, *kwargs.values()) or variable.get()
            try:
                while True:
                    with _During(variable, noted):
                        try:
                            part = next(parts)
                        except StopIteration:
                            return
                    yield part
            finally:
                parts.close()

        return wrapped

    return wrapper


def noting_in_async_generator(variable: ContextVar[str], name: Name) -> Callable[[Method], Method]:
    """As `noting_in_generator`, for asynchronous generator functions."""

    def wrapper(method: Method) -> Method:
        async def wrapped(*args: Any, **kwargs: Any) -> AsyncGenerator[Any, None]:
            parts = method(*args, **kwargs)
            noted = guarded("labels", name, *args, *kwargs.values()) or variable.get()
            try:
                while True:
                    with _During(variable, noted):
                        try:
                            part = await anext(parts)
                        except StopAsyncIteration:
                            return
                    yield part
            finally:
                await parts.aclose()

        return wrapped

    return wrapper


class _During:
    """Sets a context variable during a block, which may end in another context than it began."""

    def __init__(self, variable: ContextVar[str], value: str) -> None:
        self._variable, self._value = variable, value

    def __enter__(self) -> None:
        self._token = self._variable.set(self._value)

    def __exit__(self, *_: object) -> None:
        with suppress(ValueError):
            self._variable.reset(self._token)
