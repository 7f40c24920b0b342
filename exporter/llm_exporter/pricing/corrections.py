"""Corrections of published price tables, until genai-prices has the same prices."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime
from decimal import Decimal
from typing import Final, NamedTuple

from .rates import UNITS, Rate, Rates


class Correction(NamedTuple):
    """The rates of a model that genai-prices does not know, or knows wrongly."""

    provider: str
    """The genai-prices provider id."""
    model: str
    """A regular expression for the whole model name, in lower case."""
    usd_per_million: Mapping[str, str]
    """USD per million tokens by genai-prices unit, at the standard tier.

    `input_tokens`, `output_tokens`, `cache_read_tokens` and `cache_write_tokens` apply to all units within
    them that have no separate rate. Units that are not named keep their rates.
    """
    source: str
    """The URL of the provider's page."""
    as_of: str
    """The date on which the page had these prices."""
    when: Callable[[datetime], bool] = lambda _: True
    """Whether the rates apply to a call that was made at this time, in UTC."""


_OPENAI: Final = "https://developers.openai.com/api/docs/pricing"
_VERTEX: Final = "https://cloud.google.com/vertex-ai/generative-ai/pricing"

CORRECTIONS: Final[tuple[Correction, ...]] = (
    # The table has only the prices of text. The alias has been the release of December since 2025.
    Correction(
        "openai",
        r"gpt-4o-audio-preview(?:-2024-12-17|-2025-06-03)?",
        {"input_audio_tokens": "40", "output_audio_tokens": "80"},
        "https://platform.openai.com/docs/models/gpt-4o-audio-preview",
        "2026-11-24",
    ),
    Correction(
        "openai",
        r"gpt-4o-audio-preview-2024-10-01",
        {"input_audio_tokens": "100", "output_audio_tokens": "200"},
        "https://platform.openai.com/docs/models/gpt-4o-audio-preview",
        "2025-05-30",
    ),
    Correction(
        "openai",
        r"gpt-4o-mini-audio-preview(?:-2024-12-17)?",
        {"input_audio_tokens": "10", "output_audio_tokens": "20"},
        "https://platform.openai.com/docs/models/gpt-4o-mini-audio-preview",
        "2026-11-24",
    ),
    # The table has no prices of cached tokens for these.
    Correction("openai", r"ft:gpt-4o-2024-.*", {"cache_read_tokens": "1.875"}, _OPENAI, "2026-11-24"),
    Correction("openai", r"ft:gpt-4o-mini-2024-.*", {"cache_read_tokens": "0.15"}, _OPENAI, "2026-11-24"),
    Correction(
        "mistral",
        r"codestral-latest",
        {"cache_read_tokens": "0.03"},
        "https://docs.mistral.ai/models/model-cards/codestral-25-08",
        "2026-11-24",
    ),
    Correction(
        "google",
        r"gemini-2\.5-flash-image(?:-preview)?",
        {"cache_read_tokens": "0.03"},
        "https://ai.google.dev/gemini-api/docs/pricing",
        "2026-11-24",
    ),
    Correction("google", r"gemini-3-pro-image.*", {"cache_read_tokens": "0.20"}, _VERTEX, "2026-11-24"),
    Correction("google", r"gemini-3\.1-flash-image.*", {"cache_read_tokens": "0.05"}, _VERTEX, "2026-11-24"),
    Correction(
        "google", r"gemini-3\.1-flash-lite-image.*", {"cache_read_tokens": "0.025"}, _VERTEX, "2026-11-24"
    ),
    Correction("google", r"gemini-nano-banana-2\.1.*", {"cache_read_tokens": "0.15"}, _VERTEX, "2026-11-24"),
)


def corrected_rates(provider: str, model: str, when: datetime, published: Rates) -> Rates:
    """Return the standard rates that our corrections replace or add.

    Args:
        provider: the provider id.
        model: the canonical model name.
        when: when the call was made.
        published: the published standard rates; empty for an unknown model.
    """
    rates: dict[str, Rate] = {}
    for correction in CORRECTIONS:
        if (
            correction.provider == provider
            and re.fullmatch(correction.model, model)
            and correction.when(when)
        ):
            for unit in UNITS.values():
                if named := _named_unit(correction.usd_per_million, unit, published.get(unit)):
                    usd = Decimal(correction.usd_per_million[named])
                    rates[unit] = Rate(usd / 1_000_000, origin=named)
    return rates


def _named_unit(usd_per_million: Mapping[str, str], unit: str, published: Rate | None) -> str | None:
    """Return the unit under which a correction names a rate for this unit, or None."""
    if unit in usd_per_million:
        return unit
    general_units = list(_general_units(unit))
    if published is not None:
        if published.origin not in general_units:
            return None  # the unit has a separate rate
        general_units = general_units[: general_units.index(published.origin) + 1]
    return next((general for general in general_units if general in usd_per_million), None)


def _general_units(unit: str) -> Iterator[str]:
    """Yield the units of the price table that contain this one, the closest first."""
    if unit.startswith("cache_"):
        yield "cache_read_tokens" if "_read_" in unit else "cache_write_tokens"
    yield "output_tokens" if unit.startswith("output_") else "input_tokens"
