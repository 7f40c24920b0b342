"""Fees per use, with the prices of the providers' pages worked out by hand."""

from __future__ import annotations

import re
from datetime import UTC, date, datetime
from decimal import Decimal
from urllib.parse import urlsplit

import pytest
from genai_prices.data import providers

from llm_exporter.call import Call
from llm_exporter.config.model import Prices
from llm_exporter.pricing.fees import FEES, Fee, billed_units, fee_rates
from llm_exporter.pricing.prices import PriceList

WHEN = datetime(2026, 11, 24, 12, tzinfo=UTC)

PRICES = [
    # OpenAI, https://developers.openai.com/api/docs/pricing: $10 per 1,000 searches with web_search;
    # web_search_preview costs $25 with models that do not reason, $10 with others; file search $2.50.
    ("openai", "gpt-6-astra", "web_searches", "0.01"),
    ("openai", "gpt-4.1-mini", "web_searches", "0.01"),
    ("openai", "gpt-4.1-mini", "web_search_previews", "0.025"),
    ("openai", "o4-mini", "web_search_previews", "0.01"),
    ("openai", "gpt-4o-search-preview", "web_search_previews", "0.025"),
    ("openai", "gpt-4o-mini-search-preview-2025-03-11", "web_search_previews", "0.025"),
    ("openai", "gpt-5-search-api", "web_search_previews", "0.01"),
    ("openai", "o3", "storage_searches", "0.0025"),
    # "1 GB $0.03, 4 GB $0.12, 16 GB $0.48, 64 GB $1.92 per 20-minute session per container"
    ("openai", "gpt-5", "containers_1g", "0.03"),
    ("openai", "gpt-5", "containers_4g", "0.12"),
    ("openai", "gpt-5", "containers_16g", "0.48"),
    ("openai", "gpt-5", "containers_64g", "1.92"),
    # https://developers.openai.com/api/docs/models/gpt-image-1-mini and its neighbours.
    ("openai", "gpt-image-1", "images_low_1024x1024", "0.011"),
    ("openai", "gpt-image-1", "images_high_1536x1024", "0.25"),
    ("openai", "gpt-image-1-mini", "images_medium_1024x1536", "0.015"),
    ("openai", "gpt-image-1-mini", "images_high_1024x1024", "0.036"),
    ("openai", "gpt-image-1.5-2025-12-16", "images_high_1024x1536", "0.2"),
    # https://azure.microsoft.com/en-us/pricing/details/cognitive-services/openai-service/
    ("azure", "my-deployment", "containers_1g", "0.033"),
    # Grounding with Bing: $14 per 1,000 searches.
    ("azure", "my-deployment", "web_searches", "0.014"),
    # https://platform.claude.com/docs/en/about-claude/pricing: $10 per 1,000 searches.
    ("anthropic", "claude-opus-5-5", "web_searches", "0.01"),
    ("aws", "claude-opus-5-5", "web_searches", "0.01"),
    ("google", "claude-opus-5-5@20261001", "web_searches", "0.01"),
    # https://ai.google.dev/gemini-api/docs/pricing: Search $35 for each 1,000 grounded prompts of Gemini 2,
    # $14 for each 1,000 searches of newer models; Maps $25 and $14.
    ("google", "gemini-2.5-pro", "web_searches", "0.035"),
    ("google", "gemini-live-2.5-flash-preview", "web_searches", "0.035"),
    ("google", "gemini-3.8-flash", "web_searches", "0.014"),
    ("google", "gemini-2.5-flash", "maps_searches", "0.025"),
    ("google", "gemini-4-argon", "maps_searches", "0.014"),
    # https://cloud.google.com/vertex-ai/generative-ai/pricing: Web Grounding for Enterprise costs $45 per
    # 1,000 prompts of Gemini 2, as much as Search for newer models; grounding with your data $2.50.
    ("google", "gemini-2.5-pro", "enterprise_web_searches", "0.045"),
    ("google", "gemini-3.1-pro-preview", "enterprise_web_searches", "0.014"),
    ("google", "gemini-3.8-flash", "retrievals", "0.0025"),
    # Explicit caches per million tokens and hour: $4.50 (Pro), $1 (Flash), $0.50 (3.6 to 3.8 Flash).
    ("google", "gemini-2.5-pro", "cache_token_hours", "0.0000045"),
    ("google", "gemini-3.1-pro-preview", "cache_token_hours", "0.0000045"),
    ("google", "gemini-2.5-flash", "cache_token_hours", "0.000001"),
    ("google", "gemini-2.5-flash-lite", "cache_token_hours", "0.000001"),
    ("google", "gemini-3.8-flash", "cache_token_hours", "0.0000005"),
    # https://groq.com/pricing
    ("groq", "openai/gpt-oss-120b", "web_searches", "0.005"),
    # https://docs.perplexity.ai/getting-started/pricing: per 1,000 requests $5, $8 or $12 (Sonar),
    # $6, $10 or $14 (Sonar Pro).
    ("perplexity", "sonar", "search_requests_low", "0.005"),
    ("perplexity", "sonar", "search_requests_high", "0.012"),
    ("perplexity", "sonar-pro", "search_requests_medium", "0.01"),
    ("perplexity", "sonar-reasoning-pro", "search_requests_high", "0.014"),
    # https://docs.x.ai/developers/pricing: $5 per 1,000 calls, $2.50 for collections.
    ("x-ai", "grok-4.7", "web_searches", "0.005"),
    ("x-ai", "grok-4.7", "social_searches", "0.005"),
    ("x-ai", "grok-4.7", "code_executions", "0.005"),
    ("x-ai", "grok-4.7", "storage_searches", "0.0025"),
]


