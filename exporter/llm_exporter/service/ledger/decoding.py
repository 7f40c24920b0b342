"""Decode stored calls, whatever the store contains."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Final

import msgspec

from ...call import Call
from ...log import log
from .base import Logged

_MAX_KNOWN: Final = 10_000

_decode: Final = msgspec.json.Decoder(Call).decode


class CallDecoder:
    """Decodes stored calls, and skips those that are damaged. Each of them is logged and reported once.

    Args:
        name: The name of the ledger, for the log.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._report: Callable[[], object] = int
        self._known: set[int] = set()

    def report_to(self, report: Callable[[], object]) -> None:
        """Call a function for each damaged call that is found from now on."""
        self._report = report

    def __call__(self, rows: Iterable[tuple[int, str | bytes]]) -> Iterator[Logged]:
        """Yield the calls of some positions, in the same order."""
        for position, stored in rows:
            try:
                call = _decode(stored)
            except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
                self._skip(position, error)
            else:
                yield Logged(position, call)

    def _skip(self, position: int, error: Exception) -> None:
        if position in self._known:
            return
        if len(self._known) < _MAX_KNOWN:
            self._known.add(position)
        log.error("llm-exporter: %s: skipped call %d, which is damaged: %s", self._name, position, error)
        self._report()
