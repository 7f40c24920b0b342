"""Prices of calls that a tier, region, batch, speed, modality or cache lifetime changes, worked out by hand.

Each row names the page that its price per million tokens is from.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import pytest

from llm_exporter.call import Call, TokenType
from llm_exporter.pricing.prices import PriceList

WHEN = datetime(2026, 11, 24, 12, tzinfo=UTC).timestamp()

BEDROCK = "https://aws.amazon.com/bedrock/pricing/"
GEMINI = "https://ai.google.dev/gemini-api/docs/pricing"
VERTEX = "https://cloud.google.com/vertex-ai/generative-ai/pricing"
OPENAI = "https://developers.openai.com/api/docs/pricing"
RESIDENCY = "https://developers.openai.com/api/docs/guides/data-residency"
ANTHROPIC = "https://platform.claude.com/docs/en/about-claude/pricing"
AZURE = "https://azure.microsoft.com/pricing/details/cognitive-services/openai-service/"
XAI = "https://docs.x.ai/developers/pricing"

M = 1_000_000


@dataclass(frozen=True)
class Row:
    """A call, its cost in USD by type and the page with the price."""

    id: str
    provider: str
    model: str
    source: str
    tokens: dict[TokenType, int]
    cost: dict[str, float]
    approximated: tuple[str, ...] = ()
    call: dict[str, Any] = field(default_factory=dict)


def row(
    id_: str,
    name: str,
    source: str,
    prices: dict[str, float],
    approximated: tuple[str, ...] = (),
    **call: Any,
) -> Row:
    """Return a row of a million tokens of each type: the cost is the price."""
    provider, _, model = name.partition(" ")
    tokens: dict[Any, int] = {kind: M for kind in prices if kind != "tools"}
    return Row(id_, provider, model, source, tokens, prices, approximated, call)


PROFILE = "arn:aws:bedrock:us-east-1:1:inference-profile/"
HIDDEN = "arn:aws:bedrock:us-east-1:1:application-inference-profile/a1b2"
PROVISIONED = "arn:aws:bedrock:us-east-1:1:provisioned-model/a1b2"
OPUS = "aws claude-opus-4-7"
GLOBAL_OPUS = {"input": 5.0, "cache_read": 0.5, "output": 25.0}
REGIONAL_OPUS = {"input": 5.5, "cache_read": 0.55, "output": 27.5}

ROWS = [
    # Bedrock: the requested inference profile decides.
    row("global profile", OPUS, BEDROCK, GLOBAL_OPUS, requested_model="global.anthropic.claude-opus-4-7"),
    row("US profile", OPUS, BEDROCK, REGIONAL_OPUS, requested_model="us.anthropic.claude-opus-4-7-v1:0"),
    row(
        "EU profile in an EU region",
        OPUS,
        BEDROCK,
        REGIONAL_OPUS,
        requested_model="eu.anthropic.claude-opus-4-7-v1:0",
        region="eu-central-1",
    ),
    row(
        "in-region model",
        OPUS,
        BEDROCK,
        REGIONAL_OPUS,
        requested_model="anthropic.claude-opus-4-7",
        region="us-east-1",
    ),
    row(
        "ARN of a global profile",
        OPUS,
        BEDROCK,
        GLOBAL_OPUS,
        requested_model=f"{PROFILE}global.anthropic.claude-opus-4-7-v1:0",
        region="us-east-1",
    ),
    row("ARN of an application profile", OPUS, BEDROCK, REGIONAL_OPUS, ("region",), requested_model=HIDDEN),
    row("provisioned model", OPUS, BEDROCK, REGIONAL_OPUS, ("tier",), requested_model=PROVISIONED),
    row(
        "GovCloud",
        OPUS,
        BEDROCK,
        REGIONAL_OPUS,
        ("region",),
        requested_model="us-gov.anthropic.claude-opus-4-7",
        region="us-gov-west-1",
    ),
    row(
        "Bedrock batch",
        OPUS,
        BEDROCK,
        {"input": 2.5, "output": 12.5},
        requested_model="global.anthropic.claude-opus-4-7",
        batch=True,
    ),
    row(
        "Bedrock Mantle, in-region OpenAI model",
        "aws openai.gpt-6.1-sol",
        BEDROCK,
        # more than 272,000 input tokens: input twice, output 1.5 times $2.20 and $11
        {"input": 4.4, "output": 16.5},
        requested_model="openai.gpt-6.1-sol",
        region="us-east-1",
    ),
    row(
        "Bedrock Mantle, model without version",
        "aws openai.gpt-oss-120b",
        BEDROCK,
        {"input": 0.15, "output": 0.6},
        region="us-east-1",
    ),
    row(
        "Bedrock priority",
        "aws amazon.nova-pro-v1:0",
        BEDROCK,
        {"input": 1.4, "output": 5.6},
        requested_model="us.amazon.nova-pro-v1:0",
        service_tier="priority",
        region="us-east-1",
    ),
    row(
        "Bedrock model whose price differs by region",
        "aws amazon.nova-pro-v1:0",
        BEDROCK,
        {"input": 0.8, "output": 3.2},
        ("region",),
        region="eu-west-1",
    ),
    row("Bedrock reserved", OPUS, BEDROCK, REGIONAL_OPUS, ("tier",), service_tier="reserved"),
    # Gemini
    row(
        "Gemini flex",
        "google gemini-2.5-flash",
        GEMINI,
        {"input": 0.15, "input_audio": 0.5, "cache_read": 0.03, "output": 1.25},
        service_tier="flex",
    ),
    row(
        "Gemini flex with cached tokens at half",
        "google gemini-3.8-flash",
        GEMINI,
        {"input": 0.375, "cache_read": 0.0375, "output": 1.875},
        service_tier="flex",
    ),
    row(
        "Gemini flex with a rounded price",
        "google gemini-3.5-flash-lite",
        GEMINI,
        {"input": 0.15, "cache_read": 0.02, "output": 1.25},
        service_tier="flex",
    ),
    row(
        "Gemini priority",
        "google gemini-2.5-flash",
        GEMINI,
        {"input": 0.54, "input_audio": 1.8, "cache_read": 0.054, "output": 4.5},
        service_tier="priority",
    ),
    row(
        "Vertex AI flex",
        "google gemini-2.5-flash",
        VERTEX,
        {"input": 0.15, "output": 1.25},
        service_tier="ON_DEMAND_FLEX",
        region="global",
    ),
    row(
        "Vertex AI priority",
        "google gemini-2.5-flash",
        VERTEX,
        {"input": 0.54, "output": 4.5},
        service_tier="ON_DEMAND_PRIORITY",
    ),
    row("Vertex AI on demand", "google gemini-2.5-flash", VERTEX, {"input": 0.3}, service_tier="ON_DEMAND"),
    row(
        "Vertex AI provisioned throughput",
        "google gemini-2.5-flash",
        VERTEX,
        {"input": 0.3},
        ("tier",),
        service_tier="PROVISIONED_THROUGHPUT",
    ),
    row(
        "Gemini batch of the table",
        "google gemini-3.8-flash",
        GEMINI,
        {"input": 0.375, "output": 1.875},
        batch=True,
    ),
    row(
        "Gemini batch that the table lacks",
        "google gemini-3-flash-preview",
        GEMINI,
        {"input": 0.25, "cache_read": 0.05, "output": 1.5},
        batch=True,
        started=datetime(2026, 9, 1, tzinfo=UTC).timestamp(),  # the table's price begins on 2026-10-14
    ),
    row(
        "Gemini embeddings in a batch",
        "google gemini-embedding-001",
        GEMINI,
        {"input": 0.075},
        batch=True,
    ),
    row(
        "Gemini embeddings in a batch of Vertex AI",
        "google gemini-embedding-001",
        VERTEX,
        {"input": 0.12},
        batch=True,
        region="global",
    ),
    # OpenAI
    row(
        "ultrafast",
        "openai gpt-6-astra",
        OPENAI,
        # more than 272,000 input tokens: input and cache twice, output 1.5 times
        {"input": 120.0, "cache_read": 12.0, "output": 450.0},
        service_tier="ultrafast",
    ),
    row(
        "ultrafast preview without a price",
        "openai gpt-5.6-sol",
        OPENAI,
        {"output": 20.0},
        ("tier",),
        service_tier="ultrafast",
    ),
    row("scale", "openai gpt-6.1-terra", OPENAI, {"output": 5.0}, ("tier",), service_tier="scale"),
    row("new tier", "openai gpt-6.1-terra", OPENAI, {"output": 5.0}, ("tier",), service_tier="warp"),
    row("default tier", "openai gpt-6.1-terra", OPENAI, {"output": 5.0}, service_tier="default"),
    row(
        "regional host, with flex",
        "openai gpt-6.1-terra",
        RESIDENCY,
        {"output": 2.75},
        service_tier="flex",
        region="eu",
    ),
    row("regional host, older model", "openai gpt-5.2", RESIDENCY, {"input": 1.75}, region="us"),
    row(
        "regional host, unknown surcharge",
        "openai gpt-image-2",
        RESIDENCY,
        {"input": 5.0},
        ("region",),
        region="us",
    ),
    row(
        "OpenAI batch that the table lacks",
        "openai text-embedding-3-small",
        OPENAI,
        {"input": 0.01},
        batch=True,
    ),
    row(
        "fine-tuned gpt-4o in a batch",
        "openai ft:gpt-4o-2024-08-06:acme::1",
        OPENAI,
        {"input": 2.225, "cache_read": 0.9, "output": 12.5},
        batch=True,
    ),
    # Resellers
    row("Azure batch", "azure gpt-5", AZURE, {"input": 0.625, "output": 5.0}, batch=True),
    row("Azure priority", "azure gpt-5", AZURE, {"input": 2.5, "output": 20.0}, service_tier="priority"),
    row("Azure Government", "azure gpt-5", AZURE, {"input": 1.25}, ("region",), region="us"),
    row("Azure priority, GPT-5 mini", "azure gpt-5-mini", AZURE, {"input": 0.45}, service_tier="priority"),
    row(
        "Vertex AI Claude batch", "google claude-opus-4-7", VERTEX, {"input": 2.5, "output": 12.5}, batch=True
    ),
    row("Vertex AI Claude in a region", "google claude-opus-4-7", VERTEX, REGIONAL_OPUS, region="us-east5"),
    row("Vertex AI Claude, global", "google claude-opus-4-7", VERTEX, GLOBAL_OPUS, region="global"),
    row(
        "Vertex AI Claude by version in a multi-region",
        "google claude-haiku-4-5@20251001",
        VERTEX,
        {"input": 1.1, "output": 5.5},
        region="eu",
    ),
    row(
        "Vertex AI, older Claude in a region",
        "google claude-3-5-haiku@20241022",
        VERTEX,
        {"input": 0.8},
        region="us-east5",
    ),
    row("Vertex AI Claude fast", "google claude-opus-4-7", VERTEX, {"input": 5.0}, ("speed",), speed="fast"),
    row(
        "Vertex AI Gemini in a region",
        "google gemini-3.5-flash-lite",
        VERTEX,
        {"output": 2.75},
        region="us-central1",
    ),
    row(
        "Vertex AI Gemini 2.5 in a region",
        "google gemini-2.5-flash",
        VERTEX,
        {"output": 2.5},
        region="us-central1",
    ),
    row("xAI in the US", "x-ai grok-4.6", XAI, {"output": 13.2 / 2}, region="us"),
    row("xAI in another region", "x-ai grok-4.6", XAI, {"output": 6.0}, ("region",), region="eu-west-1"),
    row(
        "Mistral in the EU",
        "mistral codestral-2508",
        "https://docs.mistral.ai/inference/regional-inference",
        {"input": 0.33, "cache_read": 0.033, "output": 0.99},
        region="eu",
    ),
    row(
        "Claude in the US", "anthropic claude-opus-5", ANTHROPIC, {"input": 5.5, "output": 27.5}, region="us"
    ),
    row(
        "Claude in the US, fast",
        "anthropic claude-opus-5",
        ANTHROPIC,
        {"input": 11.0, "cache_write": 13.75, "cache_write_1h": 22.0, "output": 55.0},
        region="us",
        speed="fast",
    ),
    row(
        "older Claude without a region",
        "anthropic claude-haiku-4-5",
        ANTHROPIC,
        {"input": 1.0},
        region="not_available",
    ),
    row(
        "Claude's priority tier is prepaid",
        "anthropic claude-sonnet-4-6",
        ANTHROPIC,
        {"input": 3.0},
        ("tier",),
        service_tier="priority",
    ),
    # Modalities
    row(
        "audio of gpt-4o-audio-preview",
        "openai gpt-4o-audio-preview-2024-12-17",
        "https://platform.openai.com/docs/models/gpt-4o-audio-preview",
        {"input": 2.5, "input_audio": 40.0, "output": 10.0, "output_audio": 80.0},
    ),
    row(
        "audio of gpt-4o-mini-audio-preview",
        "openai gpt-4o-mini-audio-preview",
        "https://platform.openai.com/docs/models/gpt-4o-mini-audio-preview",
        {"input_audio": 10.0, "output_audio": 20.0},
    ),
    row(
        "cached tokens of a fine-tuned gpt-4o",
        "openai ft:gpt-4o-2024-08-06:acme::1",
        OPENAI,
        {"input": 3.75, "cache_read": 1.875, "output": 15.0},
    ),
    row(
        "cached tokens of codestral-latest",
        "mistral codestral-latest",
        "https://docs.mistral.ai/models/model-cards/codestral-25-08",
        {"input": 0.3, "cache_read": 0.03},
    ),
    row(
        "cached tokens of a Gemini image model",
        "google gemini-2.5-flash-image",
        GEMINI,
        {"input": 0.3, "cache_read": 0.03, "output_image": 30.0},
    ),
    row("images of gpt-image-1", "openai gpt-image-1", OPENAI, {"input_image": 10.0, "output_image": 40.0}),
    row("images for Gemini", "google gemini-2.5-flash", GEMINI, {"input_image": 0.3, "input_video": 0.3}),
    row("speech of Gemini", "google gemini-2.5-flash-tts", GEMINI, {"output_audio": 10.0}),
    row(
        "audio of a model without a price for it",
        "openai gpt-4o",
        OPENAI,
        {"output_audio": 10.0},
        ("modality",),
    ),
    # Lifetimes
    row(
        "twelve-hour cache writes",
        "openai gpt-6-cyber",
        OPENAI,
        {"cache_write": 25, "cache_write_12h": 50},
    ),
    row(
        "one-hour cache writes without a price",
        "aws global.anthropic.claude-sonnet-4-20250514-v1:0",
        BEDROCK,
        {"cache_write_1h": 3.75},
        ("lifetime",),
    ),
    # Names
    row(
        "Vercel, dots for dashes",
        "vercel anthropic/claude-opus-4.7",
        "https://vercel.com/docs/ai-gateway/pricing",
        GLOBAL_OPUS,
    ),
    row(
        "Vercel, xAI",
        "vercel xai/grok-4.1-fast",
        "https://vercel.com/docs/ai-gateway/pricing",
        {"input": 0.2, "output": 0.5},
    ),
    row("xAI alias with dots", "x-ai grok-4.1-fast", XAI, {"input": 0.2, "cache_read": 0.05, "output": 0.5}),
    row(
        "OpenRouter, fastest provider",
        "openrouter openai/gpt-4o:nitro",
        "https://openrouter.ai/openai/gpt-4o",
        {"input": 2.5, "output": 10.0},
    ),
    row(
        "OpenRouter, free",
        "openrouter deepseek/deepseek-r1:free",
        "https://openrouter.ai/models?q=free",
        {"input": 0.0, "output": 0.0},
    ),
    row("Gemini with a path", "google publishers/google/models/gemini-2.5-flash", GEMINI, {"input": 0.3}),
    row("capitals", "openai GPT-4o", OPENAI, {"input": 2.5}),
    # Fees
    row(
        "Perplexity with a small search context",
        "perplexity sonar",
        "https://docs.perplexity.ai/getting-started/pricing",
        {"input": 1.0, "output": 1.0, "tools": 0.005},
        units={"search_requests_low": 1},
    ),
    row(
        "a fee without a price", "openai gpt-4o", OPENAI, {"input": 2.5}, ("fee",), units={"laser_minutes": 2}
    ),
]


@pytest.mark.parametrize("expected", ROWS, ids=[each.id for each in ROWS])
def test_a_call_costs_what_the_provider_publishes(expected: Row) -> None:
    call = Call(
        provider=expected.provider,
        model=expected.model,
        operation="chat",
        tokens=expected.tokens,
        **{"started": WHEN, **expected.call},
    )
    PriceList().price(call)
    assert call.cost == expected.cost
    assert tuple(call.approximated) == expected.approximated
    assert call.unpriced_tokens == 0


def test_each_price_names_its_page() -> None:
    assert all(each.source.startswith("https://") for each in ROWS)
    assert len({each.id for each in ROWS}) == len(ROWS)


@pytest.mark.parametrize("expected", [each for each in ROWS if each.approximated], ids=lambda each: each.id)
def test_approximate_tokens_are_counted(expected: Row) -> None:
    call = Call(
        provider=expected.provider,
        model=expected.model,
        operation="chat",
        tokens=expected.tokens,
        **{"started": WHEN, **expected.call},
    )
    PriceList().price(call)
    (counted,) = call.approximated.values()
    assert counted == call.total_tokens
