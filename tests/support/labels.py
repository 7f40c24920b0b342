"""The labels in force."""

from __future__ import annotations

from llm_exporter.labels import current_labels


def now() -> dict[str, str]:
    """Return the labels in force here."""
    return dict(current_labels())
