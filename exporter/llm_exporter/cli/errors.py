"""How commands report a user's mistake."""

from __future__ import annotations

from typing import Final

import click

_EXTRAS: Final = frozenset({"openai", "anthropic", "google", "starlette", "uvicorn"})
"""What only the extras bring, by top-level module."""


class Usage(click.ClickException):
    """A mistake in what was asked for, told without a traceback."""

    exit_code = 2


def missing(error: ImportError, extra: str) -> click.ClickException:
    """Return the error for a package that only an extra installs; raise any other import error."""
    if (error.name or "").partition(".")[0] not in _EXTRAS:
        raise error
    return click.ClickException(f"{error.name} is not installed: pip install '{extra}'")
