"""Published multiples of the standard price: tiers, regions, batches and speeds that genai-prices lacks."""

from __future__ import annotations

import re
from dataclasses import replace
from decimal import Decimal
from typing import Final, Literal, NamedTuple

from .rates import USAGE, Rate, Rates

Modifier = Literal["tier", "region", "batch", "speed", "profile"]
"""What changes the price of a whole call. Each is also a reason in `Call.approximated`, except `profile`: a
Bedrock profile that hides the model, so that it may be a global or a regional one."""

BATCH: Final = "batch"
"""The value of the modifier `batch`."""


class Factor(NamedTuple):
    """A multiple of the standard rates. All patterns match whole values in lower case."""

    provider: str
    """The genai-prices provider id."""
    modifier: Modifier
    value: str
    """A regular expression for the value of the modifier: `flex`, `us` …"""
    model: str
    """A regular expression for the model name."""
    factor: str
    """The multiple of the standard rates, or two prices: `0.08/0.15`."""
    source: str
    """The URL of the page that publishes it."""
    as_of: str
    """The date on which the page said so."""
    units: str = ""
    """A regular expression for the genai-prices units that it applies to; "" for all tokens."""
    region: str = ".*"
    """A regular expression for the region. Calls to Vertex AI have one, those to the Gemini API have none."""

    @property
    def number(self) -> Decimal:
        """The multiple as a number."""
        price, _, standard = self.factor.partition("/")
        return Decimal(price) / Decimal(standard or 1)


_OPENAI: Final = "https://developers.openai.com/api/docs/pricing"
_RESIDENCY: Final = "https://developers.openai.com/api/docs/guides/data-residency"
_ANTHROPIC: Final = "https://platform.claude.com/docs/en/about-claude/pricing"
_GEMINI: Final = "https://ai.google.dev/gemini-api/docs/pricing"
_VERTEX: Final = "https://cloud.google.com/vertex-ai/generative-ai/pricing"
_BEDROCK: Final = "https://aws.amazon.com/bedrock/pricing/"
_AZURE: Final = "https://azure.microsoft.com/pricing/details/cognitive-services/openai-service/"
_CACHED: Final = "cache_.*"
_OLD_GEMINI: Final = r"gemini-(?:2\.5|3-|3\.1-pro).*"
_EXACT: Final = r"amazon\.nova|deepseek\.v3|minimax\.|xai\.|writer\.palmyra|zai\."
"""Models whose flex and priority prices on Bedrock are exactly half and 1.75 of the standard ones."""
_ROUNDED: Final = r"openai\.gpt-oss|google\.gemma|mistral\.|nvidia\.|qwen\."
"""Models whose batch prices on Bedrock are rounded, so that half is up to 20% off."""

