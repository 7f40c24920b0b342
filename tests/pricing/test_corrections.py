"""Corrected rates, worked out by hand from the providers' pages."""

from __future__ import annotations

import re
from datetime import UTC, date, datetime
from urllib.parse import urlsplit

import pytest

from llm_exporter.call import Call, TokenType
from llm_exporter.pricing import genai
from llm_exporter.pricing.corrections import CORRECTIONS, Correction, corrected_rates
from llm_exporter.pricing.prices import PriceList

WHEN = datetime(2026, 11, 24, 12, tzinfo=UTC)
SATURDAY_IN_PEAK_HOURS = datetime(2026, 11, 21, 2, tzinfo=UTC)
MONDAY_IN_PEAK_HOURS = datetime(2026, 11, 23, 2, tzinfo=UTC)

# A model of each correction, and what a million tokens of a type cost.
PRICES: list[tuple[str, str, dict[TokenType, float]]] = [
    # https://platform.claude.com/docs/en/about-claude/pricing
    (
        "anthropic",
        "claude-mythos-5",
        {"input": 10, "cache_read": 1, "cache_write": 12.5, "cache_write_1h": 20, "output": 50},
    ),
    ("anthropic", "claude-mythos-5-1", {"input": 10, "cache_read": 0.25}),
    # https://aws.amazon.com/bedrock/pricing/
    ("aws", "eu.amazon.nova-micro-v1:0", {"input": 0.046, "cache_read": 0.0115, "output": 0.184}),
    ("aws", "eu.amazon.nova-lite-v1:0", {"input": 0.078, "cache_read": 0.0195, "output": 0.312}),
    ("aws", "eu.amazon.nova-pro-v1:0", {"input": 1.05, "cache_read": 0.2625, "output": 4.2}),
    ("aws", "eu.amazon.nova-2-lite-v1:0", {"input": 0.429, "cache_read": 0.10725, "output": 3.597}),
    ("aws", "jp.amazon.nova-2-lite-v1:0", {"input": 0.396, "cache_read": 0.099, "output": 3.311}),
    ("aws", "apac.amazon.nova-micro-v1:0", {"input": 0.037, "cache_read": 0.00925, "output": 0.148}),
    ("aws", "apac.amazon.nova-lite-v1:0", {"input": 0.063, "cache_read": 0.01575, "output": 0.252}),
    ("aws", "apac.amazon.nova-pro-v1:0", {"input": 0.84, "cache_read": 0.21, "output": 3.36}),
    # https://docs.aws.amazon.com/bedrock/latest/userguide/model-card-openai-gpt-54.html: twice the price of
    # input, and one and a half times that of output, for prompts of more than 272,000 tokens.
    ("aws", "openai.gpt-5.4", {"input": 5.5, "cache_read": 0.55, "output": 16.5}),
    ("aws", "openai.gpt-5.5", {"input": 11, "cache_read": 1.1, "output": 33}),
    # https://prices.azure.com/api/retail/prices
    ("azure", "DeepSeek-V4-Pro", {"input": 1.74, "cache_read": 0.145, "output": 3.48}),
    ("azure", "deepseek-v4-flash", {"input": 0.19, "cache_read": 0.028, "output": 0.51}),
    ("azure", "DeepSeek-V4-Flash-0731", {"input": 0.44, "cache_read": 0.014, "output": 1.32}),
    ("azure", "deepseek-v3.2", {"input": 0.58, "output": 1.68}),
    ("azure", "deepseek-r1", {"input": 1.35, "output": 5.4}),
    ("azure", "gpt-oss-120b", {"input": 0.15, "output": 0.6}),
    ("azure", "grok-3-mini", {"input": 0.25, "output": 1.27}),
    ("azure", "gpt-5.4-pro-2026-03-05", {"input": 60, "cache_read": 6}),
    # https://cohere.com/pricing
    ("cohere", "embed-v4.0", {"input": 0.12, "input_image": 0.47}),
    ("cohere", "embed-v5.0-pro", {"input": 0.12}),
    ("cohere", "embed-v5.0-fast", {"input": 0.08}),
    # https://cloud.google.com/vertex-ai/generative-ai/pricing
    ("google", "gemini-2.5-flash-image", {"input": 0.3, "cache_read": 0.03, "output_image": 30}),
    ("google", "gemini-3-pro-image-preview", {"input": 2, "cache_read": 0.2, "output_image": 120}),
    ("google", "gemini-3.1-flash-image", {"input": 0.5, "cache_read": 0.05}),
    ("google", "gemini-3.1-flash-lite-image", {"input": 0.25, "cache_read": 0.025}),
    ("google", "gemini-nano-banana-2.1", {"input": 1.5, "cache_read": 0.15}),
    ("google", "gemini-3.8-flash-cyber", {"input": 1.5, "cache_read": 0.15, "output": 7.5, "reasoning": 7.5}),
    # https://aistudio.google.com/docs/pricing#gemini-4-hydrogen
    ("google", "gemini-4-hydrogen", {"input": 1.5, "cache_read": 0.075, "output": 7.5}),
    # https://developers.openai.com/api/docs/pricing
    (
        "openai",
        "gpt-4o-audio-preview-2025-06-03",
        {"input": 2.5, "output": 10, "input_audio": 40, "output_audio": 80},
    ),
    (
        "openai",
        "gpt-4o-mini-audio-preview",
        {"input": 0.15, "output": 0.6, "input_audio": 10, "output_audio": 20},
    ),
    ("openai", "gpt-4o-audio-preview-2024-10-01", {"input_audio": 100, "output_audio": 200}),
    ("azure", "gpt-4o-audio-preview-2024-10-01", {"input_audio": 100, "output_audio": 200}),
    ("azure", "gpt-4o-audio-preview", {"input_audio": 40, "output_audio": 80}),
    ("azure", "gpt-4o-mini-audio-preview", {"input_audio": 10, "output_audio": 20}),
    ("openai", "gpt-5.6-cyber", {"input": 25, "cache_read": 2.5, "cache_write": 31.25, "output": 75}),
    ("openai", "gpt-6-astra-law", {"input": 10, "cache_read": 1, "output": 50}),
    ("openai", "ft:gpt-4o-2024-08-06:acme::abc", {"input": 3.75, "cache_read": 1.875, "output": 15}),
    ("openai", "ft:gpt-4o-mini-2024-07-18:acme::abc", {"input": 0.3, "cache_read": 0.15, "output": 1.2}),
    ("openai", "ft:gpt-4.1-2025-04-14:acme::abc", {"input": 3, "cache_read": 0.75, "output": 12}),
    ("openai", "ft:gpt-4.1-mini-2025-04-14:acme::abc", {"input": 0.8, "cache_read": 0.2, "output": 3.2}),
    ("openai", "ft:gpt-4.1-nano-2025-04-14:acme::abc", {"input": 0.2, "cache_read": 0.05, "output": 0.8}),
    ("openai", "ft:o4-mini-2025-04-16:acme::abc", {"input": 4, "cache_read": 1, "output": 16}),
    # https://www.together.ai/pricing
    ("together", "meta-llama/Llama-3.3-70B-Instruct-Turbo", {"input": 1.04, "output": 1.04}),
    ("together", "ricursive-ai/Ripple-65B-Preview", {"input": 0.2, "cache_read": 0.02}),
    # Prices of models under other names, on the models' pages at https://docs.mistral.ai/models.
    ("mistral", "mistral-large-latest", {"input": 0.5, "cache_read": 0.05, "output": 1.5}),
    ("mistral", "magistral-medium-latest", {"input": 1.5, "cache_read": 0.15, "output": 7.5}),
    ("mistral", "magistral-small-latest", {"input": 0.15, "cache_read": 0.015, "output": 0.6}),
    ("mistral", "codestral-latest", {"input": 0.3, "cache_read": 0.03, "output": 0.9}),
    # https://api-docs.deepseek.com/: billed as V4.1 Flash. 12:00 UTC is off-peak.
    ("deepseek", "deepseek-v4-pro", {"input": 0.15, "cache_read": 0.003, "output": 0.6}),
    # https://docs.perplexity.ai/docs/agent-api/models: another model than `sonar`.
    ("perplexity", "perplexity/sonar", {"input": 0.25, "output": 2.5}),
    ("perplexity", "sonar", {"input": 1, "output": 1}),
]


