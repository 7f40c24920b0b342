"""Find the rates of a call: configured ones, published ones, corrections, fees and price modifiers."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from decimal import Decimal
from itertools import chain
from typing import Final, NamedTuple

from ..call import ApproximationReason, Call, CostSource
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
from .names import canonical, hidden_model, is_free, listed_names
from .rates import UNITS, Rate, Rates, configured_rates, discounted, multiplied, replaced

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

    def modifiers(self) -> Iterator[tuple[Modifier, str]]:
        """Yield what may change the standard price, with its value."""
        values: tuple[tuple[Modifier, str], ...] = (
            ("tier", normalized(self.service_tier or "")),
            ("speed", normalized(self.speed or "")),
            ("batch", BATCH if self.batch else ""),
            ("region", normalized(self.region or self._profile_region())),
        )
        for modifier, value in values:
            if value and not is_standard(modifier, value):
                yield modifier, value
        if hidden := hidden_model(self.requested_model):
            yield ("tier", "provisioned") if hidden == "provisioned-model" else ("profile", hidden)

    def _profile_region(self) -> str:
        """Return AWS GovCloud's region if the inference profile is one of it, which costs more."""
        is_gov = self.provider == "aws" and self.requested_model.startswith("us-gov.")
        return "us-gov" if is_gov else ""


class Tariff(NamedTuple):
    """The rates that apply to a call."""

    source: CostSource
    rates: Rates
    approximated: tuple[tuple[ApproximationReason, str], ...] = ()
    """Why the rates of all tokens are approximate, with the value that has no price."""
    coarse: Mapping[str, ApproximationReason] = {}
    """Why the rates of single units are approximate."""

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
        with late_import:
            from . import genai  # noqa: PLC0415  # takes 0.1 s

        when = datetime.fromtimestamp(started, UTC)
        modifiers = dict(terms.modifiers())
        configured, covered = self._configured_factors(terms, modifiers)
        variant = {
            _VARIANTS[modifier]: value
            for modifier, value in modifiers.items()
            if modifier in _VARIANTS and modifier not in covered
        }
        names = chain.from_iterable(listed_names(terms.provider, model) for model in terms.models())
        listed = ((provider, listed_name(provider, name, when)) for provider, name in names)
        found = genai.find_rates(listed, when, variant)
        provider, model = (found.provider, found.name) if found else _unlisted(terms)
        standard: Rates = found.standard if found else {}
        corrections = corrected_rates(provider, model, when, standard)
        rates = replaced(standard, found.rates if found else {}, corrections)
        standard = {**standard, **corrections}
        if any(is_free(terms.provider, name) for name in terms.models()):
            rates = standard = _FREE
        discount = self._discounts.get(terms.provider, _ZERO)
        rates = discounted(with_long_writes(provider, rates), discount)
        override = self._override(terms)
        if override is not None:
            standard = discounted(with_long_writes(provider, standard), discount)
            rates = replaced(standard, rates, configured_rates(override.usd_per_million_tokens, standard))
        rates = {**rates, **fee_rates(provider, model, when)}
        for factor in configured:
            rates = multiplied(rates, factor)
        approximated: list[tuple[ApproximationReason, str]] = []
        for modifier, value in modifiers.items():
            if modifier in covered or (found and _VARIANTS.get(modifier) in found.variants):
                continue
            if published := factors_for(provider, modifier, value, model):
                rates = with_factors(rates, published)
            elif rates:
                approximated.append(("region" if modifier == "profile" else modifier, value))
        coarse = dict(_coarse(provider, model, rates))
        return Tariff("override" if override else "list", rates, tuple(approximated), coarse)

    def _override(self, terms: Terms) -> PriceOverride | None:
        provider = terms.provider.lower()
        for model in terms.models() if self._overrides else ():
            if override := self._overrides.get((provider, canonical(provider, model))):
                return override
        return None

    def _configured_factors(
        self, terms: Terms, modifiers: Mapping[Modifier, str]
    ) -> tuple[list[Decimal], set[Modifier]]:
        """Return the configured factors that apply, and the modifiers whose price they are.

        Of several factors for the same modifiers, the first applies.
        """
        factors: dict[frozenset[Modifier], Decimal] = {}
        for configured in self._factors:
            if configured.matches(terms, modifiers):
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

    def matches(self, terms: Terms, modifiers: Mapping[Modifier, str]) -> bool:
        """Return whether the factor applies to a call."""
        config = self._config
        if config.provider not in (None, terms.provider) or config.host not in (None, terms.host):
            return False
        if any(modifiers.get(modifier) != value for modifier, value in self._values.items()):
            return False
        return self._model is None or any(
            self._model.fullmatch(canonical(terms.provider, name)) for name in terms.models()
        )


def _unlisted(terms: Terms) -> tuple[str, str]:
    """Return the provider and the canonical name of a model that the price table does not have."""
    model = next(filter(None, terms.models()), "")
    return terms.provider, canonical(terms.provider, model)


def _coarse(provider: str, model: str, rates: Rates) -> Iterator[tuple[str, ApproximationReason]]:
    for unit, rate in rates.items():
        if lacks_modality(provider, model, unit, rate):
            yield unit, "modality"
        elif lacks_lifetime(unit, rate):
            yield unit, "lifetime"
