"""`guarded` runs a function whose errors are reported instead of raised."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

R = TypeVar("R")
Report = Callable[[str, Exception], object]


def guarded(
    where: str,
    function: Callable[..., R],
    *args: object,
    report: Report,
    allow: type[Exception] | tuple[()] = (),
) -> R | None:
    """Call a function; report an exception instead of raising it.

    Args:
        where: the part of llm-exporter that runs, for example `tap` or `wire`.
        function: the function to call with `args`.
        args: its arguments.
        report: called with `where` and the exception.
        allow: an exception that the caller is meant to get, such as `BudgetExceeded`.

    Returns:
        The result, or None if the function failed.
    """
    try:
        return function(*args)
    except allow:
        raise
    except Exception as error:
        report(where, error)
        return None
