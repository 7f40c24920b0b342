"""Renders families in the Prometheus text format 0.0.4 and in OpenMetrics 1.0.

https://prometheus.io/docs/instrumenting/exposition_formats/ and
https://prometheus.io/docs/specs/om/open_metrics_spec/.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any, Final, TypeVar

from .families import Family, HistogramFamily
from .series import Exemplar, Histogram, number_text
from .zero_first import ZeroFirst

_SERIES_PER_PIECE: Final = 500
"""Other threads can run between two pieces."""

T = TypeVar("T")


def rendered(
    families: Iterable[Family[Any]], zero_first: ZeroFirst | None, *, openmetrics: bool
) -> Iterator[bytes]:
    """Yield the text of families piece by piece.

    Args:
        families: the families to render.
        zero_first: decides which series are shown at 0; None if no Prometheus asks.
        openmetrics: whether to use OpenMetrics instead of the Prometheus text format.
    """
    for family in families:
        yield _header(family, openmetrics=openmetrics).encode()
        for lines in in_pieces(family, zero_first, _renderer(family, exemplars=openmetrics)):
            yield "".join(lines).encode()
    if openmetrics:
        yield b"# EOF\n"


def in_pieces(
    family: Family[Any], zero_first: ZeroFirst | None, render: Callable[[tuple[str, ...], Any], T]
) -> Iterator[list[T]]:
    """Yield the series of a family piece by piece.

    Args:
        family: the family to render.
        zero_first: decides which series are shown at 0; None if no Prometheus asks.
        render: renders a series, given its key in the family and itself.
    """
    series = list(family.series.items())
    for first in range(0, len(series), _SERIES_PER_PIECE):
        piece = series[first : first + _SERIES_PER_PIECE]
        rendered_piece = [render(values, one) for values, one in piece]
        # This check comes after the values were read: a series added meanwhile is held too.
        if zero_first is not None and family.type != "gauge" and zero_first.any_held():
            for index, (values, one) in enumerate(piece):
                if zero_first.is_held((family.name, *values)):
                    rendered_piece[index] = render(values, family.zero(one))
        yield rendered_piece


def _header(family: Family[Any], *, openmetrics: bool) -> str:
    name = family.name.removesuffix("_total") if openmetrics else family.name
    help_ = family.help.replace("\\", "\\\\").replace("\n", "\\n")
    if openmetrics:
        help_ = help_.replace('"', '\\"')
    return f"# HELP {name} {help_}\n# TYPE {name} {family.type}\n"


def _renderer(family: Family[Any], *, exemplars: bool) -> Callable[[tuple[str, ...], Any], str]:
    """Return a function that renders one series; the constant parts are built only once."""
    name = family.name
    if isinstance(family, HistogramFamily):
        return _histogram_renderer(family, exemplars=exemplars)
    if not family.labels:
        return lambda _, one: f"{name} {number_text(one.value)}\n"
    if family.type == "gauge":
        return lambda _, one: f"{name}{{{one.labels}}} {number_text(one.value)}\n"
    # A counter is always finite, so the faster `repr` is enough.
    if exemplars:
        return lambda _, one: f"{name}{{{one.labels}}} {one.value!r}{_exemplar(one.exemplar)}\n"
    return lambda _, one: f"{name}{{{one.labels}}} {one.value!r}\n"


def _exemplar(exemplar: Exemplar | None) -> str:
    """Return what OpenMetrics writes after a value. A trace id needs no escapes."""
    if exemplar is None:
        return ""
    return f' # {{trace_id="{exemplar.trace_id}"}} {exemplar.value!r} {exemplar.time:.3f}'


def _histogram_renderer(
    family: HistogramFamily, *, exemplars: bool
) -> Callable[[tuple[str, ...], Histogram], str]:
    name = family.name
    comma = "," if family.labels else ""
    opening, closing = ("{", "}") if family.labels else ("", "")
    bucket_ends = [f'{comma}le="{bound}"}} ' for bound in family.bounds]

    def text(_: tuple[str, ...], one: Histogram) -> str:
        labels = one.labels
        start = f"{name}_bucket{{{labels}"
        counts = one.cumulative_counts()
        lines = [f"{start}{end}{count}\n" for end, count in zip(bucket_ends, counts, strict=True)]
        if exemplars:
            for index, exemplar in tuple(one.exemplars.items()):
                lines[index] = f"{lines[index][:-1]}{_exemplar(exemplar)}\n"
        buckets = "".join(lines)
        braced = f"{opening}{labels}{closing}"
        return f"{buckets}{name}_count{braced} {counts[-1]}\n{name}_sum{braced} {one.sum!r}\n"

    return text
