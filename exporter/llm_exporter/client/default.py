"""The pipeline that the public functions and the taps use: made on first use, or handed in."""

from __future__ import annotations

from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING

from ..forking import late_import
from .credentials import authorization
from .service_url import check_url

if TYPE_CHECKING:
    from ..config.model import Config
    from .pipeline import Pipeline

_pipeline: Pipeline | None = None
_config: Config | None = None
_service = ""
_directory: Path | None = None


def pipeline() -> Pipeline:
    """Return this process's pipeline."""
    return _pipeline if _pipeline is not None else _made()


def replace(new: Pipeline | None) -> Pipeline | None:
    """Hand in a pipeline to use from now on, and return the one used so far, if any.

    Args:
        new: the pipeline; None for one that is made on first use, without a configuration.
    """
    global _config, _pipeline  # there is one per process
    old, _pipeline, _config = _pipeline, new, None
    return old


def is_configured() -> bool:
    """Return whether `configure` has loaded a file."""
    return _config is not None


def configure(path: str | PathLike[str]) -> None:
    """Load a configuration file, and use it from now on or as soon as the pipeline exists.

    Raises:
        llm_exporter.ConfigError: if the file cannot be used.
    """
    global _config  # noqa: PLW0603
    with late_import:
        from ..config.loading import load  # noqa: PLC0415  # loads pydantic and a YAML parser

        config = load(path)
        if _pipeline is not None:
            _pipeline.configure(config)
        _config = config


def ship_to(url: str) -> None:
    """Also send every call to the service at a URL, as soon as the pipeline exists.

    Raises:
        llm_exporter.ConfigError: if the URL is not that of a service, or the token for it is not one.
    """
    global _service  # noqa: PLW0603
    authorization(check_url(url))
    with late_import:
        _service = url
        if _pipeline is not None:
            _pipeline.ship_to(url)


def keep_in(directory: Path) -> None:
    """Write every call to files in a directory, as soon as the pipeline exists."""
    global _directory  # noqa: PLW0603
    with late_import:
        _directory = directory
        if _pipeline is not None:
            _pipeline.keep_in(directory)


def _made() -> Pipeline:
    global _pipeline  # noqa: PLW0603
    with late_import:
        if _pipeline is None:
            from .pipeline import Pipeline  # noqa: PLC0415  # a process without LLM calls never needs it

            made = Pipeline()
            if _config is not None:
                made.configure(_config)
            if _service:
                made.ship_to(_service)
            if _directory is not None:
                made.keep_in(_directory)
            _pipeline = made
        return _pipeline
