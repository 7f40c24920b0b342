"""Keeps errors in our code away from the user's calls: they are reported, not raised."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from .. import guard
from ..log import log
from .default import pipeline

R = TypeVar("R")


def report_error(where: str, error: BaseException) -> None:
    """Log an error of our own code and count it in `llm_exporter_errors_total`. Never raises.

    Args:
        where: the part of llm-exporter that failed, for example `tap` or `wire`.
        error: the exception.
    """
    try:
        pipeline().error(where, error)
    except Exception:
        log.exception("llm-exporter failed in %s, and could not count that: %s", where, repr(error))


def guarded(
    where: str, function: Callable[..., R], *args: object, allow: type[Exception] | tuple[()] = ()
) -> R | None:
    """As `llm_exporter.guard.guarded`, with errors logged and counted by the default pipeline."""
    return guard.guarded(where, function, *args, report=report_error, allow=allow)
