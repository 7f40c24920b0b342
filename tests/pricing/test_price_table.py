"""Every current model of the large providers is priced as in the price table."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest
from genai_prices.data import providers
from genai_prices.types import ModelInfo, ModelPrice, TieredPrices

from llm_exporter.call import Call, TokenType
from llm_exporter.pricing.aliases import listed_name
from llm_exporter.pricing.corrections import CORRECTIONS
from llm_exporter.pricing.prices import PriceList

WHEN = datetime(2026, 11, 2, 12, tzinfo=UTC)
PROVIDERS = ("openai", "anthropic", "google", "azure", "x-ai", "deepseek", "mistral", "groq", "cohere", "aws")
PRICES: dict[TokenType, tuple[str, ...]] = {
    "input": ("input_mtok",),
    "cache_read": ("cache_read_mtok", "input_mtok"),
    "cache_write": ("cache_write_mtok", "input_mtok"),
    "cache_write_1h": ("cache_write_1h_mtok", "cache_write_mtok", "input_mtok"),
    "output": ("output_mtok",),
}
"""The fields of the table that price each token type; the first one that a model has applies."""


def is_corrected(provider: str, model: str) -> bool:
    """Return whether the model has other rates than those of the table: see `test_corrections`."""
    return listed_name(provider, model, WHEN) != model or any(
        each.provider == provider and re.fullmatch(each.model, model) for each in CORRECTIONS
    )


def current_models() -> Iterator[Any]:
    for provider in providers:
        if provider.id in PROVIDERS:
            for model in provider.models:
                prices = model.get_prices(WHEN)
                # Some ids are not names that a request could have: fine-tuned models, regions of a cloud.
                named = provider.find_model(model.id) is model
                if (
                    named
                    and not is_corrected(provider.id, model.id)
                    and not model.deprecated
                    and prices.input_mtok is not None
                    and prices.output_mtok is not None
                ):
                    yield pytest.param(provider.id, model, id=f"{provider.id} {model.id}")


MODELS = list(current_models())


def test_enough_models_are_tested() -> None:
    assert len(MODELS) >= 60


@pytest.mark.parametrize(("provider", "model"), MODELS)
def test_a_call_is_priced_as_in_the_table_below_and_above_each_context_tier(
    provider: str, model: ModelInfo
) -> None:
    prices = model.get_prices(WHEN)
    for prompt_tokens in _prompts(prices):
        tokens: dict[TokenType, int] = {
            "input": prompt_tokens - 3_000,
            "cache_read": 1_000,
            "cache_write": 1_500,
            "cache_write_1h": 500,
            "output": 2_000,
        }
        call = Call(
            provider=provider, model=model.id, operation="chat", started=WHEN.timestamp(), tokens=tokens
        )
        PriceList().price(call)
        # Some search models charge a separate fee for each request.
        per_1000 = prices.requests_kcount
        fee = {"tools": float(per_1000 / 1000)} if isinstance(per_1000, Decimal) else {}
        assert call.cost == fee | {
            kind: float(_price(prices, kind, prompt_tokens) * number / 1_000_000)
            for kind, number in tokens.items()
        }
        assert call.unpriced_tokens == 0


def _prompts(prices: ModelPrice) -> list[int]:
    """Return prompt lengths at the start of each tier, where the lower tier applies, and just above it."""
    starts = {
        tier.start
        for value in vars(prices).values()
        if isinstance(value, TieredPrices)
        for tier in value.tiers
    }
    return [4_000, *sorted({prompt for start in starts for prompt in (start, start + 1) if prompt > 4_000})]


def _price(prices: ModelPrice, kind: TokenType, prompt_tokens: int) -> Decimal:
    price = next(value for name in PRICES[kind] if (value := getattr(prices, name)) is not None)
    if not isinstance(price, TieredPrices):
        return Decimal(price)
    return next((tier.price for tier in reversed(price.tiers) if prompt_tokens > tier.start), price.base)
