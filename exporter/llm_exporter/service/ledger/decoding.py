"""Decode stored calls, whatever the store contains."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final

import msgspec

from ...bounds import mistake
from ...call import Call
from .base import Logged
from .damage import Damage

_decode: Final = msgspec.json.Decoder(Call).decode


class CallDecoder:
    """Decodes stored calls, and skips those that are damaged or out of bounds.

    Args:
        damage: Is told of each of them.
    """

    def __init__(self, damage: Damage) -> None:
        self._damage = damage

    def __call__(self, rows: Iterable[tuple[int, str | bytes]]) -> Iterator[Logged]:
        """Yield the calls of some positions, in the same order."""
        for position, stored in rows:
            try:
                call = _decode(stored)
                reason: object = mistake(call)
            except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
                reason = error
            if reason:
                self._damage(f"call {position}", reason)
            else:
                yield Logged(position, call)