FACTORS: Final = (
    # Models released on or after 2026-03-05 cost 10% more at the regional hosts.
    Factor(
        "openai",
        "region",
        ".+",
        r"gpt-(?:5\.[4-9]|[6-9]).*|gpt-realtime-2\.1.*",
        "1.1",
        _RESIDENCY,
        "2026-11-24",
    ),
    Factor(
        "openai",
        "region",
        ".+",
        r"gpt-(?:3\.5|4|4o|4\.1|5(?:\.[1-3])?)(?:-.*)?|o[134](?:-.*)?|text-embedding-.*|whisper-1|tts-1.*|dall-e-.*",
        "1",
        _RESIDENCY,
        "2026-11-24",
    ),
    Factor("openai", "tier", "ultrafast", r"gpt-6-astra.*|gpt-6\.1-sol.*", "6", _OPENAI, "2026-11-24"),
    Factor("openai", "batch", BATCH, "ft:gpt-4o-2024.*", "0.90/1.875", _OPENAI, "2026-11-24", _CACHED),
    Factor("openai", "batch", BATCH, "ft:gpt-4o-2024.*", "2.225/3.75", _OPENAI, "2026-11-24", "input_.*"),
    Factor("openai", "batch", BATCH, "ft:gpt-4o-2024.*", "12.50/15", _OPENAI, "2026-11-24", "output_.*"),
    Factor("openai", "batch", BATCH, "(?!ft:gpt-4o-2024).*", "0.5", _OPENAI, "2026-11-24"),
    Factor("anthropic", "batch", BATCH, ".*", "0.5", _ANTHROPIC, "2026-11-24"),
    Factor("anthropic", "region", "us", ".*", "1.1", _ANTHROPIC, "2026-11-24"),
    Factor("anthropic", "speed", "fast", "claude-opus-4-6.*", "6", _ANTHROPIC, "2026-07-24"),
    # Gemini: cached tokens cost the standard price up to Gemini 3.1 Pro. Some other prices are rounded.
    Factor("google", "tier", "flex", _OLD_GEMINI, "1", _GEMINI, "2026-11-24", _CACHED),
    Factor("google", "tier", "flex", "gemini-3.5-flash", "0.08/0.15", _GEMINI, "2026-11-24", _CACHED),
    Factor("google", "tier", "flex", "gemini-3.5-flash-lite", "0.02/0.03", _GEMINI, "2026-11-24", _CACHED),
    Factor("google", "tier", "flex", "gemini-.*", "0.5", _GEMINI, "2026-11-24"),
    Factor(
        "google", "tier", "priority", "gemini-3.5-flash-lite", "0.05/0.03", _GEMINI, "2026-11-24", _CACHED
    ),
    Factor(
        "google",
        "tier",
        "priority",
        "gemini-(?:2.5|3|4|flash|pro-latest|nano).*",
        "1.8",
        _GEMINI,
        "2026-11-24",
    ),
    Factor("google", "batch", BATCH, _OLD_GEMINI, "1", _GEMINI, "2026-11-24", _CACHED),
    Factor("google", "batch", BATCH, "gemini-embedding-001", "0.12/0.15", _VERTEX, "2026-11-24", region=".+"),
    Factor("google", "batch", BATCH, "gemini-.*", "0.5", _GEMINI, "2026-11-24"),
    # Vertex AI: Claude, at https://platform.claude.com/docs/en/build-with-claude/claude-on-vertex-ai, too.
    Factor("google", "batch", BATCH, "claude-.*", "0.5", _VERTEX, "2026-11-24"),
    Factor(
        "google",
        "region",
        ".+",
        r"claude-(?:opus|sonnet|haiku|fable|mythos)-(?:4-[5-9]|[5-9]).*",
        "1.1",
        _VERTEX,
        "2026-11-24",
    ),
    Factor(
        "google",
        "region",
        ".+",
        r"claude-(?:3|(?:opus|sonnet)-4(?:-[01])?(?:@|$)|4-).*",
        "1",
        _VERTEX,
        "2026-11-24",
    ),
    Factor(
        "google",
        "region",
        ".+",
        r"gemini-3\.1-flash-(?:lite|image).*|gemini-3\.5-flash-lite.*",
        "1.1",
        _VERTEX,
        "2026-11-24",
    ),
    Factor("google", "region", ".+", r"gemini-(?:1\.|2\.).*|text-.*embedding.*", "1", _VERTEX, "2026-11-24"),
    Factor("azure", "batch", BATCH, ".*", "0.5", _AZURE, "2026-11-24"),
    Factor("azure", "tier", "flex", r"gpt-(?:5\.[4-9]|[6-9]).*", "0.5", _AZURE, "2026-11-24"),
    # Bedrock: the inference profile in the model's name decides between global and regional prices. Models
    # without such a pair of prices cost more in some regions; genai-prices has their prices in the US.
    Factor("aws", "batch", BATCH, f"(?!.*(?:{_ROUNDED})).*", "0.5", _BEDROCK, "2026-11-24"),
    Factor("aws", "tier", "flex", f".*(?:{_EXACT}).*", "0.5", _BEDROCK, "2026-11-24"),
    Factor("aws", "tier", "priority", f".*(?:{_EXACT}).*", "1.75", _BEDROCK, "2026-11-24"),
    Factor("aws", "region", r"us-(?:east|west)-\d", r"(?!us-gov\.).*", "1", _BEDROCK, "2026-11-24"),
    Factor(
        "aws",
        "region",
        r"(?!us-gov-|cn-).+",
        r"(?!us-gov\.)(?:[a-z]+\.)?(?:anthropic\.|openai\.gpt-[5-9]).*|claude-.*|(?:global|us|in)\.(?:moonshotai|zai)\..*"
        r"|(?:eu|jp|apac)\.amazon\.nova-(?:micro|lite|pro|2-lite).*",
        "1",
        _BEDROCK,
        "2026-11-24",
    ),
    Factor("x-ai", "region", "us", ".*", "1.1", "https://docs.x.ai/developers/pricing", "2026-11-24"),
    Factor(
        "x-ai",
        "batch",
        BATCH,
        r"grok-4\.[237].*",
        "0.8",
        "https://docs.x.ai/developers/pricing",
        "2026-11-24",
    ),
    Factor(
        "mistral",
        "region",
        "eu|us",
        ".*",
        "1.1",
        "https://docs.mistral.ai/inference/regional-inference",
        "2026-11-24",
    ),
    Factor("mistral", "batch", BATCH, ".*", "0.5", "https://mistral.ai/pricing", "2026-11-24"),
    Factor("groq", "batch", BATCH, ".*", "0.5", "https://console.groq.com/docs/batch", "2026-11-24"),
    Factor("groq", "tier", "flex", ".*", "1", "https://console.groq.com/docs/flex-processing", "2026-11-24"),
    Factor(
        "together",
        "region",
        "us|ca",
        ".*",
        "1.25",
        "https://docs.together.ai/docs/serverless/geo-specific-inference",
        "2026-11-24",
    ),
)
"""Of several factors that match, the first for a unit applies."""

