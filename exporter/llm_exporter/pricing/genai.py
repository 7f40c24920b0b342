"""The only module that imports `genai-prices`, including the parts that the library does not export.

Importing the library takes 0.1 s to 0.2 s, so import this module inside functions, under
`llm_exporter.forking.late_import`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from typing import Final, Protocol, cast

import genai_prices.data
from genai_prices import UpdatePrices, data_snapshot
from genai_prices.data_units import unit_data
from genai_prices.types import ModelPrice, TieredPrices
from genai_prices.units import UnitDef, UnitRegistry

from .rates import FEE_TYPES, UNITS, Rate, Rates

_REGISTRY: Final = UnitRegistry(unit_data)
_COUNTED: Final = tuple(
    _REGISTRY.units[unit] for unit in (*UNITS.values(), *FEE_TYPES) if unit in _REGISTRY.units
)
_INSTALLED_AT: Final = Path(genai_prices.data.__file__ or "").stat().st_mtime


class Updater(Protocol):
    """A thread that fetches the price table every hour."""

    def stop(self) -> None:
        """Stop fetching."""


def find_provider(url: str) -> str | None:
    """Return the id of the provider whose API has this URL, or None."""
    try:
        return data_snapshot.get_snapshot().find_provider(None, None, url).id
    except LookupError:
        return None


def find_rates(provider: str, models: Iterable[str], when: datetime, variant: Mapping[str, str]) -> Rates:
    """Return the published rates of the first known model; empty if none is known.

    Args:
        provider: the provider id; "" finds a model by its name alone.
        models: names to look up, in order; empty ones are skipped.
        when: when the call was made.
        variant: selects a price variant, such as `service_tier` or `processing`.
    """
    snapshot = data_snapshot.get_snapshot()
    for name in filter(None, models):
        try:
            found, model = snapshot.find_provider_model(name, None, provider or None, None)
        except LookupError:
            continue
        # A reseller bills the list price: service tiers apply only at the model's own provider.
        is_own = any(candidate is model for candidate in found.models)
        return _rates(model.get_prices(when, dict(variant) if is_own else None))
    return {}


def table_timestamp() -> float:
    """Return when the current price table was fetched or installed, as a Unix timestamp in seconds."""
    snapshot = data_snapshot.get_snapshot()
    return snapshot.timestamp.timestamp() if snapshot.from_auto_update else _INSTALLED_AT


def start_updates(url: str) -> Updater:
    """Start fetching newer price tables every hour.

    Args:
        url: the table's URL; "" for the one that genai-prices publishes.
    """
    updater = UpdatePrices(url=url) if url else UpdatePrices()
    updater.start()
    return cast("Updater", updater)


def _rates(prices: ModelPrice) -> Rates:
    """Return the rate of each unit that we count: its own, else that of the closest unit containing it."""
    priced = [
        (unit, price)
        for unit in _REGISTRY.units.values()
        if (price := getattr(prices, unit.price_key)) is not None
    ]
    rates = {}
    for counted in _COUNTED:
        containing = [(unit, price) for unit, price in priced if _contains(unit, counted)]
        if containing:
            unit, price = max(containing, key=lambda each: len(each[0].dimensions))
            rates[counted.usage_key] = _rate(price, unit.per)
    return rates


def _contains(unit: UnitDef, part: UnitDef) -> bool:
    return unit.dimensions.items() <= part.dimensions.items()


def _rate(price: Decimal | TieredPrices, per: int) -> Rate:
    if isinstance(price, TieredPrices):
        return Rate(price.base / per, tuple((tier.start, tier.price / per) for tier in price.tiers))
    return Rate(price / per)
