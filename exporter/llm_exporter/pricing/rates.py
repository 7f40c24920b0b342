"""Rates: USD per token or per use, by genai-prices unit."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from types import MappingProxyType
from typing import Final

from ..call import Call, TokenType

TOOLS: Final = "tools"
"""The cost type of per-use fees."""

UNITS: Final[Mapping[TokenType, str]] = {
    "input": "input_text_tokens",
    "input_audio": "input_audio_tokens",
    "input_image": "input_image_tokens",
    "input_video": "input_video_tokens",
    "cache_read": "cache_text_read_tokens",
    "cache_read_audio": "cache_audio_read_tokens",
    "cache_read_image": "cache_image_read_tokens",
    "cache_read_video": "cache_video_read_tokens",
    "cache_write": "cache_text_write_5m_tokens",
    "cache_write_1h": "cache_text_write_1h_tokens",
    "cache_write_12h": "cache_text_write_12h_tokens",
    "output": "output_text_tokens",
    "reasoning": "output_text_reasoning_tokens",
    "output_audio": "output_audio_tokens",
    "output_image": "output_image_tokens",
    "output_video": "output_video_tokens",
}
"""The most specific genai-prices unit of each token type.

A price table without a price for that unit prices it as the more general unit that contains it.
"""

FEE_TYPES: Final[Mapping[str, str]] = {
    "web_searches": TOOLS,
    "storage_searches": TOOLS,
    "code_executions": TOOLS,
    "requests": TOOLS,
    "input_audio_seconds": "input_audio",
    "input_characters": "input",
}
"""The cost type of each other genai-prices unit that providers bill."""


USAGE: Final = frozenset({*UNITS.values(), "input_audio_seconds", "input_characters"})
"""The units of the prompt and the response. All others are fees for tools and requests."""


@dataclass(frozen=True, slots=True)
class Rate:
    """USD per unit. Long prompts may raise it for the whole request."""

    base: Decimal
    tiers: tuple[tuple[int, Decimal], ...] = ()
    """(prompt tokens above which the tier applies, USD per unit), ascending."""
    origin: str = ""
    """The genai-prices unit that the price table has this rate for; "" if it is not from the table."""
    approximate: bool = False
    """Whether the provider bills by something that its response does not report."""

    def at(self, prompt_tokens: int) -> Decimal:
        """Return the rate for a request with this many prompt tokens."""
        rate = self.base
        for start, price in self.tiers:
            if prompt_tokens > start:
                rate = price
        return rate

    def times(self, factor: Decimal) -> Rate:
        """Return a multiple of this rate."""
        tiers = tuple((start, price * factor) for start, price in self.tiers)
        return replace(self, base=self.base * factor, tiers=tiers)


Rates = Mapping[str, Rate]
"""Rates by genai-prices unit. Units without a price are missing."""


def highest(rates: Sequence[Rate]) -> Rate | None:
    """Return a rate that is at any length of the prompt the highest of some rates; None if there are none."""
    if not rates:
        return None
    starts = sorted({start for rate in rates for start, _ in rate.tiers})
    tiers = tuple((start, max(rate.at(start + 1) for rate in rates)) for start in starts)
    return Rate(max(rate.base for rate in rates), tiers)


class TokenPrices:
    """Rates by token type as fractions, so that a cost is exact and rounded once, without decimals.

    Args:
        rates: the rates by unit.
    """

    __slots__ = ("_by_tier", "_starts")

    def __init__(self, rates: Rates) -> None:
        priced = {kind: rate for kind, unit in UNITS.items() if (rate := rates.get(unit))}
        self._starts = sorted({start for rate in priced.values() for start, _ in rate.tiers})
        prompts = [*self._starts[:1], *(start + 1 for start in self._starts)] or [0]
        """A number of prompt tokens in each tier."""
        self._by_tier = [
            {kind: rate.at(prompt).as_integer_ratio() for kind, rate in priced.items()} for prompt in prompts
        ]

    def of(self, call: Call) -> Mapping[TokenType, tuple[int, int]]:
        """Return the price of a token of each type in USD, as numerator and denominator."""
        if not self._starts:
            return self._by_tier[0]
        return self._by_tier[bisect_left(self._starts, call.input_tokens)]


_GENERAL: Final[Mapping[TokenType, TokenType]] = {
    "input_audio": "input",
    "input_image": "input",
    "input_video": "input",
    "cache_read": "input",
    "cache_read_audio": "cache_read",
    "cache_read_image": "cache_read",
    "cache_read_video": "cache_read",
    "cache_write": "input",
    "cache_write_1h": "cache_write",
    "cache_write_12h": "cache_write",
    "reasoning": "output",
    "output_audio": "output",
    "output_image": "output",
    "output_video": "output",
}
"""The token type whose price applies to a type without a price of its own."""


def configured_rates(
    usd_per_million: Mapping[TokenType, Decimal], rates: Rates = MappingProxyType({})
) -> Rates:
    """Return configured prices as rates.

    Args:
        usd_per_million: USD per million tokens, by token type.
        rates: the published rates of the model. A type that the configuration does not name keeps its
            published rate, unless the price table has none and prices it like a type that is named.

    Returns:
        The rates of the types that the configuration names, and of those that are priced like them.
    """
    configured = {}
    for kind, unit in UNITS.items():
        named: TokenType | None = kind
        while named is not None and named not in usd_per_million:
            named = _GENERAL.get(named)
        if named is None:
            continue
        published = rates.get(unit)
        if named == kind or published is None or published.origin == _origin(rates, named):
            configured[unit] = Rate(usd_per_million[named] / 1_000_000)
    return configured


def _origin(rates: Rates, kind: TokenType) -> str | None:
    rate = rates.get(UNITS[kind])
    return rate.origin if rate else None


def replaced(standard: Rates, rates: Rates, replacements: Rates) -> Rates:
    """Return rates with some standard rates replaced, at the same ratio to the standard ones as before.

    Args:
        standard: the standard rates.
        rates: the rates of a tier or of batches.
        replacements: rates that replace standard ones.
    """
    result = dict(rates)
    for unit, new in replacements.items():
        old, modified = standard.get(unit), rates.get(unit)
        if old is None or modified is None or not old.base or old.base == modified.base:
            result[unit] = new
        else:
            tiers = tuple((start, price * modified.base / old.base) for start, price in new.tiers)
            result[unit] = Rate(new.base * modified.base / old.base, tiers, new.origin)
    return result


def multiplied(rates: Rates, factor: Decimal) -> Rates:
    """Return rates with those of tokens, audio and text multiplied. Fees stay the same."""
    return {unit: rate.times(factor) if unit in USAGE else rate for unit, rate in rates.items()}


def discounted(rates: Rates, discount: Decimal) -> Rates:
    """Return rates reduced by a discount, given as a fraction."""
    return {unit: rate.times(1 - discount) for unit, rate in rates.items()}
