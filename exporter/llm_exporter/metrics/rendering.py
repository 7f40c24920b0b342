"""Families as text: the Prometheus text format 0.0.4 and OpenMetrics 1.0.

https://prometheus.io/docs/instrumenting/exposition_formats/ and
https://prometheus.io/docs/specs/om/open_metrics_spec/.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any, Final

from .series import Distribution, Family, number
from .zero_first import ZeroFirst

_AT_ONCE: Final = 500
"""Series in a piece: other threads get a turn between two of them."""


def rendered(
    families: Iterable[Family], zero_first: ZeroFirst | None, *, openmetrics: bool
) -> Iterator[bytes]:
    """Yield the text of families piece by piece.

    Args:
        families: what to render.
        zero_first: of the Prometheus that it is for; None for whoever looks.
        openmetrics: which of the two formats.
    """
    for family in families:
        yield _head(family, openmetrics=openmetrics).encode()
        line = _lines_of(family)
        series = list(family.series.items())
        for first in range(0, len(series), _AT_ONCE):
            piece = series[first : first + _AT_ONCE]
            lines = [line(one) for _, one in piece]
            # Asked after the values were read.
            if zero_first is not None and family.type != "gauge" and zero_first.holds_any():
                for index, (values, one) in enumerate(piece):
                    if zero_first.holds((family.name, *values)):
                        lines[index] = line(family.at_0(one.labels))
            yield "".join(lines).encode()
    if openmetrics:
        yield b"# EOF\n"


def _head(family: Family, *, openmetrics: bool) -> str:
    name = family.name.removesuffix("_total") if openmetrics else family.name
    help_ = family.help.replace("\\", "\\\\").replace("\n", "\\n")
    if openmetrics:
        help_ = help_.replace('"', '\\"')
    return f"# HELP {name} {help_}\n# TYPE {name} {family.type}\n"


def _lines_of(family: Family) -> Callable[[Any], str]:
    """Return what renders one series of a family, with all that does not change made once."""
    name = family.name
    if family.type == "histogram":
        return _histogram(family)
    if not family.labels:
        return lambda one: f"{name} {number(one.value)}\n"
    if family.type == "gauge":
        return lambda one: f"{name}{{{one.labels}}} {number(one.value)}\n"
    return lambda one: f"{name}{{{one.labels}}} {one.value!r}\n"  # which is never infinite, nor no number


def _histogram(family: Family) -> Callable[[Distribution], str]:
    name = family.name
    comma = "," if family.labels else ""
    open_, close = ("{", "}") if family.labels else ("", "")
    ends = [f'{comma}le="{bound}"}} ' for bound in family.bounds]

    def lines(one: Distribution) -> str:
        labels = one.labels
        begin = f"{name}_bucket{{{labels}"
        counts = one.cumulated()
        buckets = "".join([f"{begin}{end}{count}\n" for end, count in zip(ends, counts, strict=True)])
        of_all = f"{open_}{labels}{close}"
        return f"{buckets}{name}_count{of_all} {counts[-1]}\n{name}_sum{of_all} {one.sum!r}\n"

    return lines
