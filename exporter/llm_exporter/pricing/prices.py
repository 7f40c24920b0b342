"""What a call costs, by the price tables of `genai-prices`."""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from typing import Final

from genai_prices import data_snapshot
from genai_prices.data_units import unit_data
from genai_prices.types import ModelPrice, TieredPrices
from genai_prices.units import UnitDef, UnitRegistry

from ..call import Call, CostSource, TokenType
from ..config.model import Prices

log = logging.getLogger("llm_exporter")

TOOLS: Final = "tools"
"""The cost type of per-use fees."""

_UNITS: Final[Mapping[TokenType, str]] = {
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
    "output": "output_text_tokens",
    "reasoning": "output_text_reasoning_tokens",
    "output_audio": "output_audio_tokens",
    "output_image": "output_image_tokens",
    "output_video": "output_video_tokens",
}
"""The genai-prices unit of each token type, as precise as can be: a price table that does not tell the
finer units apart prices them as the coarser one they belong to."""

_FEES: Final[Mapping[str, str]] = {
    "web_searches": TOOLS,
    "storage_searches": TOOLS,
    "code_executions": TOOLS,
    "requests": TOOLS,
    "input_audio_seconds": "input_audio",
    "input_characters": "input",
}
"""The genai-prices units of what else is billed, and the type that its cost counts as."""

PROMPT_TYPES: Final = frozenset(kind for kind in _UNITS if kind.startswith(("input", "cache")))
"""The token types that make up the prompt, whose length decides the context tier."""

_REGISTRY: Final = UnitRegistry(unit_data)
_COUNTED: Final = tuple(_REGISTRY.units[unit] for unit in (*_UNITS.values(), *_FEES))
_NOTHING: Final = Decimal(0)
_MAX_CACHED: Final = 10_000
"""Models remembered at most: names come from outside."""


@dataclass(frozen=True, slots=True)
class Rate:
    """USD per unit, which may rise for the whole request when its prompt passes a threshold."""

    base: Decimal
    tiers: tuple[tuple[int, Decimal], ...] = ()
    """(prompt tokens above which it holds, USD per unit), ascending."""

    def at(self, prompt_tokens: int) -> Decimal:
        """Return the rate for a request with this many prompt tokens."""
        rate = self.base
        for start, price in self.tiers:
            if prompt_tokens > start:
                rate = price
        return rate


Rates = Mapping[str, Rate]
"""Rates by genai-prices unit; a unit with no price is not in it."""


