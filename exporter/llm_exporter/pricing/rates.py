"""Rates: USD per token or per use, by genai-prices unit."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Final

from ..call import PROMPT_TYPES, TokenType

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


@dataclass(frozen=True, slots=True)
class Rate:
    """USD per unit. Long prompts may raise it for the whole request."""

    base: Decimal
    tiers: tuple[tuple[int, Decimal], ...] = ()
    """(prompt tokens above which the tier applies, USD per unit), ascending."""

    def at(self, prompt_tokens: int) -> Decimal:
        """Return the rate for a request with this many prompt tokens."""
        rate = self.base
        for start, price in self.tiers:
            if prompt_tokens > start:
                rate = price
        return rate


Rates = Mapping[str, Rate]
"""Rates by genai-prices unit. Units without a price are missing."""


def configured_rates(usd_per_million: Mapping[TokenType, Decimal]) -> Rates:
    """Return configured prices as rates. Missing token types cost the same as `input` or `output`."""
    rates = {}
    for kind, unit in UNITS.items():
        general: TokenType = "input" if kind in PROMPT_TYPES else "output"
        price = usd_per_million.get(kind, usd_per_million.get(general))
        if price is not None:
            rates[unit] = Rate(price / 1_000_000)
    return rates


def discounted(rates: Rates, discount: Decimal) -> Rates:
    """Return rates reduced by a discount, given as a fraction."""
    share = 1 - discount
    return {
        unit: Rate(rate.base * share, tuple((start, price * share) for start, price in rate.tiers))
        for unit, rate in rates.items()
    }
