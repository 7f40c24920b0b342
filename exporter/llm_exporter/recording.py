"""What is configured, calls in by hand, and calls out to callbacks."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable, Mapping
from os import PathLike
from typing import Any, TypeVar, cast, get_args, overload

from . import exporter as exporters
from .call import Call, ErrorKind, TokenType
from .config import ConfigError
from .labels import current_labels
from .loading import load
from .wire.reading import MAX_COUNT

T = TypeVar("T")


def record(
    *,
    provider: str,
    model: str,
    tokens: Mapping[TokenType, int],
    operation: str = "chat",
    duration: float = 0.0,
    error: ErrorKind | None = None,
) -> Call:
    """Record a call that was metered elsewhere, of any provider, under the labels in force here.

    Args:
        provider: the genai-prices provider id; any other name is counted and has no price.
        model: the model that answered.
        tokens: tokens by disjoint type, as in `llm_exporter.call.TokenType`.
        operation: what was asked for, in the terms of OpenTelemetry's `gen_ai.operation.name`.
        duration: seconds from the request to the last byte.
        error: why the call failed, if it did.

    Returns:
        The call; its cost is set by the time it reaches the sinks.

    Raises:
        ValueError: for a token type, count or duration that cannot be.
    """
    for kind, number in tokens.items():
        if kind not in get_args(TokenType):
            raise ValueError(f"tokens: {kind!r} is not one of {', '.join(get_args(TokenType))}")
        if not isinstance(number, int) or isinstance(number, bool) or not 0 <= number <= MAX_COUNT:
            raise ValueError(f"tokens: {kind} is {number!r}, not a count")
    if not 0 <= duration < math.inf:
        raise ValueError(f"duration is {duration!r}, not a number of seconds")
    if error is not None and error not in get_args(ErrorKind):
        raise ValueError(f"error: {error!r} is not one of {', '.join(get_args(ErrorKind))}")
    call = Call(
        provider=provider,
        model=model,
        requested_model=model,
        operation=operation,
        labels=dict(current_labels()),
        tokens=cast("dict[TokenType, int]", {kind: number for kind, number in tokens.items() if number}),
        duration=duration,
        error=error,
    )
    exporters.default.record(call)
    return call


def configure(path: str | PathLike[str] | None = None) -> None:
    """Use a configuration file from now on.

    Args:
        path: a YAML file; None for the one that `LLM_EXPORTER_CONFIG` names, if it names one.

    Raises:
        llm_exporter.ConfigError: when it cannot be used, with every mistake in it by line and key.
    """
    if path := path or os.environ.get("LLM_EXPORTER_CONFIG"):
        try:
            exporters.default.configure(load(path))
        except ConfigError:
            exporters.default.metrics.reloaded(None)
            raise
        exporters.default.metrics.reloaded(time.time())


@overload
def subscribe(callback: Callable[[Call], object]) -> None: ...
@overload
def subscribe(callback: Callable[[T], object], to: type[T]) -> None: ...
def subscribe(callback: Callable[[Any], object], to: type[Any] = Call) -> None:
    """Call back with every finished `Call`, or with every `ThresholdCrossed` or `BudgetReached`.

    Callbacks run one at a time on a thread of the exporter's, so a slow one delays no LLM call; what
    one raises is logged and counted in `llm_exporter_errors_total`.
    """
    exporters.default.subscribe(callback, to)


def unsubscribe(callback: Callable[[Any], object]) -> None:
    """Stop calling back; a callback that never subscribed is no error."""
    exporters.default.unsubscribe(callback)
