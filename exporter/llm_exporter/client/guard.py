"""Keeps errors in our code away from the user's calls: they are reported, not raised."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TypeVar

from .default import pipeline

log = logging.getLogger("llm_exporter")

R = TypeVar("R")
Report = Callable[[str, Exception], object]


def report_error(where: str, error: Exception) -> None:
    """Log an error of our own code and count it in `llm_exporter_errors_total`. Never raises.

    Args:
        where: the part of llm-exporter that failed, for example `tap` or `wire`.
        error: the exception.
    """
    try:
        pipeline().error(where, error)
    except Exception:
        log.exception("llm-exporter failed in %s, and could not count that: %r", where, error)


def guarded(
    where: str,
    function: Callable[..., R],
    *args: object,
    allow: type[Exception] | tuple[()] = (),
    report: Report = report_error,
) -> R | None:
    """Call one of our functions; report an exception instead of raising it.

    Args:
        where: the part of llm-exporter that runs, for example `tap` or `wire`.
        function: the function to call with `args`.
        args: its arguments.
        allow: an exception that the caller is meant to get, such as `BudgetExceeded`.
        report: called with `where` and the exception.

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