@pytest.mark.parametrize(("provider", "model", "prices"), PRICES, ids=lambda value: str(value)[:40])
def test_tokens_cost_what_the_provider_publishes(
    provider: str, model: str, prices: dict[TokenType, float]
) -> None:
    for kind, usd in prices.items():
        call = Call(
            provider=provider,
            model=model,
            operation="chat",
            started=WHEN.timestamp(),
            tokens={kind: 1_000_000},
        )
        PriceList().price(call)
        assert call.cost[kind] == usd, kind
        assert call.approximated == {}


def price_at(when: datetime) -> float:
    call = Call(
        provider="deepseek",
        model="deepseek-flash",
        operation="chat",
        started=when.timestamp(),
        tokens={"input": 1_000_000},
    )
    PriceList().price(call)
    return call.cost["input"]


def test_deepseek_has_no_peak_hours_on_weekends() -> None:
    """https://api-docs.deepseek.com/quick_start/pricing: weekends in Beijing are off-peak."""
    assert price_at(MONDAY_IN_PEAK_HOURS) == 0.3
    assert price_at(SATURDAY_IN_PEAK_HOURS) == 0.15
    # 17:00 UTC on Friday is Saturday in Beijing, and 17:00 UTC on Sunday is Monday; neither is a peak hour.
    assert price_at(datetime(2026, 11, 20, 17, tzinfo=UTC)) == 0.15


