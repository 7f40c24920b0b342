"""Labels for the calls made in a block, function, coroutine or generator, kept in a context variable.

A generator shares the context of the code that iterates over it. A block that it is suspended in must not
label the calls of that code, so a block remembers the generator that it is in.
"""

from __future__ import annotations

import sys
from collections.abc import AsyncGenerator, Callable, Generator, Mapping
from contextvars import ContextVar
from functools import cache, wraps
from types import FrameType, MappingProxyType, TracebackType
from typing import Any, Final, TypeVar, cast
from urllib.parse import unquote

from . import environment
from .bounds import clean_text
from .log import log

F = TypeVar("F", bound=Callable[..., Any])


_GENERATOR: Final = 0x20 | 0x200
"""Flags of the code of generators and asynchronous generators: `inspect.CO_GENERATOR` and its like."""


class _Block:
    """One block that was entered, and the block around it.

    Args:
        added: the labels that it adds.
        owner: what was entered.
        outer: the block around it; None for the outermost.
        generator: the generator that it is in, if any.
    """

    __slots__ = ("added", "generator", "labels", "outer", "owner")

    def __init__(
        self,
        added: Mapping[str, str],
        owner: Labels | None = None,
        outer: _Block | None = None,
        generator: _Generator | None = None,
    ) -> None:
        self.added = added
        self.owner = owner
        self.outer = outer
        self.generator = generator
        self.labels: Mapping[str, str] | None = None
        """The labels in force; None if they depend on whether a generator is suspended."""
        if outer is None:
            self.labels = MappingProxyType(dict(added))
        elif generator is None and outer.labels is not None:
            self.labels = MappingProxyType({**outer.labels, **added})

    def inside(self, outer: _Block) -> _Block:
        """Return the same block inside another one."""
        return _Block(self.added, self.owner, outer, self.generator)

    def without(self, leaving: _Block) -> _Block:
        """Return these blocks without one of them, which is not the outermost."""
        inner: list[_Block] = []
        block = self
        while block is not leaving and block.outer is not None:
            inner.append(block)
            block = block.outer
        block = block.outer or block
        for each in reversed(inner):
            block = each.inside(block)
        return block

    def entered_by(self, owner: Labels, frame: FrameType | None) -> _Block | None:
        """Return the innermost block of an owner, if possible one in the generator with this frame."""
        found = None
        block: _Block | None = self
        while block is not None:
            if block.owner is owner:
                if frame is (block.generator and block.generator.frame):
                    return block
                found = found or block
            block = block.outer
        return found

    def labels_now(self) -> Mapping[str, str]:
        """Return the labels in force here."""
        inner: list[_Block] = []
        block = self
        while block.labels is None and block.outer is not None:
            inner.append(block)
            block = block.outer
        if not inner:
            return block.labels or {}
        now = dict(block.labels or {})
        for each in reversed(inner):
            if each.generator is None or not each.generator.is_suspended():
                now.update(each.added)
        return MappingProxyType(now)


class _Generator:
    """A generator that a block is in, and the context that the block was entered in."""

    __slots__ = ("_token", "frame", "has_left")

    def __init__(self, frame: FrameType) -> None:
        self.frame = frame
        self.has_left = False
        """Whether it has left the block, which may have been in another context."""
        self._token = _probe.set(None)

    def is_suspended(self) -> bool:
        """Return whether the code that runs here may be what iterates over the generator.

        A copy of the context belongs to a task or thread, which the generator itself may have started.
        """
        return not self._is_running() and self._is_in_its_context()

    def is_over(self) -> bool:
        """Return whether the block was left, though not in this context, which it was entered in."""
        return self.has_left and self._is_in_its_context()

    def _is_running(self) -> bool:
        frame: FrameType | None = sys._getframe(1)  # noqa: SLF001
        while frame is not None and frame is not self.frame:
            frame = frame.f_back
        return frame is not None

    def _is_in_its_context(self) -> bool:
        try:
            _probe.reset(self._token)
        except (ValueError, RuntimeError):  # the token of another context, which may be using it right now
            return False
        self._token = _probe.set(None)
        return True


_probe: Final[ContextVar[None]] = ContextVar("llm_exporter_probe")


_CALLERS_OF_CONTEXTS: Final = frozenset({"contextlib", "_pytest.fixtures"})
"""Modules that suspend a generator in its block to have other code run in the block."""


def _generator_around() -> FrameType | None:
    """Return the frame of the generator whose code enters or leaves a block, if it is one.

    That of a context manager or fixture is left out: its block includes the code that runs meanwhile.
    """
    frame = sys._getframe(1).f_back  # noqa: SLF001
    while frame is not None and _module_of(frame) == "contextlib":
        frame = frame.f_back  # of an `ExitStack`
    if frame is None or not frame.f_code.co_flags & _GENERATOR:
        return None
    return None if _module_of(frame.f_back) in _CALLERS_OF_CONTEXTS else frame


def _module_of(frame: FrameType | None) -> object:
    return frame and frame.f_globals.get("__name__")


def from_environment() -> dict[str, str]:
    """Return the labels in LLM_EXPORTER_LABELS: `agent=planner,phase=plan`, with %2C for a comma."""
    found: dict[str, str] = {}
    for pair in filter(None, environment.LABELS.value.split(",")):
        name, equals, value = pair.partition("=")
        if name.strip() and equals:
            found[clean_text(unquote(name.strip()))] = clean_text(unquote(value.strip()))
        else:
            log.warning("llm-exporter: LLM_EXPORTER_LABELS: %r is not name=value", pair)
    return found