_STANDARD: Final[dict[Modifier, frozenset[str]]] = {
    "tier": frozenset(
        {
            "auto",
            "batch",  # Anthropic's name for what the modifier `batch` stands for
            "default",
            "on_demand",
            "standard",
            "standard_only",
            "unspecified",
        }
    ),
    "region": frozenset({"global", "not_available"}),
    "batch": frozenset(),
    "speed": frozenset({"normal", "standard"}),
    "profile": frozenset(),
}
"""Values that cost the standard rates everywhere."""

_ALIASES: Final = {
    "on_demand_flex": "flex",
    "on_demand_priority": "priority",
    "traffic_type_unspecified": "unspecified",
    "service_tier_unspecified": "unspecified",
}
"""Vertex AI's names: https://cloud.google.com/vertex-ai/generative-ai/docs/reference/rest/v1/GenerateContentResponse."""


def normalized(value: str) -> str:
    """Return the value of a modifier under the name that prices use."""
    value = value.lower()
    return _ALIASES.get(value, value)


def is_standard(modifier: Modifier, value: str) -> bool:
    """Return whether a value costs the standard rates at any provider."""
    return value in _STANDARD[modifier]


def factors_for(provider: str, modifier: Modifier, value: str, model: str, region: str = "") -> list[Factor]:
    """Return the published factors of a modifier; empty if none is known.

    Args:
        provider: the provider id.
        modifier: the modifier.
        value: its value, normalized.
        model: the canonical model name.
        region: the region of the call, in lower case; "" if it has none.
    """
    return [
        factor
        for factor in FACTORS
        if (factor.provider, factor.modifier) == (provider, modifier)
        and re.fullmatch(factor.value, value)
        and re.fullmatch(factor.model, model)
        and re.fullmatch(factor.region, region)
    ]


def with_factors(rates: Rates, factors: list[Factor]) -> Rates:
    """Return rates with those of tokens multiplied by the first factor that applies to their unit."""
    result = dict(rates)
    for unit in USAGE.intersection(rates):
        for factor in factors:
            if not factor.units or re.fullmatch(factor.units, unit):
                result[unit] = rates[unit].times(factor.number)
                break
    return result


