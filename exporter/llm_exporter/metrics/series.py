"""Families of counters, gauges and histograms that one thread feeds while another reads them.

Those of `prometheus_client` lock at every step, and make several objects for each line that is scraped. Here
a number is read as it stands: in Python it is the old one or the new one.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import accumulate
from math import inf
from typing import Final, Literal

from prometheus_client.metrics_core import Metric
from prometheus_client.utils import floatToGoString

MetricType = Literal["counter", "gauge", "histogram"]
Sample = tuple[str, str, float]
"""What follows the family's name, the `le` of a bucket or nothing, and the value."""


class Value:
    """One series of a counter or gauge.

    Args:
        labels: its labels as they are rendered.
    """

    __slots__ = ("labels", "value")

    def __init__(self, labels: str) -> None:
        self.labels: Final = labels
        self.value = 0.0

    def inc(self, more: float = 1) -> None:
        """Add to it.

        Raises:
            ValueError: for what would spoil a counter for good: less than nothing, infinity, no number.
        """
        if not 0 <= more < inf:
            raise ValueError(f"a counter cannot rise by {more}")
        self.value += more

    def dec(self) -> None:
        """Take one off a gauge."""
        self.value -= 1

    def set(self, value: float) -> None:
        """Set a gauge."""
        self.value = float(value)

    def samples(self) -> Iterator[Sample]:
        """Yield its one sample."""
        yield "", "", self.value

    def restore(self, sample: Sample) -> None:
        """Add a sample from before a restart."""
        self.value += sample[2]


class Distribution:
    """One series of a histogram.

    Args:
        labels: its labels as they are rendered.
        bounds: the upper bounds of its buckets by their `le`, ascending, infinity last.
    """

    __slots__ = ("_before", "_bounds", "_counts", "_uppers", "labels", "sum")

    def __init__(self, labels: str, bounds: dict[str, float]) -> None:
        self.labels: Final = labels
        self._bounds = bounds
        self._uppers = list(bounds.values())
        self._counts = [0] * len(bounds)
        self._before = [0] * len(bounds)
        """What each bucket and those below it came to before a restart."""
        self.sum = 0.0

    def observe(self, value: float) -> None:
        """Count a value.

        Raises:
            ValueError: for what would spoil the sum for good: less than nothing, infinity, no number.
        """
        if not 0 <= value < inf:
            raise ValueError(f"{value} cannot be observed")
        self._counts[bisect_left(self._uppers, value)] += 1
        self.sum += value

    def cumulated(self) -> list[int]:
        """Return the count of each bucket and those below it."""
        return [before + count for before, count in zip(self._before, accumulate(self._counts), strict=True)]

    def samples(self) -> Iterator[Sample]:
        """Yield its buckets, their total and the sum."""
        counts = self.cumulated()
        for bound, count in zip(self._bounds, counts, strict=True):
            yield "_bucket", bound, count
        yield "_count", "", counts[-1]
        yield "_sum", "", self.sum

    def restore(self, sample: Sample) -> None:
        """Add a sample from before a restart; a bucket that is no more is left out."""
        suffix, bound, value = sample
        if suffix == "_sum":
            self.sum += value
        elif bound in self._bounds:
            self._before[list(self._bounds).index(bound)] += int(value)


class Family:
    """The series of one name.

    Args:
        name: as it is scraped.
        type_: of the metric.
        help_: what it is.
        labels: the names of its labels.
        buckets: the upper bounds of a histogram's, but for infinity.
    """

    def __init__(
        self,
        name: str,
        type_: MetricType,
        help_: str,
        labels: Sequence[str] = (),
        buckets: Sequence[float] = (),
    ) -> None:
        self.name: Final = name
        self.type: Final = type_
        self.help: Final = help_
        self.labels: Final = tuple(labels)
        self.bounds: Final = {number(bound): bound for bound in (*buckets, inf)}
        """The upper bounds of all buckets by their `le`."""
        self.series: dict[tuple[str, ...], Value | Distribution] = {}
        """By the values of the labels."""

    def at_0(self, labels: str) -> Value | Distribution:
        """Return a series of this kind at 0, which is not in the family, for labels as they are rendered."""
        return Distribution(labels, self.bounds) if self.type == "histogram" else Value(labels)

    def one(self, values: tuple[str, ...]) -> Value | Distribution:
        """Return the series with these values of the labels."""
        known = self.series.get(values)
        if known is None:
            labels = as_written(zip(self.labels, values, strict=True))
            known = self.series.setdefault(values, self.at_0(labels))
        return known

    def metric(self) -> Metric:
        """Return the family as `prometheus_client` has it."""
        metric = Metric(self.name.removesuffix("_total"), self.help, self.type)
        for values, one in list(self.series.items()):
            labels = dict(zip(self.labels, values, strict=True))
            for suffix, bound, value in one.samples():
                of_bucket = {**labels, "le": bound} if bound else labels
                metric.add_sample(self.name + suffix, of_bucket, float(value))
        return metric


class LooseFamily(Family):
    """Gauges of one name, each with labels of its own, which are all set together."""

    def show(self, gauges: Iterable[tuple[Mapping[str, str], float]]) -> None:
        """Show these gauges, by their labels, and no other ones."""
        series: dict[tuple[str, ...], Value | Distribution] = {}
        for labels, value in gauges:
            pairs = sorted(labels.items())
            one = series[tuple(text for pair in pairs for text in pair)] = Value(as_written(pairs))
            one.set(value)
        self.series = series

    def metric(self) -> Metric:
        """See `Family.metric`."""
        metric = Metric(self.name, self.help, self.type)
        for texts, one in self.series.items():
            labels = dict(zip(texts[::2], texts[1::2], strict=True))
            for _, _, value in one.samples():
                metric.add_sample(self.name, labels, value)
        return metric


def as_written(labels: Iterable[tuple[str, str]]) -> str:
    """Return labels as both formats write them, in the order of their names."""
    return ",".join(f'{name}="{escaped(value)}"' for name, value in sorted(labels))


def number(value: float) -> str:
    """Return any number as both formats write it."""
    text: str = floatToGoString(value)  # type: ignore[no-untyped-call]
    return text


def escaped(value: str) -> str:
    """Return the value of a label as both formats write it."""
    return value.replace("\\", "\\\\").replace("\n", "\\n").replace('"', '\\"')
