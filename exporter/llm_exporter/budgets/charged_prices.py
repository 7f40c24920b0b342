"""What calls cost in the service's ledger, which shared budgets are charged."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from ..call import Call, TokenType
from ..config.model import Prices
from ..pricing.prices import PriceList
from ..pricing.tariffs import Terms
from ..pricing.upper_bound import UpperBound


class ChargedPrices:
    """The prices of this process and, for calls that these do not price, those of the service.

    Args:
        own: the prices of this process.
    """

    def __init__(self, own: PriceList) -> None:
        self.own = own
        self.configured: dict[str, Any] = {}
        """The service's configured prices, as JSON."""
        self._service: PriceList | None = None

    def configure(self, prices: dict[str, Any]) -> None:
        """Use the service's configured prices from now on.

        Raises:
            pydantic.ValidationError: if they are no prices.
        """
        if prices != self.configured:
            self._service = PriceList(Prices.model_validate(prices))
            self.configured = prices

    def costs_nothing(self, call: Call) -> bool:
        """As `PriceList.costs_nothing`: a process knows what runs locally."""
        return self.own.costs_nothing(call)

    def upper_bounds(
        self, terms: Terms, started: float, cache_writes: tuple[TokenType, ...], uses: tuple[str, ...]
    ) -> Sequence[UpperBound]:
        """As `PriceList.upper_bounds`."""
        bounds = self.own.upper_bounds(terms, started, cache_writes, uses)
        if self._service is not None and not any(bounds):
            return self._service.upper_bounds(terms, started, cache_writes, uses)
        return bounds

    def charged(self, call: Call) -> Call:
        """Return a call with the cost that it has in the ledger."""
        if call.cost or self._service is None:
            return call
        charged = msgspec.structs.replace(call)
        self._service.price(charged)
        return charged
