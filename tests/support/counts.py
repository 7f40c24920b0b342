"""The largest number of tokens that a damaged usage object can account for."""

from __future__ import annotations


def sum_of_counts(value: object) -> int:
    """Return the sum of all valid counts in a JSON value."""
    if isinstance(value, dict):
        return sum(map(sum_of_counts, value.values()))
    if isinstance(value, bool) or not isinstance(value, int | float):
        return 0
    return int(value) if 0 < value <= 10**12 else 0
