"""The limit on the number of series: beyond it, new label values become `other`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from ..log import log
from .specs import OTHER

_MODEL_HEADROOM: Final = 1.1
"""Share of the limit up to which a new model keeps its name: models are few unless names are made up."""


class SeriesLimit:
    """Decides which labels new series get.

    Args:
        size: returns the current number of series.
        max_series: the number of series at which new label values become `other`.
    """

    def __init__(self, size: Callable[[], int], max_series: int) -> None:
        self._size = size
        self._known: set[tuple[str, ...]] = set()
        self.configure(max_series)

    def configure(self, max_series: int) -> None:
        """Use another limit from now on."""
        self._max_series = max_series
        self._warned = False

    def allow(self, base: tuple[str, ...]) -> None:
        """Allow series with these values of the base and declared labels, whatever the limit."""
        self._known.add(base)

    def admit(self, base: tuple[str, ...]) -> tuple[str, ...]:
        """Return the values of the base and declared labels to count under: these, or `other` in place."""
        return base if base in self._known else self._admit_new(base)

    def _admit_new(self, base: tuple[str, ...]) -> tuple[str, ...]:
        size = self._size()
        if size >= self._max_series:
            if not self._warned:
                self._warned = True
                log.warning("llm-exporter: %d series: new label values become %r", self._max_series, OTHER)
            provider, model, *rest = base
            others = (OTHER,) * len(rest)
            if (provider, model, *others) not in self._known and size >= self._max_series * _MODEL_HEADROOM:
                model = OTHER
            base = (provider, model, *others)
        self._known.add(base)
        return base
