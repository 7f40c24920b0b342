"""Which labels of calls the sums and the dashboards have, beside those that every call has."""

from __future__ import annotations

from typing import Final

from ..config.model import label_name
from .increases import levels

_TAKEN: Final = frozenset(
    {
        *("part", "day", "all", "unit", "ago"),  # of recorded sums and budgets
        *("alertname", "alertstate", "severity", "subject", "dashboard", "runbook"),  # of alerts
        *("datasource", "page", "runbooks"),  # variables of the dashboards
        *("_".join(level[1:]) for of in levels().values() for level in of),  # job_LABEL is the name of a sum
    }
)


def declared_labels(text: str) -> tuple[str, ...]:
    """Return the labels in a list that is separated by commas.

    Raises:
        ValueError: One of them cannot be a label of sums. The message names it.
    """
    names = tuple(filter(None, map(str.strip, text.split(","))))
    for name in names:
        if label_name(name) in _TAKEN:
            raise ValueError(f"{name!r} is a name that our rules or dashboards use")
        if names.count(name) > 1:
            raise ValueError(f"duplicate value {name!r}")
    return names
