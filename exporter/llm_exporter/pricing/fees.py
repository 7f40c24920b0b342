"""Fees per use that genai-prices does not have, or has only for some models."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from decimal import Decimal
from typing import Final, NamedTuple

from .rates import FEE_TYPES, TOOLS, Rate, Rates


class Fee(NamedTuple):
    """The price of using a unit. It replaces the fee of genai-prices, if there is one."""

    provider: str
    """The genai-prices provider id."""
    unit: str
    """The unit, as in `Call.units`."""
    model: str
    """A regular expression for the whole model name, in lower case. The first match of a unit applies."""
    usd: str
    """USD for `per` uses."""
    per: int
    source: str
    """The URL of the provider's page."""
    as_of: str
    """The date on which the page had this price."""
    until: str = ""
    """The date from which the price no longer applies, in UTC."""
    approximate: bool = False
    """Whether the provider bills by something that its response does not report."""


_OPENAI: Final = "https://developers.openai.com/api/docs/pricing"
_OPENAI_MODELS: Final = "https://developers.openai.com/api/docs/models"
_AZURE: Final = "https://azure.microsoft.com/en-us/pricing/details/cognitive-services/openai-service/"
_BING: Final = "https://www.microsoft.com/en-us/bing/apis/grounding-pricing"
_ANTHROPIC: Final = "https://platform.claude.com/docs/en/about-claude/pricing"
_GEMINI: Final = "https://ai.google.dev/gemini-api/docs/pricing"
_VERTEX: Final = "https://cloud.google.com/vertex-ai/generative-ai/pricing"
_GROQ: Final = "https://groq.com/pricing"
_PERPLEXITY: Final = "https://docs.perplexity.ai/getting-started/pricing"
_XAI: Final = "https://docs.x.ai/developers/pricing"

_ANY: Final = r".*"
_NOT_REASONING: Final = r"gpt-4o.*|gpt-4\.1.*|chatgpt-4o.*"
_GEMINI_2: Final = r"gemini-(?:live-)?2.*"
_GEMINI_PRO: Final = r"gemini-(?:2\.5|3(?:\.1)?)-pro(?!.*(?:image|tts)).*"
_GEMINI_FLASH: Final = r"gemini-(?:2\.5-flash|3-flash|3\.1-flash-lite)(?!.*(?:image|tts|audio|live)).*"
_GEMINI_FLASH_3_6: Final = r"gemini-3\.[678]-flash(?!.*(?:image|tts|cyber)).*"

_SIZES: Final = ("1024x1024", "1024x1536", "1536x1024")
_IMAGES: Final = (
    (
        "gpt-image-1",
        "gpt-image-1",
        {"low": ("0.011", "0.016"), "medium": ("0.042", "0.063"), "high": ("0.167", "0.25")},
    ),
    (
        "gpt-image-1-mini",
        "gpt-image-1-mini",
        {"low": ("0.005", "0.006"), "medium": ("0.011", "0.015"), "high": ("0.036", "0.052")},
    ),
    (
        "gpt-image-1.5",
        r"gpt-image-1\.5",
        {"low": ("0.009", "0.013"), "medium": ("0.034", "0.05"), "high": ("0.133", "0.2")},
    ),
)
"""The page and the name of each model, and USD per image by quality: square ones and larger ones. OpenAI's
pages of newer models have no prices per image."""

