"""Find the rates of a call: configured ones, published ones, corrections, fees and price modifiers."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from decimal import Decimal
from itertools import chain
from typing import TYPE_CHECKING, Final, NamedTuple

from ..call import ApproximationReason, Call, CostSource, TokenType
from ..config.model import PriceFactor, PriceOverride, Prices
from ..forking import late_import
from .aliases import listed_name
from .corrections import corrected_rates
from .factors import (
    BATCH,
    Modifier,
    factors_for,
    is_standard,
    lacks_lifetime,
    lacks_modality,
    normalized,
    with_factors,
    with_long_writes,
)
from .fees import fee_rates
from .names import canonical, hidden_model, is_free, listed_names, searches_web
from .rates import (
    UNITS,
    USAGE,
    Rate,
    Rates,
    TokenPrices,
    configured_rates,
    discounted,
    multiplied,
    replaced,
)

if TYPE_CHECKING:
    from .genai import Published

_ZERO: Final = Decimal(0)
_FREE: Final[Rates] = dict.fromkeys(UNITS.values(), Rate(_ZERO))
_VARIANTS: Final[dict[Modifier, str]] = {"tier": "service_tier", "speed": "speed", "batch": "processing"}
"""The keys of genai-prices' price variants."""


class Terms(NamedTuple):
    """What determines the rates of a call, apart from its time."""

    provider: str
    model: str
    requested_model: str = ""
    service_tier: str | None = None
    speed: str | None = None
    batch: bool = False
    region: str = ""
    host: str = ""

    @classmethod
    def of(cls, call: Call) -> Terms:
        """Return the terms of a call."""
        return cls(
            call.provider,
            call.model,
            call.requested_model,
            call.service_tier,
            call.speed,
            call.batch,
            call.region,
            call.host,
        )

    def models(self) -> tuple[str, str]:
        """Return the model names, the more telling one first.

        The answer of Bedrock hides the inference profile, which sets the price, so there the requested name
        comes first. Elsewhere a deployment may hide the model's name in the request.
        """
        if self.provider == "aws" and not hidden_model(self.requested_model):
            return self.requested_model, self.model
        return self.model, self.requested_model

    def values(self) -> dict[Modifier, str]:
        """Return what may change the price of the whole call, normalized."""
        values: dict[Modifier, str] = {
            "tier": normalized(self.service_tier or ""),
            "speed": normalized(self.speed or ""),
            "batch": BATCH if self.batch else "",
            "region": normalized(self.region or _region_of(self.provider, self.requested_model)),
        }
        if hidden := hidden_model(self.requested_model):
            values["tier" if hidden == "provisioned-model" else "profile"] = hidden
        return {modifier: value for modifier, value in values.items() if value}


def _region_of(provider: str, model: str) -> str:
    """Return the region that a model's name shows: AWS GovCloud's inference profiles cost more."""
    return "us-gov" if provider == "aws" and model.startswith("us-gov.") else ""


class Tariff(NamedTuple):
    """The rates that apply to a call."""

    source: CostSource
    rates: Rates
    tokens: TokenPrices
    """The rates of tokens."""
    approximated: tuple[tuple[ApproximationReason, str], ...] = ()
    """Why the rates of all tokens are approximate, with the value that has no price."""
    coarse: Mapping[TokenType, ApproximationReason] = {}
    """Why the rates of single token types are approximate."""

    @property
    def prices_tokens(self) -> bool:
        """Whether there is a rate for text."""
        return "input_text_tokens" in self.rates or "output_text_tokens" in self.rates


