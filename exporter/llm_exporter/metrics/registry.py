"""The registry: every metric family, and its series."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from math import inf
from typing import Any, NamedTuple

from ..bounds import clean_text
from ..call import UNATTRIBUTED
from .families import Family, HistogramFamily, ScalarFamily, VaryingGauges, ignore, never
from .series import Histogram, Scalar, SeriesFactory
from .specs import BASE_LABELS, METRICS, Spec
from .zero_first import SeriesKey


class GaugeSample(NamedTuple):
    """The value of a gauge whose labels vary."""

    name: str
    labels: dict[str, str]
    value: float


class Registry:
    """Holds a family for each `Spec`.

    Args:
        declared_labels: the labels of the configuration, which every metric of a call has.
        factory: creates new series.
        on_new: called before a new counter or histogram is added.
        native_histograms: whether histograms have exponential buckets, too.
    """

    def __init__(
        self,
        declared_labels: Sequence[str] = (),
        factory: SeriesFactory | None = None,
        on_new: Callable[[SeriesKey], None] = ignore,
        *,
        native_histograms: bool = False,
    ) -> None:
        self.declared_labels = tuple(declared_labels)
        self._native_histograms = native_histograms
        self._factory = factory or SeriesFactory()
        self._on_new = on_new
        self._scalars: dict[str, ScalarFamily] = {}
        self._histograms: dict[str, HistogramFamily] = {}
        self._varying: dict[str, VaryingGauges] = {}
        self.max_size = inf
        """The number of series, as `size` counts, beyond which a new one has `other` as all labels."""
        self.folded = 0
        """How often a label value became `other` because of that."""
        self._specs = {spec.name: spec for spec in METRICS}
        self.families: dict[str, Family[Any]] = {spec.name: self._add_family(spec) for spec in METRICS}
        """The families by name, in the order of `METRICS`."""

    def _add_family(self, spec: Spec) -> Family[Any]:
        labels = self.label_names(spec)
        if spec.varying_labels:
            varying = self._varying[spec.name] = VaryingGauges(spec.name, spec.type, spec.help, labels)
            return varying
        is_full = never if spec.has_few_series else self._is_full
        if spec.type == "histogram":
            histograms = self._histograms[spec.name] = HistogramFamily(
                spec.name,
                spec.help,
                labels,
                spec.buckets,
                native=self._native_histograms,
                factory=self._factory,
                on_new=self._on_new,
                is_full=is_full,
            )
            return histograms
        on_new = ignore if spec.type == "gauge" else self._on_new
        scalars = self._scalars[spec.name] = ScalarFamily(
            spec.name, spec.type, spec.help, labels, factory=self._factory, on_new=on_new, is_full=is_full
        )
        return scalars

    def _is_full(self) -> bool:
        """Return whether a new series must have `other` as all labels, and count that it does."""
        is_full = self.size() >= self.max_size
        self.folded += is_full
        return is_full

    def label_names(self, spec: Spec) -> tuple[str, ...]:
        """Return the names of a metric's labels, the declared ones included."""
        if not spec.has_call_labels:
            return spec.labels
        base = len(BASE_LABELS)
        return (*BASE_LABELS, *self.declared_labels, *spec.labels[base:])

    def scalars(self, spec: Spec) -> Family[Scalar]:
        """Return the family of a counter or gauge."""
        return self._scalars[spec.name]

    def histograms(self, spec: Spec) -> Family[Histogram]:
        """Return the family of a histogram."""
        return self._histograms[spec.name]

    def native_buckets(self) -> Iterator[tuple[str, dict[str, str], dict[int, int]]]:
        """Yield the name, the labels and the exponential buckets of each histogram that has them."""
        for name, family in self._histograms.items():
            for values, histogram in list(family.series.items()):
                if histogram.native is not None:
                    yield name, dict(family.named(values)), histogram.native.counts()

    def restore_native(self, saved: Mapping[SeriesKey, Mapping[int, int]]) -> None:
        """Continue the exponential buckets of histograms, after everything else was restored."""
        for name, family in self._histograms.items():
            for values, histogram in family.series.items():
                histogram.restore_native(saved.get((name, *values), {}))

    def find(self, family: str, labels: Mapping[str, str]) -> tuple[Spec, tuple[str, ...]] | None:
        """Return the metric of a name and the values of its labels, None if there is no such metric.

        Args:
            family: the name of the metric, perhaps of another release.
            labels: the labels by name, perhaps of another configuration; missing ones are unattributed.
        """
        spec = self._specs.get(family)
        if spec is None:
            return None
        return spec, tuple(clean_text(labels.get(name) or UNATTRIBUTED) for name in self.label_names(spec))

    def size(self) -> int:
        """Return the number of series, without those of varying labels; a histogram counts as one."""
        families: tuple[Mapping[str, Family[Any]], ...] = self._scalars, self._histograms
        return sum(len(family.series) for group in families for family in group.values())

    def forget_starts(self, keys: Iterable[SeriesKey]) -> None:
        """Forget when these series started."""
        for name, *values in keys:
            if name in self.families and (series := self.families[name].series.get(tuple(values))):
                series.started = None

    def replace_varying_gauges(self, samples: Iterable[GaugeSample]) -> None:
        """Show these gauges, whose labels vary, and no others."""
        by_name: defaultdict[str, list[GaugeSample]] = defaultdict(list)
        for sample in samples:
            by_name[sample.name].append(sample)
        for name, family in self._varying.items():
            family.replace((sample.labels, sample.value) for sample in by_name[name])
