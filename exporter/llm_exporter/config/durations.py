"""Durations in the format of Prometheus: `20s`, `5m`, `1h30m`, `30d`."""

from __future__ import annotations

import re
from typing import Final

_DURATION: Final = re.compile(r"(?:(\d+)w)?(?:(\d+)d)?(?:(\d+)h)?(?:(\d+)m)?(?:(\d+(?:\.\d+)?)s?)?")
_SECONDS: Final = (7 * 86400, 86400, 3600, 60, 1)


def seconds(text: str) -> float:
    """Return a duration in seconds. A number without a unit is in seconds.

    Raises:
        ValueError: if the text is not a duration, or the duration is zero.
    """
    match = _DURATION.fullmatch(text.strip())
    total = (
        sum(float(part or 0) * unit for part, unit in zip(match.groups(), _SECONDS, strict=True))
        if match
        else 0
    )
    if not total:
        raise ValueError(f"{text!r} is not a duration: write 20s, 2m, 1h30m, 30d, or 45 for seconds")
    return total