class Tariffs:
    """Finds tariffs.

    Args:
        config: price overrides, factors and discounts.
    """

    def __init__(self, config: Prices) -> None:
        self._overrides = {
            (override.provider.lower(), canonical(override.provider.lower(), override.model)): override
            for override in config.overrides
        }
        self._factors = tuple(_ConfiguredFactor(factor) for factor in config.factors)
        self._discounts = dict(config.discounts)

    def provider_of(self, model: str) -> str:
        """Return the provider of a model: the only one with an override for its name, else the vendor."""
        configured = {provider for provider, name in self._overrides if name == canonical(provider, model)}
        if len(configured) == 1:
            return configured.pop()
        with late_import:
            from . import genai  # noqa: PLC0415  # takes 0.1 s

        return genai.provider_of(model)

    def find(self, terms: Terms, started: float) -> Tariff:
        """Return the tariff of a call.

        Args:
            terms: what determines the rates.
            started: when the call was made, as a Unix timestamp in seconds.
        """
        when = datetime.fromtimestamp(started, UTC)
        values = terms.values()
        configured, covered = self._configured_factors(terms, values)
        modifiers: dict[Modifier, str] = {
            modifier: value
            for modifier, value in values.items()
            if modifier not in covered and not is_standard(modifier, value)
        }
        model = _look_up(terms, when, modifiers)
        if "profile" not in covered and _hides_profile(terms, model):
            modifiers["profile"] = "inference profile"
        override = self._override(terms)
        rates = self._rates(terms, model, when, override)
        for factor in configured:
            rates = multiplied(rates, factor)
        rates, approximated = _modified(rates, model, modifiers, values.get("region", ""))
        if any(searches_web(terms.provider, name) for name in terms.models()):
            approximated = (*approximated, ("fee", "web search"))
        coarse = dict(_coarse(model, rates))
        return Tariff("override" if override else "list", rates, TokenPrices(rates), approximated, coarse)

    def _rates(self, terms: Terms, model: Published, when: datetime, override: PriceOverride | None) -> Rates:
        """Return the published rates, corrected, discounted and overridden, with fees."""
        standard, rates = model.standard, model.rates
        if any(is_free(terms.provider, name) for name in terms.models()):
            standard = rates = _FREE
        corrections = corrected_rates(model.provider, model.name, when, standard)
        rates = with_long_writes(model.provider, replaced(standard, rates, corrections))
        standard = with_long_writes(model.provider, {**standard, **corrections})
        discount = self._discounts.get(terms.provider, _ZERO)
        standard, rates = discounted(standard, discount), discounted(rates, discount)
        if override is not None:
            rates = replaced(standard, rates, configured_rates(override.usd_per_million_tokens, standard))
        return {**rates, **discounted(fee_rates(model.provider, model.name, when), discount)}

    def _override(self, terms: Terms) -> PriceOverride | None:
        provider = terms.provider.lower()
        for model in terms.models() if self._overrides else ():
            if override := self._overrides.get((provider, canonical(provider, model))):
                return override
        return None

    def _configured_factors(
        self, terms: Terms, values: Mapping[Modifier, str]
    ) -> tuple[list[Decimal], set[Modifier]]:
        """Return the configured factors that apply, and the modifiers whose price they are.

        Of several factors for the same modifiers, the first applies.
        """
        factors: dict[frozenset[Modifier], Decimal] = {}
        for configured in self._factors:
            if configured.matches(terms, values):
                factors.setdefault(configured.modifiers, configured.factor)
        covered = set(chain.from_iterable(factors))
        if "region" in covered:
            covered.add("profile")
        return list(factors.values()), covered


class _ConfiguredFactor:
    """One entry of `prices.factors`."""

    def __init__(self, config: PriceFactor) -> None:
        self.factor = config.factor
        self._config = config
        self._model = re.compile(config.model, re.IGNORECASE) if config.model else None
        self._values: dict[Modifier, str] = {}
        if config.tier is not None:
            self._values["tier"] = normalized(config.tier)
        if config.region is not None:
            self._values["region"] = normalized(config.region)
        if config.batch:
            self._values["batch"] = BATCH
        self.modifiers: frozenset[Modifier] = frozenset(self._values)

    def matches(self, terms: Terms, values: Mapping[Modifier, str]) -> bool:
        """Return whether the factor applies to a call."""
        config = self._config
        if config.provider and config.provider.lower() != terms.provider.lower():
            return False
        if config.host not in (None, terms.host):
            return False
        if any(values.get(modifier) != value for modifier, value in self._values.items()):
            return False
        return self._model is None or any(
            self._model.fullmatch(canonical(terms.provider, name)) for name in terms.models()
        )


def _look_up(terms: Terms, when: datetime, modifiers: Mapping[Modifier, str]) -> Published:
    """Return the published rates of a model, with the price variants of these modifiers; none if unknown."""
    with late_import:
        from . import genai  # noqa: PLC0415  # takes 0.1 s

    variant = {key: modifiers[modifier] for modifier, key in _VARIANTS.items() if modifier in modifiers}
    if found := genai.find_rates(_listed_names(terms, when), when, variant):
        return found
    name = next(filter(None, terms.models()), "")
    return genai.Published(terms.provider, canonical(terms.provider, name), {}, {}, frozenset())


def _listed_names(terms: Terms, when: datetime) -> Iterator[tuple[str, str]]:
    """Yield the provider ids and names under which the price table may list the model."""
    for asked in terms.models():
        for provider, name in listed_names(terms.provider, asked):
            yield provider, listed_name(provider, name, when)


def _hides_profile(terms: Terms, model: Published) -> bool:
    """Return whether Bedrock priced a model by the name in the answer, which leaves out the profile."""
    requested = terms.requested_model
    if terms.provider != "aws" or not requested or not model.rates or hidden_model(requested):
        return False
    return not model.name.startswith(canonical("aws", requested))


def _modified(
    rates: Rates, model: Published, modifiers: Mapping[Modifier, str], region: str
) -> tuple[Rates, tuple[tuple[ApproximationReason, str], ...]]:
    """Return rates with the published factors of modifiers, and the modifiers without a price."""
    approximated: list[tuple[ApproximationReason, str]] = []
    for modifier, value in modifiers.items():
        if _VARIANTS.get(modifier) in model.variants:
            continue
        if published := factors_for(model.provider, modifier, value, model.name, region):
            rates = with_factors(rates, published)
        elif not USAGE.isdisjoint(rates):
            approximated.append(("region" if modifier == "profile" else modifier, value))
    return rates, tuple(approximated)


def _coarse(model: Published, rates: Rates) -> Iterator[tuple[TokenType, ApproximationReason]]:
    """Yield the token types that are priced as another modality or cache lifetime."""
    for kind, unit in UNITS.items():
        if (rate := rates.get(unit)) is None:
            continue
        if lacks_modality(model.provider, model.name, unit, rate):
            yield kind, "modality"
        elif lacks_lifetime(unit, rate):
            yield kind, "lifetime"
