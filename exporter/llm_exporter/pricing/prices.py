"""Price calls by configured prices, costs that responses report, and the published price tables."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from decimal import Decimal
from typing import Final

from ..call import PROMPT_TYPES, ApproximationReason, Call, TokenType
from ..config.model import Prices
from ..log import log
from .fees import billed_units, cost_type
from .rates import TOOLS, Rates, TokenPrices, configured_rates
from .tariffs import Tariff, Tariffs, Terms
from .upper_bound import UpperBound

_MAX_CACHED: Final = 10_000
"""The largest number of models to remember: model names come from outside."""
_SUSPICIOUS: Final = 10
"""A reported cost this many times above or below the list price counts as approximate."""
_INSTEAD_OF_TOKENS: Final = frozenset({"input_audio_seconds", "input_characters"})
"""Units that are billed only if tokens are not."""
_ASSUMPTIONS: Final[dict[ApproximationReason, str]] = {
    "tier": "are priced at the standard tier",
    "region": "are priced without the surcharge of a region",
    "batch": "are priced as if they were not part of a batch",
    "speed": "are priced at the standard speed",
    "modality": "are priced as text",
    "lifetime": "are priced at the default cache lifetime",
    "fee": "are priced without this fee",
}


class PriceList:
    """Prices calls. Caches the rates of each model.

    Args:
        config: price overrides, factors, discounts, and the price of unknown models.
    """

    def __init__(self, config: Prices | None = None) -> None:
        config = config or Prices()
        self._configured = Tariffs(config)
        self._fallback = configured_rates(config.fallback)
        self._fallback_tokens = TokenPrices(self._fallback)
        self._tariffs: dict[Terms, tuple[int, Tariff]] = {}
        self._bounds: dict[tuple[object, ...], tuple[int, list[UpperBound]]] = {}
        self._warned: set[tuple[str, ...]] = set()

    def price(self, call: Call) -> None:
        """Set the cost of a call at the price when it was made, with its source and what is approximate.

        The cost of each type is the exact decimal product, rounded once to the nearest float. A configured
        price comes first, then a cost reported in the response, then the list price. The list price divides a
        reported cost among the types.
        """
        if not call.tokens and not call.units and call.reported_cost is None:
            return
        if self.costs_nothing(call):
            call.cost = dict.fromkeys(call.tokens, 0.0)
            return
        tariff = self._tariff(Terms.of(call), call.started)
        _apply_rates(call, tariff.rates, tariff.tokens)
        call.cost_source = tariff.source if call.cost else None
        if call.reported_cost is not None and tariff.source != "override" and _is_report(call):
            self._use_report(call, call.reported_cost)
            return
        if tariff.approximated or call.units or not tariff.coarse.keys().isdisjoint(call.tokens):
            self._approximate(call, tariff)
        if call.unpriced_tokens:
            self._warn_unpriced(call)
            self._apply_fallback(call)

    def costs_nothing(self, call: Call) -> bool:
        """Return whether a local server runs the call's model, and the configuration has no price for it."""
        if call.cost_source != "local":
            return False
        return self._tariff(Terms.of(call), call.started).source != "override"

    def estimate(self, terms: Terms, started: float, input_tokens: int, output_tokens: int) -> float | None:
        """Return the estimated cost of a call in USD, at the standard text rates.

        Args:
            terms: the model, and the provider or "" to find it by the model's name.
            started: when the call is made, as a Unix timestamp in seconds.
            input_tokens: the tokens of the prompt.
            output_tokens: the tokens of the response.

        Returns:
            The cost, which for an unknown model is the configured fallback; None if there is no price.
        """
        if not terms.provider:
            terms = terms._replace(provider=self._configured.provider_of(terms.model))
        tariff = self._tariff(terms, started)
        rates = tariff.rates if tariff.prices_tokens else self._fallback
        return float(UpperBound(rates).usd(input_tokens, output_tokens)) if rates else None

    def upper_bounds(
        self,
        terms: Terms,
        started: float,
        cache_writes: tuple[TokenType, ...] = (),
        uses: tuple[str, ...] = (),
    ) -> Sequence[UpperBound]:
        """Return the bounds of what a call is expected to cost, of which the highest counts.

        Args:
            terms: the provider, the model and what the request asks for. A provider may serve another tier
                than the requested one, so the standard tier counts, too.
            started: when the call is made, as a Unix timestamp in seconds.
            cache_writes: the cache writes that the prompt may be billed as.
            uses: the unit of each use of a paid tool that the request allows.
        """
        minute, asked = int(started // 60), (terms, cache_writes, uses)
        cached = self._bounds.get(asked)
        if cached is not None and cached[0] == minute:
            return cached[1]
        if len(self._bounds) >= _MAX_CACHED:
            self._bounds.clear()
        bounds = []
        for each in {terms, terms._replace(service_tier=None)}:
            tariff = self._tariff(each, started)
            rates = tariff.rates if tariff.prices_tokens else {**tariff.rates, **self._fallback}
            bounds.append(UpperBound(rates, cache_writes, uses))
        self._bounds[asked] = minute, bounds
        return bounds

    def _tariff(self, terms: Terms, started: float) -> Tariff:
        # Prices change on a whole minute only: at midnight, or when off-peak hours begin or end.
        minute = int(started // 60)
        cached = self._tariffs.get(terms)
        if cached is not None and cached[0] == minute:
            return cached[1]
        if len(self._tariffs) >= _MAX_CACHED:
            self._tariffs.clear()
        tariff = self._configured.find(terms, started)
        self._tariffs[terms] = minute, tariff
        return tariff

    def _apply_fallback(self, call: Call) -> None:
        """Price the tokens of an unknown model at the fallback price. They still count as unpriced."""
        if self._fallback and call.unpriced_tokens == call.total_tokens:
            fees, unpriced = call.cost, call.unpriced_tokens
            _apply_rates(call, self._fallback, self._fallback_tokens)
            call.cost |= fees
            call.unpriced_tokens = unpriced
            call.cost_source = "fallback"

    def _approximate(self, call: Call, tariff: Tariff) -> None:
        """Count the tokens whose cost is approximate, by reason, and warn of each reason once."""
        found: Counter[ApproximationReason] = Counter()
        whole = max(call.total_tokens, 1)
        for reason, value in tariff.approximated:
            found[reason] = whole
            self._warn(call, reason, value)
        for kind, number in call.tokens.items():
            if coarse := tariff.coarse.get(kind):
                found[coarse] += number
                self._warn(call, coarse, kind)
        for unit in call.units:
            rate = tariff.rates.get(unit)
            if rate is None and not (unit in _INSTEAD_OF_TOKENS and call.tokens):
                found["fee"] = whole
                self._warn(call, "fee", unit)
            elif rate is not None and rate.approximate:
                found["fee"] = whole
                self._warn_estimated(call, unit)
        call.approximated = {**call.approximated, **found}

    def _use_report(self, call: Call, total: float) -> None:
        """Take over a reported cost, divided among the types."""
        listed = 0.0 if call.unpriced_tokens else call.total_cost
        call.cost = _divided(call, total)
        call.cost_source = "provider"
        call.unpriced_tokens = 0
        call.approximated = {}
        if listed and not listed / _SUSPICIOUS < total < listed * _SUSPICIOUS:
            call.approximated = {"reported_cost": max(call.total_tokens, 1)}
            if self._is_new("reported_cost", call.provider, call.model):
                log.warning(
                    "llm-exporter: a response of model %r of provider %r reports a cost of $%g, but its list "
                    "price is $%g: its tokens count in llm_price_approximated_tokens_total; if the report is "
                    "wrong, set the price under prices.overrides",
                    call.model,
                    call.provider,
                    total,
                    listed,
                )

    def _warn(self, call: Call, reason: ApproximationReason, value: str) -> None:
        if self._is_new(reason, call.provider, call.model, value):
            remedy = "prices.overrides" if reason in ("modality", "lifetime") else "prices.factors"
            log.warning(
                "llm-exporter: no price for %s %r of model %r of provider %r: tokens %s and count in "
                "llm_price_approximated_tokens_total%s",
                reason,
                value,
                call.model,
                call.provider,
                _ASSUMPTIONS[reason],
                "" if reason in ("fee", "speed") else f"; set the price under {remedy}",
            )

    def _warn_estimated(self, call: Call, unit: str) -> None:
        if self._is_new("estimated fee", call.provider, call.model, unit):
            log.warning(
                "llm-exporter: the responses of model %r of provider %r do not report how much is billed for "
                "%r: the fee is an estimate, and tokens count in llm_price_approximated_tokens_total",
                call.model,
                call.provider,
                unit,
            )

    def _warn_unpriced(self, call: Call) -> None:
        if self._is_new("unpriced", call.provider, call.model):
            log.warning(
                "llm-exporter: no price for model %r of provider %r: its tokens count in "
                "llm_unpriced_tokens_total; set its price under prices.overrides",
                call.model,
                call.provider,
            )

    def _is_new(self, *key: str) -> bool:
        """Return whether this is the first time that a warning is due. Remembers a bounded number."""
        if key in self._warned or len(self._warned) >= _MAX_CACHED:
            return False
        self._warned.add(key)
        return True


def _apply_rates(call: Call, rates: Rates, tokens: TokenPrices) -> None:
    prices = tokens.of(call)
    cost: dict[str, float] = {}
    call.cost = cost
    call.unpriced_tokens = 0
    for token_type, number in call.tokens.items():
        if price := prices.get(token_type):
            numerator, denominator = price
            cost[token_type] = number * numerator / denominator  # exact, and rounded once: both are integers
        else:
            call.unpriced_tokens += number
    if not call.units and "requests" not in rates:
        return
    prompt = call.input_tokens
    fees: defaultdict[str, Decimal] = defaultdict(Decimal)
    for unit, used in billed_units(call.provider, call.units).items():
        if rate := rates.get(unit):
            fees[cost_type(unit)] += rate.at(prompt) * used
    for kind, fee in fees.items():
        call.cost[kind] = call.cost.get(kind, 0.0) + float(fee)


def _is_report(call: Call) -> bool:
    """Return whether the reported cost is one: 0 for tokens says that the service does not know it."""
    return bool(call.reported_cost) or not (call.tokens or call.units)


def _divided(call: Call, total: float) -> dict[str, float]:
    """Return a reported cost divided among the types: as the response splits it, else by list prices."""
    parts = {part: usd for part, usd in call.reported_costs.items() if usd > 0}
    known = sum(parts.values())
    if not known:
        return _shares(call, total, {*call.cost, *call.tokens})
    scale = min(total / known, 1.0)
    cost: defaultdict[str, float] = defaultdict(float)
    for part, usd in parts.items():
        kinds = {str(kind) for kind in call.tokens if part == ("input" if kind in PROMPT_TYPES else "output")}
        for kind, share in _shares(call, usd * scale, kinds).items():
            cost[kind] += share
    rest = total - known * scale
    if rest > total * 1e-9:
        cost[TOOLS] += rest
    return dict(cost)


def _shares(call: Call, usd: float, kinds: set[str]) -> dict[str, float]:
    """Return an amount divided among types in proportion to their list prices, else to their tokens."""
    for weights in ({} if call.unpriced_tokens else call.cost, call.tokens):
        chosen = {kind: float(weight) for kind, weight in weights.items() if kind in kinds}
        if whole := sum(chosen.values()):
            return {kind: usd * weight / whole for kind, weight in chosen.items()}
    return {TOOLS: usd}
