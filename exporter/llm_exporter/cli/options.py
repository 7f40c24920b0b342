"""Option types that commands share."""

from __future__ import annotations

from typing import Any

import click

from ..config.durations import seconds


class Duration(click.ParamType[float]):
    """A length of time such as `20s`, `2m`, `1h30m`, or `45` for seconds; converted to seconds."""

    name = "duration"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Return seconds; a text that is no duration, or one of no time at all, is an error of usage."""
        if isinstance(value, int | float):
            return float(value)
        try:
            return seconds(value)
        except ValueError as error:
            self.fail(str(error), param, ctx)
