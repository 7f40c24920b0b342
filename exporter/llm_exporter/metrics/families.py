"""Metric families: all series of one name."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from math import inf
from typing import TYPE_CHECKING, Final, Generic, TypeVar

from typing_extensions import override

from ..bounds import clean_text
from .native import NativeBuckets
from .series import Histogram, MetricType, Scalar, SeriesFactory, labels_text, number_text
from .specs import OTHER
from .zero_first import SeriesKey

if TYPE_CHECKING:
    from prometheus_client import Metric

S = TypeVar("S", Scalar, Histogram)


def ignore(_: SeriesKey) -> None:
    """Do nothing about a new series."""


def never() -> bool:
    """Return that there is room for another series."""
    return False


class Family(ABC, Generic[S]):
    """All series of one metric.

    Args:
        name: the name as it is scraped.
        type_: counter, gauge or histogram.
        help_: the help text.
        labels: the names of the labels.
        factory: creates new series.
        on_new: called before a new series is added.
        is_full: returns whether a new series must have `other` as all labels.
    """

    def __init__(
        self,
        name: str,
        type_: MetricType,
        help_: str,
        labels: Sequence[str] = (),
        *,
        factory: SeriesFactory | None = None,
        on_new: Callable[[SeriesKey], None] = ignore,
        is_full: Callable[[], bool] = never,
    ) -> None:
        self.name: Final = name
        self.type: Final = type_
        self.help: Final = help_
        self.labels: Final = tuple(labels)
        self.series: dict[tuple[str, ...], S] = {}
        """The series by the values of their labels."""
        self._factory = factory or SeriesFactory()
        self._on_new = on_new
        self._is_full = is_full

    @abstractmethod
    def zero(self, like: S) -> S:
        """Return a series at 0 like another one. It is not part of the family."""

    @abstractmethod
    def _new(self, labels: Mapping[str, str]) -> S:
        """Create a series."""

    def at(self, values: tuple[str, ...]) -> S:
        """Return the series with these label values, a new one if there is none yet."""
        series = self.series.get(values)
        return self._bounded(values) if series is None else series

    def _bounded(self, raw_values: tuple[str, ...]) -> S:
        """Return the series of label values that are new, or not clean."""
        values = tuple(map(clean_text, raw_values))
        if values not in self.series and self._is_full():
            values = (OTHER,) * len(values)
        return self.add(values)

    def add(self, values: tuple[str, ...]) -> S:
        """Return the series with these label values, a new one if there is none yet, whatever the limit."""
        series = self.series.get(values)
        if series is None:
            self._on_new((self.name, *values))
            series = self.series.setdefault(values, self._new(dict(zip(self.labels, values, strict=True))))
        return series

    def named(self, values: tuple[str, ...]) -> Iterable[tuple[str, str]]:
        """Return the names and values of the labels of a series, given its key in `series`."""
        return zip(self.labels, values, strict=True)

    def metric(self) -> Metric:
        """Return the family as a `prometheus_client` metric."""
        from prometheus_client import Metric  # noqa: PLC0415  # takes as long as the rest of the metrics

        metric = Metric(self.name.removesuffix("_total"), self.help, self.type)
        for values, series in list(self.series.items()):
            labels = dict(self.named(values))
            for suffix, bound, value in series.samples():
                sample_labels = {**labels, "le": bound} if bound else labels
                metric.add_sample(self.name + suffix, sample_labels, float(value))
        return metric


class ScalarFamily(Family[Scalar]):
    """A family of counters or gauges."""

    @override
    def zero(self, like: Scalar) -> Scalar:
        return Scalar(like.labels, like.started)

    @override
    def _new(self, labels: Mapping[str, str]) -> Scalar:
        return self._factory.scalar(self.name, labels)


class HistogramFamily(Family[Histogram]):
    """A family of histograms.

    Args:
        name: the name as it is scraped.
        help_: the help text.
        labels: the names of the labels.
        buckets: the upper bounds of the buckets, without infinity.
        native: whether to keep exponential buckets, too.
        factory: creates new series.
        on_new: called before a new series is added.
        is_full: returns whether a new series must have `other` as all labels.
    """

    def __init__(
        self,
        name: str,
        help_: str,
        labels: Sequence[str],
        buckets: Sequence[float],
        *,
        native: bool = False,
        factory: SeriesFactory | None = None,
        on_new: Callable[[SeriesKey], None] = ignore,
        is_full: Callable[[], bool] = never,
    ) -> None:
        super().__init__(name, "histogram", help_, labels, factory=factory, on_new=on_new, is_full=is_full)
        self.bounds: Final = {number_text(bound): bound for bound in (*buckets, inf)}
        """The upper bounds of all buckets by their `le` label."""
        self._native: Final = native

    @override
    def zero(self, like: Histogram) -> Histogram:
        return self._with_native(Histogram(like.labels, self.bounds, like.started))

    @override
    def _new(self, labels: Mapping[str, str]) -> Histogram:
        return self._with_native(self._factory.histogram(self.name, labels, self.bounds))

    def _with_native(self, histogram: Histogram) -> Histogram:
        if self._native:
            histogram.native = NativeBuckets()
        return histogram


class VaryingGauges(ScalarFamily):
    """Gauges whose label names differ, such as those of budgets. They are replaced together."""

    def replace(self, gauges: Iterable[tuple[Mapping[str, str], float]]) -> None:
        """Show these gauges, given by their labels, and no others."""
        series: dict[tuple[str, ...], Scalar] = {}
        for labels, value in gauges:
            pairs = sorted((name, clean_text(label)) for name, label in labels.items())
            gauge = series[tuple(text for pair in pairs for text in pair)] = Scalar(labels_text(pairs))
            gauge.set(value)
        self.series = series

    @override
    def named(self, values: tuple[str, ...]) -> Iterable[tuple[str, str]]:
        return zip(values[::2], values[1::2], strict=True)
