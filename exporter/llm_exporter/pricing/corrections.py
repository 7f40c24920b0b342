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


CORRECTIONS: Final[tuple[Correction, ...]] = ()


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
    if published is not None:
        return published.origin if published.origin in usd_per_million else None
    return next((general for general in _general_units(unit) if general in usd_per_million), None)


def _general_units(unit: str) -> Iterator[str]:
    """Yield the units of the price table that contain this one, the closest first."""
    if unit.startswith("cache_"):
        yield "cache_read_tokens" if "_read_" in unit else "cache_write_tokens"
    yield "output_tokens" if unit.startswith("output_") else "input_tokens"