class PriceList:
    """Prices calls, with everything that does not change from call to call looked up once.

    Args:
        config: overrides of published prices, discounts, and the price of unknown models.
    """

    def __init__(self, config: Prices | None = None) -> None:
        config = config or Prices()
        self._overrides = {
            (override.provider, override.model): _rates_of(override.usd_per_million_tokens)
            for override in config.overrides
        }
        self._share = {provider: 1 - discount for provider, discount in config.discounts.items()}
        self._fallback = _rates_of(config.fallback)
        self._rates: dict[tuple[object, ...], tuple[int, Rates]] = {}
        self._warned: set[tuple[str, str]] = set()

    def price(self, call: Call) -> None:
        """Set `cost`, `cost_source` and `unpriced_tokens` of a call, by the price in force when it was made.

        The cost of each type is the exact decimal product, rounded once to the nearest float. A cost that the
        answer reports wins over the list price, which then only divides it among the types.
        """
        if not call.tokens and not call.units and call.reported_cost is None:
            return
        source, rates = self._rates_for(call)
        self._price_by_rates(call, rates)
        call.cost_source = source if call.cost else None
        if call.reported_cost is not None:
            _divide(call, call.reported_cost)
        elif call.unpriced_tokens:
            self._warn(call)
            self._fall_back(call)

    def estimate(self, call: Call, input_tokens: int, output_tokens: int) -> float:
        """Return about what a call would cost in USD, by the standard rates of text.

        An unknown model costs the configured fallback, as it does when it is priced.
        """
        rates = self._rates_for(call)[1] or self._fallback
        usd = _NOTHING
        if rate := rates.get("input_text_tokens"):
            usd += rate.at(input_tokens) * input_tokens
        if output_tokens and (rate := rates.get("output_text_tokens")):
            usd += rate.at(input_tokens) * output_tokens
        if fee := rates.get("requests"):
            usd += fee.base
        return float(usd)

    def _fall_back(self, call: Call) -> None:
        """Price the tokens of an unknown model as configured; they go on counting as unpriced."""
        if self._fallback and not call.cost:
            unpriced = call.unpriced_tokens
            self._price_by_rates(call, self._fallback)
            call.unpriced_tokens = unpriced
            call.cost_source = "fallback"

    def _price_by_rates(self, call: Call, rates: Rates) -> None:
        prompt = sum(number for kind, number in call.tokens.items() if kind in PROMPT_TYPES)
        call.cost = {}
        call.unpriced_tokens = 0
        for token_type, number in call.tokens.items():
            if rate := rates.get(_UNITS[token_type]):
                call.cost[token_type] = float(rate.at(prompt) * number)
            else:
                call.unpriced_tokens += number
        fees: defaultdict[str, Decimal] = defaultdict(Decimal)
        for unit, used in {**call.units, "requests": 1}.items():
            if (rate := rates.get(unit)) and (kind := _FEES.get(unit)):
                fees[kind] += rate.at(prompt) * Decimal(str(used))
        for kind, fee in fees.items():
            call.cost[kind] = call.cost.get(kind, 0.0) + float(fee)

    def _rates_for(self, call: Call) -> tuple[CostSource, Rates]:
        for model in (call.model, call.requested_model) if self._overrides else ():
            if override := self._overrides.get((call.provider, model)):
                return "override", override
        return "list", self._listed(call)

    def _listed(self, call: Call) -> Rates:
        # Prices that change do so on a whole minute: a new day, or the off-peak hours of a day.
        minute = int(call.started // 60)
        key = call.provider, call.model, call.requested_model, call.service_tier, call.speed, call.batch
        cached = self._rates.get(key)
        if cached is not None and cached[0] == minute:
            return cached[1]
        if len(self._rates) >= _MAX_CACHED:
            self._rates.clear()
        rates = _discounted(_look_up(call), self._share.get(call.provider))
        self._rates[key] = minute, rates
        return rates

    def _warn(self, call: Call) -> None:
        key = call.provider, call.model
        if key not in self._warned and len(self._warned) < _MAX_CACHED:
            self._warned.add(key)
            log.warning(
                "no price is known for model %r of provider %r: "
                "its tokens count in llm_unpriced_tokens_total and cost nothing in llm_cost_usd_total",
                call.model,
                call.provider,
            )


def _divide(call: Call, total: float) -> None:
    """Divide a reported cost among the types as the list prices do, else as the tokens do."""
    weights = call.cost if sum(call.cost.values()) > 0 and not call.unpriced_tokens else call.tokens
    whole = sum(weights.values())
    call.cost = (
        {kind: total * weight / whole for kind, weight in weights.items()} if whole else {TOOLS: total}
    )
    call.cost_source = "provider"
    call.unpriced_tokens = 0


def _look_up(call: Call) -> Rates:
    """Return the rates for a call; none for a model that no one knows.

    The model is looked up as it answered, else as it was asked for: a deployment may hide either.
    """
    snapshot = data_snapshot.get_snapshot()
    for name in filter(None, (call.model, call.requested_model)):
        try:
            provider, model = snapshot.find_provider_model(name, None, call.provider or None, None)
        except LookupError:
            continue
        # Who resells a model bills it at the list price; the service tiers are its owner's.
        own = any(candidate is model for candidate in provider.models)
        context = _context(call) if own else None
        return _resolve(model.get_prices(datetime.fromtimestamp(call.started, UTC), context))
    return {}


def _context(call: Call) -> dict[str, str]:
    """Return what selects a price variant, in genai-prices' terms."""
    context = {"processing": "batch"} if call.batch else {}
    if call.service_tier:
        context["service_tier"] = call.service_tier
    if call.speed:
        context["speed"] = call.speed
    return context


def _resolve(prices: ModelPrice) -> Rates:
    """Return the rate of every unit that we count: its own, else that of the finest unit it is part of."""
    priced = [
        (unit, price)
        for unit in _REGISTRY.units.values()
        if (price := getattr(prices, unit.price_key)) is not None
    ]
    rates = {}
    for wanted in _COUNTED:
        containing = [(unit, price) for unit, price in priced if _contains(unit, wanted)]
        if containing:
            unit, price = max(containing, key=lambda each: len(each[0].dimensions))
            rates[wanted.usage_key] = _rate(price, unit.per)
    return rates


def _contains(unit: UnitDef, part: UnitDef) -> bool:
    return unit.dimensions.items() <= part.dimensions.items()


def _rates_of(usd_per_million: Mapping[TokenType, Decimal]) -> Rates:
    """Return configured prices as rates: a type that is left out costs what `input` or `output` does."""
    rates = {}
    for kind, unit in _UNITS.items():
        general: TokenType = "input" if kind in PROMPT_TYPES else "output"
        price = usd_per_million.get(kind, usd_per_million.get(general))
        if price is not None:
            rates[unit] = Rate(price / 1_000_000)
    return rates


def _discounted(rates: Rates, share: Decimal | None) -> Rates:
    if share is None:
        return rates
    return {
        unit: Rate(rate.base * share, tuple((start, price * share) for start, price in rate.tiers))
        for unit, rate in rates.items()
    }


def _rate(price: Decimal | TieredPrices, per: int) -> Rate:
    if isinstance(price, TieredPrices):
        return Rate(price.base / per, tuple((tier.start, tier.price / per) for tier in price.tiers))
    return Rate(price / per)
