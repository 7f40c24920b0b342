"""`guarded` runs a function whose errors are reported instead of raised."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

R = TypeVar("R")
Report = Callable[[str, BaseException], object]


def guarded(
    where: str,
    function: Callable[..., R],
    *args: object,
    report: Report,
    allow: type[Exception] | tuple[()] = (),
    catch: type[BaseException] = Exception,
) -> R | None:
    """Call a function; report an exception instead of raising it.

    Args:
        where: the part of llm-exporter that runs, for example `tap` or `wire`.
        function: the function to call with `args`.
        args: its arguments.
        report: called with `where` and the exception.
        allow: an exception that the caller is meant to get, such as `BudgetExceeded`.
        catch: what counts as a failure. On a thread of ours it is `BaseException`: a subscriber that raises
            `SystemExit` or `CancelledError` there must not end the thread. On the caller's thread these are
            the caller's, such as the `KeyboardInterrupt` of a signal that arrives while our code runs.

    Returns:
        The result, or None if the function failed.
    """
    try:
        return function(*args)
    except allow:
        raise
    except catch as error:
        report(where, error)
        return None
