"""The form in which counts are saved over a restart."""

from __future__ import annotations

import msgspec


class SavedSample(msgspec.Struct, array_like=True):
    """One sample of a counter or histogram, saved over a restart."""

    family: str
    """The name of its `Spec`."""
    sample: str
    """The family's name, with the suffix of a histogram's sample."""
    labels: dict[str, str]
    """By name: the configuration may declare other labels after the restart."""
    value: float
    native: dict[int, int] = {}
    """The exponential buckets of a histogram, in a sample of their own."""
