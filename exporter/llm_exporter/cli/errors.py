"""How commands report mistakes of their users."""

from __future__ import annotations

from typing import Final

import click
from typing_extensions import override

from ..harmless import one_line

_EXTRAS: Final = frozenset({"openai", "anthropic", "google", "starlette", "uvicorn"})
"""The top-level modules that only the extras install."""


class Usage(click.ClickException):
    """A usage error, printed without a traceback."""

    exit_code = 2

    @override
    def format_message(self) -> str:
        return "\n".join(map(one_line, self.message.split("\n")))


def missing(error: ImportError, extra: str) -> click.ClickException:
    """Return the error for a package that only an extra installs; raise any other import error."""
    if (error.name or "").partition(".")[0] not in _EXTRAS:
        raise error
    return click.ClickException(f"{error.name} is not installed: pip install '{extra}'")
