"""The only module that imports `genai-prices`, including the parts that the library does not export.

Importing the library takes 0.1 s to 0.2 s, so import this module inside functions, under
`llm_exporter.forking.late_import`.
"""

from __future__ import annotations

import json
from base64 import b64encode
from collections.abc import Iterable, Mapping
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from typing import Final, NamedTuple
from urllib.error import HTTPError
from urllib.request import Request

import genai_prices.data
from genai_prices import data_snapshot
from genai_prices.data_units import unit_data
from genai_prices.types import ModelInfo, ModelPrice, TieredPrices, _providers_from_raw
from genai_prices.units import UnitDef, UnitRegistry
from genai_prices.update_prices import DEFAULT_UPDATE_URL

from ..http_url import parse_http_url, without_credentials
from ..no_redirects import opener
from .rates import FEE_TYPES, UNITS, Rate, Rates

_REGISTRY: Final = UnitRegistry(unit_data)
_COUNTED: Final = tuple(
    _REGISTRY.units[unit] for unit in (*UNITS.values(), *FEE_TYPES) if unit in _REGISTRY.units
)
_TIMEOUT_SECONDS: Final = 10.0
_INSTALLED_AT: Final = Path(genai_prices.data.__file__ or "").stat().st_mtime


class TableError(Exception):
    """A price table could not be fetched."""


def find_provider(url: str) -> str | None:
    """Return the id of the provider whose API has this URL, or None."""
    try:
        return data_snapshot.get_snapshot().find_provider(None, None, url).id
    except LookupError:
        return None


def has_provider(provider: str) -> bool:
    """Return whether the price table has a provider with this id."""
    return any(known.id == provider for known in data_snapshot.get_snapshot().providers)


class Published(NamedTuple):
    """The published rates of a model."""

    provider: str
    """The id of the provider in whose list the model was found."""
    name: str
    """The name under which it was found."""
    standard: Rates
    """The rates without any price variant."""
    rates: Rates
    """The rates with the price variants that `variants` names."""
    variants: frozenset[str]
    """The keys of the requested price variants that the model has."""


def find_rates(
    names: Iterable[tuple[str, str]], when: datetime, variant: Mapping[str, str]
) -> Published | None:
    """Return the published rates of the first known model; None if none is known.

    Args:
        names: pairs of a provider id and a model name to look up, in order; the provider "" finds a model by
            its name alone.
        when: when the call was made.
        variant: selects price variants, by `service_tier`, `speed` or `processing`.
    """
    snapshot = data_snapshot.get_snapshot()
    for provider, name in names:
        try:
            found, model = snapshot.find_provider_model(name, None, provider or None, None)
        except LookupError:
            continue
        having = {key: value for key, value in variant.items() if _has_variant(model, key, value, when)}
        standard = _rates(model.get_prices(when))
        rates = _rates(model.get_prices(when, having)) if having else standard
        return Published(found.id, name, standard, rates, frozenset(having))
    return None


def _has_variant(model: ModelInfo, key: str, value: str, when: datetime) -> bool:
    return any(
        each.when == {key: value} and (each.constraint is None or each.constraint.active(when))
        for each in model.price_variants or ()
    )


def provider_of(model: str) -> str:
    """Return the id of the provider whose model this is, by its name; "" if none is known."""
    try:
        return data_snapshot.get_snapshot().find_provider_model(model, None, None, None)[0].id
    except LookupError:
        return ""


def table_timestamp() -> float:
    """Return when the current price table was fetched or installed, as a Unix timestamp in seconds."""
    snapshot = data_snapshot.get_snapshot()
    return snapshot.timestamp.timestamp() if snapshot.from_auto_update else _INSTALLED_AT


def fetch_table(url: str) -> None:
    """Fetch a newer price table, and use it from now on.

    Args:
        url: the table's URL; "" for the one that genai-prices publishes.

    Raises:
        TableError: It could not be fetched. The text contains no part of the URL, which may have a password.
    """
    # The HTTP client of genai-prices shows the whole URL in its log and its errors.
    credentials = parse_http_url(url).credentials if url else ""
    headers = {"Authorization": f"Basic {b64encode(credentials.encode()).decode()}"} if credentials else {}
    try:
        request = Request(without_credentials(url or DEFAULT_UPDATE_URL), headers=headers)  # noqa: S310
        with opener.open(request, timeout=_TIMEOUT_SECONDS) as response:
            providers = _providers_from_raw(json.load(response))
    except HTTPError as error:
        error.close()
        raise TableError(f"HTTP {error.code}") from None
    except OSError as error:
        raise TableError(str(getattr(error, "reason", error))) from None
    except Exception:
        raise TableError("the response is not a price table") from None
    data_snapshot.set_custom_snapshot(data_snapshot.DataSnapshot(providers, from_auto_update=True))


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
            rates[counted.usage_key] = _rate(price, unit)
    return rates


def _contains(unit: UnitDef, part: UnitDef) -> bool:
    return unit.dimensions.items() <= part.dimensions.items()


def _rate(price: Decimal | TieredPrices, unit: UnitDef) -> Rate:
    if isinstance(price, TieredPrices):
        tiers = tuple((tier.start, tier.price / unit.per) for tier in price.tiers)
        return Rate(price.base / unit.per, tiers, unit.usage_key)
    return Rate(price / unit.per, (), unit.usage_key)
