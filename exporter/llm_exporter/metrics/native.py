"""The exponential buckets of native histograms.

https://prometheus.io/docs/specs/native_histograms/. Each bucket ends 9% above the one before, so
a quantile is off by at most that much. Only buckets with values exist.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping
from math import frexp
from typing import Final

SCHEMA: Final = 3
"""Each power of two is divided into 2^3 buckets."""
_PER_POWER: Final = 2**SCHEMA
_LOWEST_POWER: Final = -10
_HIGHEST_POWER: Final = 20
ZERO_THRESHOLD: Final = 2.0**_LOWEST_POWER
"""Values up to a thousandth of a second, or of a token per second, are in one bucket: the zero bucket."""
ZERO: Final = _LOWEST_POWER * _PER_POWER
"""The index of the zero bucket, below all others."""
HIGHEST: Final = _HIGHEST_POWER * _PER_POWER
"""The index of the last bucket, which also has all larger values, from 12 days on. There are at most 241."""
_WITHIN_POWER: Final = [0.5 * 2 ** (step / _PER_POWER) for step in range(_PER_POWER)]
"""The upper bounds of the buckets between 0.5 and 1, apart from 1."""


class NativeBuckets:
    """The number of values in each exponential bucket. One thread adds to it while others read it."""

    __slots__ = ("_counts",)

    def __init__(self) -> None:
        self._counts: dict[int, int] = {}

    def observe(self, value: float) -> None:
        """Count a value, which is not negative."""
        index = index_of(value)
        self._counts[index] = self._counts.get(index, 0) + 1

    def counts(self) -> dict[int, int]:
        """Return the number of values by the index of their bucket, as they were at one moment."""
        return self._counts.copy()

    def restore(self, counts: Mapping[int, int], total: int, mean: float) -> None:
        """Continue from saved buckets.

        Prometheus rejects a native histogram unless its buckets add up to its number of values. If the saved
        ones do not, for example because none were kept before the restart, all earlier values count as their
        mean. That changes no rate, to which only later values contribute.

        Args:
            counts: the saved buckets; empty if none were saved.
            total: the number of all values of the histogram.
            mean: the mean of these values.
        """
        is_whole = sum(counts.values()) == total
        if is_whole and all(ZERO <= index <= HIGHEST and number > 0 for index, number in counts.items()):
            self._counts = dict(counts)
        else:
            self._counts = {index_of(mean): total}


def index_of(value: float) -> int:
    """Return the index of the bucket of a value: bucket `i` ends with 2^(i/8), inclusive."""
    if value <= ZERO_THRESHOLD:
        return ZERO
    fraction, power = frexp(value)
    return min(bisect_left(_WITHIN_POWER, fraction) + (power - 1) * _PER_POWER, HIGHEST)
