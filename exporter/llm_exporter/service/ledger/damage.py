"""Report what a store contains but no ledger has written, and what cannot be read for another reason."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from ...log import log

_MAX_KNOWN: Final = 10_000


class Damage:
    """Logs and reports each damaged part of a ledger once.

    Args:
        name: The name of the ledger, for the log.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._report: Callable[[], object] = int
        self._known: set[str] = set()

    def report_to(self, report: Callable[[], object]) -> None:
        """Call a function for each damaged part that is found from now on."""
        self._report = report

    def __call__(self, part: str, reason: object) -> None:
        """Log and report that a part, such as `call 7` or the name of a key, was skipped."""
        if part in self._known:
            return
        if len(self._known) < _MAX_KNOWN:
            self._known.add(part)
        log.error("llm-exporter: %s: skipped %s, which is damaged: %s", self._name, part, reason)
        self._report()
