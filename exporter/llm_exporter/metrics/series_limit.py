"""The limit on the number of series: beyond it, new label values become `other`."""

from __future__ import annotations

from typing import Final

from ..log import log
from .registry import Registry
from .specs import OTHER

_OPERATIONS: Final = 1.1
_PROVIDERS: Final = 1.2
"""Shares of the limit up to which new models, operations and providers keep their names: they are few unless
they are made up."""
_EVERYTHING: Final = 1.3
"""The share of the limit beyond which each metric has one new series at most: `other` as all labels."""


class SeriesLimit:
    """Decides which labels new series get.

    Labels are the values of the base and declared labels, and the operation.

    Args:
        registry: holds the series.
        max_series: the number of series at which new label values become `other`.
    """

    def __init__(self, registry: Registry, max_series: int) -> None:
        self._registry = registry
        self._known: set[tuple[str, ...]] = set()
        self.configure(max_series)

    def configure(self, max_series: int) -> None:
        """Use another limit from now on."""
        self._max_series = max_series
        self._registry.max_size = max_series * _EVERYTHING
        self._warned = False

    def allow(self, labels: tuple[str, ...]) -> None:
        """Allow series with these labels, whatever the limit."""
        self._known.add(labels)

    def admit(self, labels: tuple[str, ...]) -> tuple[str, ...]:
        """Return the labels to count under: these, or some as `other`."""
        return labels if labels in self._known else self._admit_new(labels)

    def _admit_new(self, labels: tuple[str, ...]) -> tuple[str, ...]:
        size = self._registry.size()
        if size >= self._max_series:
            if not self._warned:
                self._warned = True
                log.warning("llm-exporter: %d series: new label values become %r", self._max_series, OTHER)
            labels = self._shortened(labels, size)
        self._known.add(labels)
        return labels

    def _shortened(self, labels: tuple[str, ...], size: int) -> tuple[str, ...]:
        """Return labels with as many names as the limit lets a new series have."""
        provider, model, *rest, operation = labels
        others = [OTHER] * len(rest)
        for share, shorter in (
            (_OPERATIONS, (provider, model, *others, operation)),
            (_PROVIDERS, (provider, OTHER, *others, OTHER)),
        ):
            if shorter in self._known or size < self._max_series * share:
                return shorter
        return (OTHER,) * len(labels)
