"""Corrections of published price tables, until genai-prices has the same prices."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from datetime import datetime
from decimal import Decimal
from typing import Final, NamedTuple

from .rates import Rate, Rates


class Correction(NamedTuple):
    """The rates of a model that genai-prices does not know, or knows wrongly."""

    provider: str
    """The genai-prices provider id."""
    model: str
    """A regular expression for the whole model name, in lower case."""
    usd_per_million: Mapping[str, str]
    """USD per million by genai-prices unit, at the standard tier. Other units keep their rates."""
    source: str
    """The URL of the provider's page."""
    as_of: str
    """The date on which the page had these prices."""
    when: Callable[[datetime], bool] = lambda _: True
    """Whether the rates apply to a call that was made at this time, in UTC."""


CORRECTIONS: Final[tuple[Correction, ...]] = ()


def corrected(provider: str, model: str, when: datetime, rates: Rates) -> Rates:
    """Return the rates of a model with our corrections.

    Args:
        provider: the provider id.
        model: the model name, in lower case, without a vendor prefix.
        when: when the call was made.
        rates: the published rates; empty for an unknown model.
    """
    for correction in CORRECTIONS:
        if (
            correction.provider == provider
            and re.fullmatch(correction.model, model)
            and correction.when(when)
        ):
            ours = {unit: Rate(Decimal(usd) / 1_000_000) for unit, usd in correction.usd_per_million.items()}
            rates = {**rates, **ours}
    return rates