@pytest.mark.parametrize(("provider", "model", "unit", "usd"), PRICES)
def test_a_fee_is_priced_as_published(provider: str, model: str, unit: str, usd: str) -> None:
    assert fee_rates(provider, model, WHEN)[unit].base == Decimal(usd)


def test_a_session_of_an_agent_costs_8_cents_an_hour() -> None:
    rate = fee_rates("anthropic", "claude-opus-5-5", WHEN)["agent_seconds"]
    assert round(rate.base * 3_600, 20) == Decimal("0.08")


def test_the_fee_of_a_container_is_an_estimate(caplog: pytest.LogCaptureFixture) -> None:
    """No response reports the minutes that OpenAI bills: the fee is that of 20 minutes."""
    prices = PriceList()
    for _ in range(2):
        call = Call(
            provider="openai",
            model="gpt-5",
            operation="chat",
            started=WHEN.timestamp(),
            tokens={"input": 1_000},
            units={"containers_4g": 2},
        )
        prices.price(call)
        assert call.cost == {"input": 0.00125, "tools": 0.24}
        assert call.approximated == {"fee": 1_000}
    assert [record.getMessage() for record in caplog.records] == [
        "llm-exporter: the responses of model 'gpt-5' of provider 'openai' do not report how much is billed "
        "for 'containers_4g': the fee is an estimate, and tokens count in llm_price_approximated_tokens_total"
    ]


@pytest.mark.parametrize(
    ("provider", "model", "unit"),
    [
        ("openai", "gpt-image-2", "images_high_1024x1024"),
        ("anthropic", "claude-opus-5-5", "code_executions"),  # the first 1,550 hours of a month are free
        ("google", "gemini-4-argon", "cache_token_hours"),  # has no explicit caches
        ("google", "gemini-3.5-flash", "cache_token_hours"),
        ("mistral", "mistral-large-4", "web_searches"),
    ],
)
def test_a_fee_without_a_published_price_has_no_rate(provider: str, model: str, unit: str) -> None:
    assert unit not in fee_rates(provider, model, WHEN)


def test_a_fee_ends_when_its_introductory_price_does() -> None:
    last, first = datetime(2026, 12, 31, 23, 59, tzinfo=UTC), datetime(2027, 1, 1, tzinfo=UTC)
    assert "cache_token_hours" in fee_rates("google", "gemini-3.8-flash", last)
    assert "cache_token_hours" not in fee_rates("google", "gemini-3.8-flash", first)


def test_a_discount_applies_to_fees() -> None:
    call = Call(
        provider="anthropic",
        model="claude-opus-5",
        operation="chat",
        started=WHEN.timestamp(),
        tokens={"input": 1_000},
        units={"web_searches": 2},
    )
    PriceList(Prices(discounts={"anthropic": Decimal("0.1")})).price(call)
    assert call.cost == {"input": 0.0045, "tools": 0.018}


def test_groq_bills_at_least_ten_seconds_of_audio() -> None:
    assert billed_units("groq", {"input_audio_seconds": 3.2})["input_audio_seconds"] == 10
    assert billed_units("groq", {"input_audio_seconds": 12.5})["input_audio_seconds"] == Decimal("12.5")
    assert billed_units("openai", {"input_audio_seconds": 3.2})["input_audio_seconds"] == Decimal("3.2")


def test_a_request_with_a_search_context_size_is_not_billed_twice() -> None:
    assert billed_units("perplexity", {}) == {"requests": 1}
    assert billed_units("perplexity", {"search_requests_low": 1}) == {"search_requests_low": 1}


@pytest.mark.parametrize("fee", FEES, ids=lambda fee: f"{fee.provider} {fee.unit} {fee.model}")
def test_a_fee_has_a_source_a_date_and_a_valid_pattern(fee: Fee) -> None:
    assert urlsplit(fee.source).scheme == "https"
    assert date(2026, 1, 1) <= date.fromisoformat(fee.as_of) <= date(2026, 12, 31)
    assert re.compile(fee.model)
    assert Decimal(fee.usd) > 0


def test_fees_agree_with_those_that_genai_prices_has() -> None:
    """A difference is an error in one of the tables."""
    compared = set()
    for provider in providers:
        for model in provider.models:
            for unit, field in (
                ("web_searches", "web_searches_kcount"),
                ("storage_searches", "storage_searches_kcount"),
            ):
                theirs = getattr(model.get_prices(WHEN), field)
                ours = fee_rates(provider.id, model.id.lower(), WHEN).get(unit)
                if ours is not None and theirs is not None:
                    assert ours.base * 1_000 == theirs, (provider.id, model.id, unit)
                    compared.add(provider.id)
    assert {"openai", "anthropic", "google"} <= compared
