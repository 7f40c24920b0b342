"""`UpperBound`: the most that a call is expected to cost, by its numbers of tokens."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from typing import Final

from ..call import TokenType
from .rates import UNITS, Rates, highest

_ZERO: Final = Decimal(0)


class UpperBound:
    """The most that calls at the same rates are expected to cost.

    Args:
        rates: the rates.
        cache_writes: the cache writes that the prompt may be billed as.
        uses: the unit of each use of a paid tool.
    """

    __slots__ = ("_fees", "_output", "_prompt")

    def __init__(
        self, rates: Rates, cache_writes: Sequence[TokenType] = (), uses: Sequence[str] = ()
    ) -> None:
        units = [UNITS[kind] for kind in ("input", *cache_writes)]
        self._prompt = highest([rates[unit] for unit in units if unit in rates])
        self._output = rates.get("output_text_tokens")
        self._fees = sum((rates[unit].base for unit in ("requests", *uses) if unit in rates), _ZERO)

    def __bool__(self) -> bool:
        """Return whether there is any price."""
        return bool(self._prompt or self._output or self._fees)

    def usd(self, input_tokens: int, output_tokens: int) -> Decimal:
        """Return the most that a call with these tokens is expected to cost; 0 if it has no price."""
        usd = self._fees
        if self._prompt is not None:
            usd += self._prompt.at(input_tokens) * input_tokens
        if output_tokens and self._output is not None:
            usd += self._output.at(input_tokens) * output_tokens
        return usd
