"""Fees per use that genai-prices does not have."""

from __future__ import annotations

import re
from decimal import Decimal
from typing import Final, NamedTuple

from .rates import FEE_TYPES, TOOLS, Rate, Rates


class Fee(NamedTuple):
    """What one use of a unit costs. It replaces the fee of genai-prices, if there is one."""

    provider: str
    """The genai-prices provider id."""
    unit: str
    """The unit, as in `Call.units`."""
    model: str
    """A regular expression for the whole model name, in lower case. The first match of a unit applies."""
    usd: str
    """USD per use."""
    source: str
    """The URL of the provider's page."""
    as_of: str
    """The date on which the page had this price."""


FEES: Final[tuple[Fee, ...]] = ()


def fee_rates(provider: str, model: str) -> Rates:
    """Return our fees for a model, by unit.

    Args:
        provider: the provider id.
        model: the model name, in lower case, without a vendor prefix.
    """
    rates: dict[str, Rate] = {}
    for fee in FEES:
        if fee.provider == provider and re.fullmatch(fee.model, model):
            rates.setdefault(fee.unit, Rate(Decimal(fee.usd)))
    return rates


def cost_type(unit: str) -> str:
    """Return the cost type of a fee for this unit."""
    return FEE_TYPES.get(unit, TOOLS)
