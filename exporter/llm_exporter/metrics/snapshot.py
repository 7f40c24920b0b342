"""Saves counters and histograms over a restart."""

from __future__ import annotations

from collections.abc import Iterable
from math import inf
from typing import Final

from .registry import Registry
from .saved_sample import SavedSample
from .series_limit import SeriesLimit
from .specs import CALLS
from .zero_first import SeriesKey

_NATIVE: Final = "_native"
"""The suffix of the sample with the exponential buckets, which `Histogram.add` ignores."""


def save(registry: Registry) -> list[SavedSample]:
    """Return every sample of the counters and histograms."""
    return [
        SavedSample(family.name, sample.name, sample.labels, sample.value)
        for family in registry.families.values()
        if family.type != "gauge"
        for sample in family.metric().samples
    ] + [
        SavedSample(name, name + _NATIVE, labels, float(sum(counts.values())), counts)
        for name, labels, counts in registry.native_buckets()
    ]


def restore(registry: Registry, limit: SeriesLimit, samples: Iterable[SavedSample]) -> None:
    """Add saved samples to the series.

    Args:
        registry: holds the series.
        limit: allows the labels of the saved series, even beyond the limit.
        samples: the saved samples, perhaps of a release or a configuration with other labels.
    """
    native: dict[SeriesKey, dict[int, int]] = {}
    for sample in samples:
        found = registry.find(sample.family, sample.labels)
        if found is None or not 0 <= sample.value < inf:
            continue
        spec, values = found
        if spec is CALLS:  # each call that was counted has a series there
            limit.allow(values)
        suffix = sample.sample.removeprefix(sample.family)
        registry.families[spec.name].add(values).add((suffix, sample.labels.get("le", ""), sample.value))
        if sample.native:
            native[spec.name, *values] = sample.native
    registry.restore_native(native)
