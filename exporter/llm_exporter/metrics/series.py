"""Counters, gauges and histograms that one thread updates while others read them.

The classes of `prometheus_client` take a lock on every update and create several objects for each scraped
line. Here no lock is needed: a thread that reads a Python float sees either the old or the new one.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Iterator, Mapping
from itertools import accumulate
from math import inf, isfinite, isnan
from typing import Final, Literal, NamedTuple

from .native import NativeBuckets

MetricType = Literal["counter", "gauge", "histogram"]
Sample = tuple[str, str, float]
"""The suffix of the family's name, the `le` label of a bucket (else an empty string), and the value."""


class Exemplar(NamedTuple):
    """One of the values behind a series, and where it came from."""

    trace_id: str
    """The id of an OpenTelemetry trace."""
    value: float
    time: float
    """When it was counted, in seconds since the Unix epoch."""


class Scalar:
    """One series of a counter or gauge.

    Args:
        labels: the labels as text, see `labels_text`.
        started: when a counter was 0, in seconds since the Unix epoch; None if unknown.
    """

    __slots__ = ("exemplar", "labels", "started", "value")

    def __init__(self, labels: str, started: float | None = None) -> None:
        self.labels: Final = labels
        self.started = started
        self.value = 0.0
        self.exemplar: Exemplar | None = None
        """The last increase with a trace."""

    def inc(self, amount: float = 1) -> None:
        """Increase the value.

        Raises:
            ValueError: if the amount is negative, infinite or not a number, which would spoil a counter.
        """
        if not 0 <= amount < inf:
            raise ValueError(f"cannot increase a counter by {amount}")
        self.value += amount

    def dec(self) -> None:
        """Decrease a gauge by one."""
        self.value -= 1

    def set(self, value: float) -> None:
        """Set a gauge."""
        self.value = float(value)

    def samples(self) -> Iterator[Sample]:
        """Yield the only sample."""
        yield "", "", self.value

    def add(self, sample: Sample) -> None:
        """Add a sample of the same series, from before a restart or from another process."""
        self.value += sample[2]


class Histogram:
    """One series of a histogram.

    Args:
        labels: the labels as text, see `labels_text`.
        bounds: the upper bounds of the buckets by their `le` label, ascending, infinity last.
        started: when the histogram was empty, in seconds since the Unix epoch; None if unknown.
    """

    __slots__ = ("_added", "_bounds", "_counts", "_uppers", "exemplars", "labels", "native", "started", "sum")

    def __init__(self, labels: str, bounds: dict[str, float], started: float | None = None) -> None:
        self.labels: Final = labels
        self.started = started
        self._bounds = bounds
        self._uppers = list(bounds.values())
        self._counts = [0] * len(bounds)
        self._added = [0] * len(bounds)
        """The cumulative counts that `add` added."""
        self.sum = 0.0
        self.native: NativeBuckets | None = None
        """The same values in exponential buckets, if these are kept."""
        self.exemplars: dict[int, Exemplar] = {}
        """The last value with a trace in each bucket, by its index."""

    def observe(self, value: float) -> None:
        """Count a value.

        Raises:
            ValueError: if the value is negative, infinite or not a number, which would spoil the sum.
        """
        if not 0 <= value < inf:
            raise ValueError(f"cannot observe {value}")
        self._counts[bisect_left(self._uppers, value)] += 1
        self.sum += value
        if self.native is not None:
            self.native.observe(value)

    def illustrate(self, exemplar: Exemplar) -> None:
        """Keep a value that was observed as the exemplar of its bucket."""
        self.exemplars[bisect_left(self._uppers, exemplar.value)] = exemplar

    def cumulative_counts(self) -> list[int]:
        """Return for each bucket the number of values up to its upper bound."""
        return [added + count for added, count in zip(self._added, accumulate(self._counts), strict=True)]

    def samples(self) -> Iterator[Sample]:
        """Yield the buckets, the count and the sum."""
        counts = self.cumulative_counts()
        for bound, count in zip(self._bounds, counts, strict=True):
            yield "_bucket", bound, count
        yield "_count", "", counts[-1]
        yield "_sum", "", self.sum

    def add(self, sample: Sample) -> None:
        """Add a sample of the same series; ignore a bucket that this histogram does not have."""
        suffix, bound, value = sample
        if suffix == "_sum":
            self.sum += value
        elif bound in self._bounds:
            self._added[list(self._bounds).index(bound)] += int(value)

    def restore_native(self, saved: Mapping[int, int]) -> None:
        """Continue the exponential buckets, if they are kept, after everything else was added."""
        if self.native is not None:
            total = self.cumulative_counts()[-1]
            self.native.restore(saved, total, self.sum / max(total, 1))


class SeriesFactory:
    """Creates series whose start is unknown, such as the sum of several series."""

    def scalar(self, family: str, labels: Mapping[str, str]) -> Scalar:
        """Return a new counter or gauge at 0."""
        del family
        return Scalar(labels_text(labels.items()))

    def histogram(self, family: str, labels: Mapping[str, str], bounds: dict[str, float]) -> Histogram:
        """Return a new empty histogram."""
        del family
        return Histogram(labels_text(labels.items()), bounds)


def labels_text(labels: Iterable[tuple[str, str]]) -> str:
    """Return labels as both text formats write them, sorted by name."""
    return ",".join(f'{name}="{_escaped(value)}"' for name, value in sorted(labels))


def number_text(value: float) -> str:
    """Return a number as both text formats write it, which is how Go does."""
    if not isfinite(value):
        return "NaN" if isnan(value) else "+Inf" if value > 0 else "-Inf"
    text = repr(float(value))
    dot = text.find(".")
    if value > 0 and dot > 6:
        mantissa = f"{text[0]}.{text[1:dot]}{text[dot + 1 :]}".rstrip("0.")
        return f"{mantissa}e+{dot - 1:02}"
    return text


def _escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace("\n", "\\n").replace('"', '\\"')