FEES: Final[tuple[Fee, ...]] = (
    # The preview tool costs more for models that do not reason. Search models always search with it.
    Fee("openai", "web_searches", _ANY, "10", 1_000, _OPENAI, "2026-10-12"),
    Fee("openai", "web_search_previews", _NOT_REASONING, "25", 1_000, _OPENAI, "2026-10-12"),
    Fee("openai", "web_search_previews", _ANY, "10", 1_000, _OPENAI, "2026-10-12"),
    Fee("openai", "storage_searches", _ANY, "2.50", 1_000, _OPENAI, "2026-10-12"),
    # Per session of 20 minutes. Most sessions are billed by the minute, and at least five minutes, since
    # 2026-06-02 (https://developers.openai.com/api/docs/changelog). No response says how long one lasts.
    *(
        Fee("openai", f"containers_{memory}", _ANY, usd, 1, _OPENAI, "2026-08-04", approximate=True)
        for memory, usd in (("1g", "0.03"), ("4g", "0.12"), ("16g", "0.48"), ("64g", "1.92"))
    ),
    *(
        Fee(
            "openai",
            f"images_{quality}_{size}",
            rf"{model}(?:-\d{{4}}-\d\d-\d\d)?",
            prices[size != _SIZES[0]],
            1,
            f"{_OPENAI_MODELS}/{page}",
            "2026-11-24",
        )
        for page, model, qualities in _IMAGES
        for quality, prices in qualities.items()
        for size in _SIZES
    ),
    # Azure searches with Bing, except for Claude.
    Fee("azure", "web_searches", r"claude.*", "10", 1_000, _ANTHROPIC, "2026-11-24"),
    Fee("azure", "web_searches", _ANY, "14", 1_000, _BING, "2026-09-07"),
    Fee("azure", "web_search_previews", _ANY, "14", 1_000, _BING, "2026-09-07"),
    Fee("azure", "containers_1g", _ANY, "0.033", 1, _AZURE, "2026-11-24"),
    Fee("anthropic", "web_searches", _ANY, "10", 1_000, _ANTHROPIC, "2026-10-14"),
    Fee("anthropic", "agent_seconds", _ANY, "0.08", 3_600, _ANTHROPIC, "2026-04-08"),
    # Claude Platform on AWS. Claude on Bedrock does not search.
    Fee("aws", "web_searches", r".*claude.*", "10", 1_000, _ANTHROPIC, "2026-10-14"),
    Fee("aws", "agent_seconds", r".*claude.*", "0.08", 3_600, _ANTHROPIC, "2026-04-08"),
    Fee("google", "web_searches", r"claude.*", "10", 1_000, _VERTEX, "2026-11-24"),
    Fee("google", "web_searches", _GEMINI_2, "35", 1_000, _GEMINI, "2026-10-14"),
    Fee("google", "web_searches", r"gemini.*", "14", 1_000, _GEMINI, "2026-10-14"),
    Fee("google", "enterprise_web_searches", _GEMINI_2, "45", 1_000, _VERTEX, "2026-11-24"),
    Fee("google", "enterprise_web_searches", r"gemini.*", "14", 1_000, _VERTEX, "2026-11-24"),
    Fee("google", "retrievals", r"gemini.*", "2.50", 1_000, _VERTEX, "2026-11-24"),
    Fee("google", "maps_searches", _GEMINI_2, "25", 1_000, _GEMINI, "2026-11-24"),
    Fee("google", "maps_searches", r"gemini.*", "14", 1_000, _GEMINI, "2026-11-24"),
    Fee("google", "cache_token_hours", r"gemini-2\.5-flash-lite.*", "1", 1_000_000, _GEMINI, "2026-11-24"),
    Fee("google", "cache_token_hours", _GEMINI_PRO, "4.50", 1_000_000, _GEMINI, "2026-11-24"),
    Fee("google", "cache_token_hours", _GEMINI_FLASH, "1", 1_000_000, _GEMINI, "2026-11-24"),
    Fee(
        "google",
        "cache_token_hours",
        _GEMINI_FLASH_3_6,
        "0.50",
        1_000_000,
        _GEMINI,
        "2026-10-14",
        "2027-01-01",
    ),
    Fee("groq", "web_searches", r"(?:openai/)?gpt-oss.*", "5", 1_000, _GROQ, "2026-11-24"),
    # Per request, by `search_context_size`. These are the last published rates.
    *(
        Fee("perplexity", f"search_requests_{size}", model, usd, 1_000, _PERPLEXITY, "2026-09-27")
        for model, prices in (
            (r"sonar|sonar-reasoning", ("5", "8", "12")),
            (r"sonar-pro|sonar-reasoning-pro", ("6", "10", "14")),
        )
        for size, usd in zip(("low", "medium", "high"), prices, strict=True)
    ),
    Fee("x-ai", "web_searches", _ANY, "5", 1_000, _XAI, "2026-11-24"),
    Fee("x-ai", "social_searches", _ANY, "5", 1_000, _XAI, "2026-11-24"),
    Fee("x-ai", "code_executions", _ANY, "5", 1_000, _XAI, "2026-11-24"),
    Fee("x-ai", "storage_searches", _ANY, "2.50", 1_000, _XAI, "2026-11-24"),
)

_MINIMUM: Final = {("groq", "input_audio_seconds"): Decimal(10)}
"""The smallest number of uses that a provider bills for a request.

Groq bills at least 10 seconds of audio: https://console.groq.com/docs/speech-to-text (2026-11-24).
"""


def fee_rates(provider: str, model: str, when: datetime | None = None) -> Rates:
    """Return our fees for a model, by unit.

    Args:
        provider: the provider id.
        model: the model name, in lower case, without a vendor prefix.
        when: when the call was made; now if None.
    """
    day = (when or datetime.now(UTC)).astimezone(UTC).date().isoformat()
    rates: dict[str, Rate] = {}
    for fee in FEES:
        if (
            fee.provider == provider
            and re.fullmatch(fee.model, model)
            and not (fee.until and day >= fee.until)
        ):
            rates.setdefault(fee.unit, Rate(Decimal(fee.usd) / fee.per, approximate=fee.approximate))
    return rates


def billed_units(provider: str, units: Mapping[str, float]) -> dict[str, Decimal]:
    """Return how many uses of each unit a provider bills for one request, the request itself included.

    Args:
        provider: the provider id.
        units: the units that the request used, as in `Call.units`.
    """
    billed = {
        unit: max(Decimal(str(used)), _MINIMUM.get((provider, unit), Decimal(0)))
        for unit, used in units.items()
    }
    # The table's price of a Perplexity request is that of the largest search context size.
    if not any(unit.startswith("search_requests_") for unit in units):
        billed["requests"] = Decimal(1)
    return billed


def cost_type(unit: str) -> str:
    """Return the cost type of a fee for this unit."""
    return FEE_TYPES.get(unit, TOOLS)
