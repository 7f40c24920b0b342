"""The pipeline that the public functions and the taps use: made on first use, or handed in."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..forking import late_import
from .service_url import check_url

if TYPE_CHECKING:
    from .pipeline import Pipeline

_pipeline: Pipeline | None = None
_service = ""


def pipeline() -> Pipeline:
    """Return this process's pipeline."""
    return _pipeline if _pipeline is not None else _made()


def replace(new: Pipeline | None) -> Pipeline | None:
    """Hand in a pipeline to use from now on, None for a fresh one, and return the one used so far, if any."""
    global _pipeline  # there is one per process
    old, _pipeline = _pipeline, new
    return old


def ship_to(url: str) -> None:
    """Also send every call to the service at a URL, as soon as the pipeline exists.

    Raises:
        llm_exporter.ConfigError: if the URL is not that of a service.
    """
    global _service  # noqa: PLW0603
    check_url(url)
    with late_import:
        _service = url
        if _pipeline is not None:
            _pipeline.ship_to(url)
    if _pipeline is not None:
        _pipeline.wait_for_leases()


def _made() -> Pipeline:
    with late_import:
        if _pipeline is None:
            from .pipeline import Pipeline  # noqa: PLC0415  # a process without LLM calls never needs it

            made = Pipeline()
            if _service:
                made.ship_to(_service)
            replace(made)
    pipeline().wait_for_leases()  # without the lock, which forks and other threads wait for
    return pipeline()