_innermost: Final[ContextVar[_Block | None]] = ContextVar("llm_exporter_labels", default=None)


@cache  # read on first use, so that importing this module has no effects
def _outermost() -> _Block:
    return _Block(from_environment())


def _current() -> _Block:
    return _innermost.get() or _outermost()


def current_labels() -> Mapping[str, str]:
    """Return the labels in force here, read-only."""
    block = _innermost.get() or _outermost()
    labels = block.labels
    return labels if labels is not None else block.labels_now()


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
        outer, frame = _current(), _generator_around()
        while outer.outer is not None and outer.generator is not None and outer.generator.is_over():
            outer = outer.outer  # an async generator was abandoned here, and closed by another task
        _innermost.set(_Block(self._added, self, outer, frame and _Generator(frame)))

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        # Blocks in generators may be left in a different order than they were entered, or in another context.
        innermost = _current()
        if (leaving := innermost.entered_by(self, _generator_around())) is not None:
            _innermost.set(innermost.without(leaving))
            if leaving.generator is not None:
                leaving.generator.has_left = True

    def __call__(self, function: F) -> F:
        """Decorate a function, coroutine function or generator function to run under these labels.

        The labels are in force while the body of a generator runs, not in the code that iterates over it.
        """
        # Imported late: `inspect` takes a while, and not every program decorates.
        from inspect import isasyncgenfunction, iscoroutinefunction, isgeneratorfunction  # noqa: PLC0415

        if isgeneratorfunction(function):
            labelled = self._decorated_generator(function)
        elif isasyncgenfunction(function):
            labelled = self._decorated_async_generator(function)
        elif iscoroutinefunction(function):

            async def labelled(*args: Any, **kwargs: Any) -> Any:
                with Labels(self._added):
                    return await function(*args, **kwargs)
        else:

            def labelled(*args: Any, **kwargs: Any) -> Any:
                with Labels(self._added):
                    return function(*args, **kwargs)

        return cast("F", wraps(function)(labelled))

    def _decorated_generator(self, function: Callable[..., Any]) -> Callable[..., Any]:
        def labelled(*args: Any, **kwargs: Any) -> Generator[Any, Any, Any]:
            generator = function(*args, **kwargs)
            body = _Body(self._added)
            step, argument = generator.send, None
            while True:
                body.enter()
                try:
                    item = step(argument)
                except StopIteration as stop:
                    return stop.value
                finally:
                    body.leave()
                    step = argument = None  # an exception must not refer to itself
                try:
                    step, argument = generator.send, (yield item)
                except BaseException as error:  # also GeneratorExit: the body handles it under its labels
                    step, argument = generator.throw, error

        return labelled

    def _decorated_async_generator(self, function: Callable[..., Any]) -> Callable[..., Any]:
        async def labelled(*args: Any, **kwargs: Any) -> AsyncGenerator[Any, Any]:
            generator = function(*args, **kwargs)
            body = _Body(self._added)
            step, argument = generator.asend, None
            while True:
                body.enter()
                try:
                    item = await step(argument)
                except StopAsyncIteration:
                    return
                finally:
                    body.leave()
                    step = argument = None
                try:
                    step, argument = generator.asend, (yield item)
                except BaseException as error:
                    step, argument = generator.athrow, error

        return labelled


class _Body:
    """The body of a decorated generator: its labels, and the blocks that it is suspended in."""

    def __init__(self, added: dict[str, str]) -> None:
        self._owner = Labels(added)
        self._blocks: list[_Block] = []
        self._outer: _Block | None = None

    def enter(self) -> None:
        """Put the labels in force before a step, inside those of the code that iterates."""
        self._outer = _innermost.get()
        innermost = _Block(self._owner._added, self._owner, _current())  # noqa: SLF001
        for block in self._blocks:
            innermost = block.inside(innermost)
        _innermost.set(innermost)

    def leave(self) -> None:
        """Take them back after the step, unless it ends in another context than it began."""
        blocks: list[_Block] = []
        block: _Block | None = _innermost.get()
        while block is not None and block.owner is not self._owner:
            blocks.insert(0, block)
            block = block.outer
        if block is not None:
            self._blocks = blocks
            _innermost.set(self._outer)


def labels(**values: object) -> Labels:
    """Label the LLM calls made in a block or by a function.

    Inner labels override outer ones. An asyncio task inherits the labels in force where it is created. A
    thread inherits labels only if it runs in a copied context (`contextvars.copy_context().run`), as with
    `asyncio.to_thread`.

    In a generator, labels are in force while its body runs, not in the code that iterates over it. Prefer to
    decorate it: a task or thread that this code starts while the generator is suspended in a `with` block
    still inherits the labels. In a `contextlib.contextmanager`, use a block: it includes the caller's.

    Args:
        values: label values by name, converted to strings of at most 256 bytes in UTF-8, with `?` for control
            characters; None keeps the outer value.

    Returns:
        A context manager that is also a decorator.

    Example:
        >>> with labels(agent="planner", phase="plan"):
        ...     dict(current_labels())
        {'agent': 'planner', 'phase': 'plan'}
    """
    return Labels(
        {clean_text(name): clean_text(str(value)) for name, value in values.items() if value is not None}
    )
