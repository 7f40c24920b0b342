"""Price calls by configured prices and the published price tables."""

from __future__ import annotations

import logging
from collections import defaultdict
from datetime import UTC, datetime
from decimal import Decimal
from typing import Final

from ..call import Call, CostSource
from ..config.model import Prices
from ..forking import late_import
from .corrections import corrected
from .fees import cost_type, fee_rates
from .rates import TOOLS, UNITS, Rates, configured_rates, discounted

log = logging.getLogger("llm_exporter")

_ZERO: Final = Decimal(0)
_MAX_CACHED: Final = 10_000
"""The largest number of models to remember: model names come from outside."""


class PriceList:
    """Prices calls. Caches the rates of each model.

    Args:
        config: price overrides, discounts, and the price of unknown models.
    """

    def __init__(self, config: Prices | None = None) -> None:
        config = config or Prices()
        self._overrides = {
            (override.provider, override.model): configured_rates(override.usd_per_million_tokens)
            for override in config.overrides
        }
        self._discounts = dict(config.discounts)
        self._fallback = configured_rates(config.fallback)
        self._rates: dict[tuple[object, ...], tuple[int, Rates]] = {}
        self._warned: set[tuple[str, str]] = set()

    def price(self, call: Call) -> None:
        """Set `cost`, `cost_source` and `unpriced_tokens` of a call, at the price when the call was made.

        The cost of each type is the exact decimal product, rounded once to the nearest float. A cost reported
        in the response takes precedence over the list price, which then only divides it among the types.
        """
        if not call.tokens and not call.units and call.reported_cost is None:
            return
        source, rates = self._rates_for(call)
        _apply_rates(call, rates)
        call.cost_source = source if call.cost else None
        if call.reported_cost is not None:
            _divide(call, call.reported_cost)
        elif call.unpriced_tokens:
            self._warn(call)
            self._apply_fallback(call)

    def estimate(self, call: Call, input_tokens: int, output_tokens: int) -> float:
        """Return the estimated cost of a call in USD, at the standard text rates.

        An unknown model costs the configured fallback, as in `price`.
        """
        rates = self._rates_for(call)[1] or self._fallback
        usd = _ZERO
        if rate := rates.get("input_text_tokens"):
            usd += rate.at(input_tokens) * input_tokens
        if output_tokens and (rate := rates.get("output_text_tokens")):
            usd += rate.at(input_tokens) * output_tokens
        if fee := rates.get("requests"):
            usd += fee.base
        return float(usd)

    def _apply_fallback(self, call: Call) -> None:
        """Price the tokens of an unknown model at the fallback price. They still count as unpriced."""
        if self._fallback and not call.cost:
            unpriced = call.unpriced_tokens
            _apply_rates(call, self._fallback)
            call.unpriced_tokens = unpriced
            call.cost_source = "fallback"

    def _rates_for(self, call: Call) -> tuple[CostSource, Rates]:
        for model in (call.model, call.requested_model) if self._overrides else ():
            if override := self._overrides.get((call.provider, model)):
                return "override", override
        return "list", self._list_rates(call)

    def _list_rates(self, call: Call) -> Rates:
        # Prices change on a whole minute only: at midnight, or when off-peak hours begin or end.
        minute = int(call.started // 60)
        key = call.provider, call.model, call.requested_model, call.service_tier, call.speed, call.batch
        cached = self._rates.get(key)
        if cached is not None and cached[0] == minute:
            return cached[1]
        if len(self._rates) >= _MAX_CACHED:
            self._rates.clear()
        rates = _look_up(call)
        if discount := self._discounts.get(call.provider):
            rates = discounted(rates, discount)
        self._rates[key] = minute, rates
        return rates

    def _warn(self, call: Call) -> None:
        key = call.provider, call.model
        if key not in self._warned and len(self._warned) < _MAX_CACHED:
            self._warned.add(key)
            log.warning(
                "llm-exporter: no price for model %r of provider %r: its tokens count in "
                "llm_unpriced_tokens_total; set its price under prices.overrides",
                call.model,
                call.provider,
            )


def _apply_rates(call: Call, rates: Rates) -> None:
    prompt = call.input_tokens
    call.cost = {}
    call.unpriced_tokens = 0
    for token_type, number in call.tokens.items():
        if rate := rates.get(UNITS[token_type]):
            call.cost[token_type] = float(rate.at(prompt) * number)
        else:
            call.unpriced_tokens += number
    fees: defaultdict[str, Decimal] = defaultdict(Decimal)
    for unit, used in {**call.units, "requests": 1}.items():
        if rate := rates.get(unit):
            fees[cost_type(unit)] += rate.at(prompt) * Decimal(str(used))
    for kind, fee in fees.items():
        call.cost[kind] = call.cost.get(kind, 0.0) + float(fee)


def _divide(call: Call, total: float) -> None:
    """Divide a reported cost among the types in proportion to their list prices, else to their tokens."""
    weights = call.cost if sum(call.cost.values()) > 0 and not call.unpriced_tokens else call.tokens
    whole = sum(weights.values())
    call.cost = (
        {kind: total * weight / whole for kind, weight in weights.items()} if whole else {TOOLS: total}
    )
    call.cost_source = "provider"
    call.unpriced_tokens = 0


def _look_up(call: Call) -> Rates:
    """Return the published rates for a call; empty for an unknown model.

    A deployment may hide the model's name in the request or in the response, so look up both.
    """
    with late_import:
        from . import genai  # noqa: PLC0415  # takes 0.1 s

    models = call.model, call.requested_model
    when = datetime.fromtimestamp(call.started, UTC)
    rates = genai.find_rates(call.provider, models, when, _price_variant(call))
    model = call.model.lower().rpartition("/")[2]
    return {**corrected(call.provider, model, when, rates), **fee_rates(call.provider, model)}


def _price_variant(call: Call) -> dict[str, str]:
    """Return the selectors of a price variant, in genai-prices' terms."""
    variant = {"processing": "batch"} if call.batch else {}
    if call.service_tier:
        variant["service_tier"] = call.service_tier
    if call.speed:
        variant["speed"] = call.speed
    return variant
