"""Option types that commands share."""

from __future__ import annotations

from typing import Any

import click

from ..config.durations import seconds


class Duration(click.ParamType[float]):
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