def test_a_tier_of_a_corrected_model_keeps_its_ratio_to_the_standard_price() -> None:
    call = Call(
        provider="google",
        model="gemini-3.8-flash-cyber",
        operation="chat",
        started=WHEN.timestamp(),
        tokens={"input": 1_000_000},
        batch=True,
    )
    PriceList().price(call)
    assert call.cost == {"input": 0.75}


def test_a_profile_of_govcloud_counts_as_approximate() -> None:
    """It costs more than one of the United States, and no table has its price."""
    model = "us-gov.anthropic.claude-sonnet-5"
    call = Call(
        provider="aws",
        model=model,
        requested_model=model,
        operation="chat",
        started=WHEN.timestamp(),
        tokens={"input": 1_000},
    )
    PriceList().price(call)
    assert call.approximated == {"region": 1_000}


def corrections_of(provider: str, model: str) -> list[Correction]:
    return [
        each for each in CORRECTIONS if each.provider == provider and re.fullmatch(each.model, model.lower())
    ]


CORRECTED = [(provider, model) for provider, model, _ in PRICES if corrections_of(provider, model)] + [
    ("deepseek", "deepseek-flash")
]


@pytest.mark.parametrize("correction", CORRECTIONS, ids=lambda each: f"{each.provider} {each.model}")
def test_a_correction_is_tested_and_has_a_source_and_a_date(correction: Correction) -> None:
    assert any(correction in corrections_of(provider, model) for provider, model in CORRECTED)
    assert urlsplit(correction.source).scheme == "https"
    assert date(2026, 1, 1) <= date.fromisoformat(correction.as_of) <= date(2026, 12, 31)


@pytest.mark.parametrize(("provider", "model"), CORRECTED)
def test_genai_prices_still_has_other_rates(provider: str, model: str) -> None:
    """If this fails, genai-prices agrees with the correction: remove it."""
    when = SATURDAY_IN_PEAK_HOURS
    found = genai.find_rates([(provider, model.lower())], when, {})
    published = found.standard if found else {}
    corrected = corrected_rates(provider, model.lower(), when, published)
    assert any(
        unit not in published or (published[unit].base, published[unit].tiers) != (rate.base, rate.tiers)
        for unit, rate in corrected.items()
    )
