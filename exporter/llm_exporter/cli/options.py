"""Option types that commands share."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import click

from ..config.durations import seconds
from .errors import Usage


def label(text: str) -> tuple[str, str]:
    """Return the name and the value of a label, given as `name=value` or `name:value`.

    Raises:
        Usage: if it is neither.
    """
    found = re.match(r"([^=:]+)[=:](.*)", text, re.DOTALL)
    if found is None:
        raise Usage(f"--label {text!r}: must be name=value")
    return found[1], found[2]


if TYPE_CHECKING:
    _ParamType = click.ParamType[float]
else:
    _ParamType = click.ParamType  # older releases of click have no parameter


class Duration(_ParamType):
    """A duration such as `20s`, `2m` or `1h30m`, or a number of seconds; converted to seconds."""

    name = "duration"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Return seconds, or fail with a usage error if the value is not a positive duration."""
        if isinstance(value, int | float):
            return float(value)
        try:
            return seconds(value)
        except ValueError as error:
            self.fail(str(error), param, ctx)