_WRITE: Final = "cache_text_write_5m_tokens"
_LONG_WRITE: Final = "cache_text_write_12h_tokens"
_LONG_WRITES: Final = {"openai": "2"}
"""What a 12-hour cache write costs in short ones: https://developers.openai.com/api/docs/pricing (2026-11-24)
lists 2.5 times the input price, and 1.25 times for short ones."""


def with_long_writes(provider: str, rates: Rates) -> Rates:
    """Return rates with one for 12-hour cache writes, which genai-prices does not have."""
    if (short := rates.get(_WRITE)) is None or _LONG_WRITE in rates:
        return rates
    factor = _LONG_WRITES.get(provider)
    if factor is None or "write" not in short.origin:
        return {**rates, _LONG_WRITE: short}
    return {**rates, _LONG_WRITE: replace(short.times(Decimal(factor)), origin=_LONG_WRITE)}


class SameAsText(NamedTuple):
    """A provider that publishes one price for text and for other modalities."""

    provider: str
    unit: str
    """A regular expression for the genai-prices unit of the modality."""
    model: str
    """A regular expression for the model name."""
    source: str


SAME_AS_TEXT: Final = (
    # The price of text, image, video and audio is one number, or audio has its own.
    SameAsText("google", "input_(?:audio|image|video)_tokens|cache_.*", ".*", _GEMINI),
    SameAsText("google", "output_audio_tokens", ".*-tts.*", _GEMINI),
    # These models generate nothing but images or audio.
    SameAsText("openai", "output_image_tokens", r"gpt-image-(?:1|1-mini|2|2\.5-.*)(?:-\d{4}-.*)?", _OPENAI),
    SameAsText("openai", "output_audio_tokens", ".*-tts.*", _OPENAI),
    SameAsText("azure", "output_image_tokens", r"gpt-image-(?:1|1-mini|2|2\.5-.*)(?:-\d{4}-.*)?", _OPENAI),
    SameAsText("azure", "output_audio_tokens", ".*-tts.*", _OPENAI),
    SameAsText("anthropic", "input_image_tokens", ".*", _ANTHROPIC),
    SameAsText(
        "x-ai",
        "input_image_tokens|cache_image_.*",
        ".*",
        "https://docs.x.ai/docs/key-information/consumption-and-rate-limits",
    ),
    SameAsText(
        "x-ai",
        "input_audio_tokens|cache_audio_.*",
        ".*",
        "https://docs.x.ai/docs/key-information/consumption-and-rate-limits",
    ),
    SameAsText(
        "openai",
        "input_image_tokens|cache_image_.*",
        "(?!.*image|.*realtime|.*audio).*",
        "https://developers.openai.com/api/docs/guides/images-vision",
    ),
    SameAsText(
        "azure",
        "input_image_tokens|cache_image_.*",
        "(?!.*image|.*realtime|.*audio).*",
        "https://developers.openai.com/api/docs/guides/images-vision",
    ),
)

_MODALITIES: Final = re.compile(r"audio|image|video")
_LIFETIMES: Final = re.compile(r"1h|12h")


def lacks_modality(provider: str, model: str, unit: str, rate: Rate) -> bool:
    """Return whether a rate is that of text although the unit is another modality with a price of its own."""
    modality = _MODALITIES.search(unit)
    if modality is None or not rate.origin or modality[0] in rate.origin:
        return False
    return not any(
        same.provider == provider and re.fullmatch(same.unit, unit) and re.fullmatch(same.model, model)
        for same in SAME_AS_TEXT
    )


def lacks_lifetime(unit: str, rate: Rate) -> bool:
    """Return whether a rate is that of another cache lifetime than the unit's."""
    lifetime = _LIFETIMES.search(unit)
    return lifetime is not None and bool(rate.origin) and lifetime[0] not in rate.origin
