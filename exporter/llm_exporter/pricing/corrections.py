"""Corrections of published price tables, until genai-prices has the same prices."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from typing import Final, NamedTuple

from .rates import UNITS, Rate, Rates


class Correction(NamedTuple):
    """Rates of a model that genai-prices lacks or has wrongly."""

    provider: str
    """The genai-prices provider id."""
    model: str
    """A regular expression for the whole model name, in lower case."""
    usd_per_million: Mapping[str, str | tuple[str, int, str]]
    """USD per million tokens by genai-prices unit, at the standard tier: a price, or a price, a number
    of prompt tokens, and the price for longer prompts.

    `input_tokens`, `output_tokens`, `cache_read_tokens` and `cache_write_tokens` apply to all units within
    them that have no separate rate. Units that are not named keep their rates.
    """
    source: str
    """The URL of the provider's page."""
    as_of: str
    """The date on which the page had these prices."""
    when: Callable[[datetime], bool] = lambda _: True
    """Whether the rates apply to a call that was made at this time, in UTC."""


_OPENAI: Final = "https://developers.openai.com/api/docs/pricing"
_VERTEX: Final = "https://cloud.google.com/vertex-ai/generative-ai/pricing"
_DEEPSEEK: Final = "https://api-docs.deepseek.com/quick_start/pricing"
_DEEPSEEK_FLASH_SINCE: Final = datetime(2026, 9, 10, tzinfo=UTC)


def _on_weekend_in_beijing(when: datetime) -> bool:
    """Return whether DeepSeek bills a call off-peak all day: https://api-docs.deepseek.com/quick_start/pricing."""
    beijing = when.astimezone(timezone(timedelta(hours=8)))
    return when >= _DEEPSEEK_FLASH_SINCE and beijing.weekday() >= 5


_BEDROCK: Final = "https://aws.amazon.com/bedrock/pricing/"
_AZURE: Final = "https://prices.azure.com/api/retail/prices"

CORRECTIONS: Final[tuple[Correction, ...]] = (
    *(
        Correction(
            "anthropic",
            model,
            {
                "input_tokens": "10",
                "cache_read_tokens": cache_read,
                "cache_write_tokens": "12.5",
                "cache_text_write_1h_tokens": "20",
                "output_tokens": "50",
            },
            "https://platform.claude.com/docs/en/about-claude/pricing",
            "2026-11-24",
        )
        for model, cache_read in ((r"claude-mythos-(?:5|preview)", "1"), (r"claude-mythos-5-1", "0.25"))
    ),
    # Nova costs more in Europe and Asia. genai-prices has the prices of the US.
    *(
        Correction(
            "aws",
            rf"{profile}\.amazon\.nova-{model}.*",
            {"input_tokens": usd[0], "cache_read_tokens": usd[1], "output_tokens": usd[2]},
            _BEDROCK,
            "2026-11-24",
        )
        for profile, model, usd in (
            ("eu", "micro", ("0.046", "0.0115", "0.184")),
            ("eu", "lite", ("0.078", "0.0195", "0.312")),
            ("eu", "pro", ("1.05", "0.2625", "4.2")),
            ("eu", "2-lite", ("0.429", "0.10725", "3.597")),
            ("jp", "2-lite", ("0.396", "0.099", "3.311")),
            ("apac", "micro", ("0.037", "0.00925", "0.148")),
            ("apac", "lite", ("0.063", "0.01575", "0.252")),
            ("apac", "pro", ("0.84", "0.21", "3.36")),
        )
    ),
    *(
        Correction(
            "aws",
            rf"openai\.gpt-{version}",
            {
                "input_tokens": (usd[0], 272_000, usd[1]),
                "cache_read_tokens": (usd[2], 272_000, usd[3]),
                "output_tokens": (usd[4], 272_000, usd[5]),
            },
            f"https://docs.aws.amazon.com/bedrock/latest/userguide/model-card-openai-gpt-{page}.html",
            "2026-11-24",
        )
        for version, page, usd in (
            (r"5\.4", "54", ("2.75", "5.5", "0.275", "0.55", "16.5", "24.75")),
            (r"5\.5", "55", ("5.5", "11", "0.55", "1.1", "33", "49.5")),
        )
    ),
    # genai-prices has the prices of the vendors for these.
    *(
        Correction("azure", model, rates, _AZURE, "2026-11-24")
        for model, rates in (
            (
                r"deepseek-v4-pro",
                {"input_tokens": "1.74", "cache_read_tokens": "0.145", "output_tokens": "3.48"},
            ),
            (
                r"deepseek-v4-flash",
                {"input_tokens": "0.19", "cache_read_tokens": "0.028", "output_tokens": "0.51"},
            ),
            (
                r"deepseek-v4-flash-0731",
                {"input_tokens": "0.44", "cache_read_tokens": "0.014", "output_tokens": "1.32"},
            ),
            (r"deepseek-v3\.2", {"input_tokens": "0.58", "output_tokens": "1.68"}),
            (r"deepseek-r1", {"input_tokens": "1.35", "output_tokens": "5.4"}),
            (r"gpt-oss-120b", {"input_tokens": "0.15", "output_tokens": "0.6"}),
            (r"grok-3-mini", {"input_tokens": "0.25", "output_tokens": "1.27"}),
        )
    ),
    Correction(
        "azure",
        r"gpt-5\.[45]-pro(?:-\d{4}-\d\d-\d\d)?",
        {"cache_read_tokens": ("3", 272_000, "6")},
        _AZURE,
        "2026-11-24",
    ),
    Correction(
        "cohere", r"embed-v4\.0", {"input_image_tokens": "0.47"}, "https://cohere.com/pricing", "2026-11-24"
    ),
    Correction(
        "cohere", r"embed-v5\.0-pro", {"input_tokens": "0.12"}, "https://cohere.com/pricing", "2026-11-24"
    ),
    Correction(
        "cohere", r"embed-v5\.0-fast", {"input_tokens": "0.08"}, "https://cohere.com/pricing", "2026-11-24"
    ),
    # genai-prices has the peak hours of weekdays on every day.
    Correction(
        "deepseek",
        r"deepseek-flash|deepseek-v4-flash.*",
        {"input_tokens": "0.15", "cache_read_tokens": "0.003", "output_tokens": "0.6"},
        _DEEPSEEK,
        "2026-11-24",
        _on_weekend_in_beijing,
    ),
    Correction("google", r"gemini-2\.5-flash-image.*", {"cache_read_tokens": "0.03"}, _VERTEX, "2026-11-24"),
    Correction("google", r"gemini-3-pro-image.*", {"cache_read_tokens": "0.2"}, _VERTEX, "2026-11-24"),
    Correction("google", r"gemini-3\.1-flash-image.*", {"cache_read_tokens": "0.05"}, _VERTEX, "2026-11-24"),
    Correction(
        "google", r"gemini-3\.1-flash-lite-image.*", {"cache_read_tokens": "0.025"}, _VERTEX, "2026-11-24"
    ),
    Correction("google", r"gemini-nano-banana-2\.1", {"cache_read_tokens": "0.15"}, _VERTEX, "2026-11-24"),
    # genai-prices has the price of Gemini 3.8 Flash.
    Correction(
        "google",
        r"gemini-3\.8-flash-cyber",
        {"input_tokens": "1.5", "cache_read_tokens": "0.15", "output_tokens": "7.5"},
        _VERTEX,
        "2026-11-24",
    ),
    Correction(
        "google",
        r"gemini-4-hydrogen",
        {"input_tokens": "1.5", "cache_read_tokens": "0.075", "output_tokens": "7.5"},
        "https://aistudio.google.com/docs/pricing#gemini-4-hydrogen",
        "2026-11-24",
    ),
    *(
        Correction(
            provider,
            model,
            {"input_audio_tokens": usd[0], "output_audio_tokens": usd[1]},
            _OPENAI,
            "2026-11-24",
        )
        for provider in ("openai", "azure")
        for model, usd in (
            (r"gpt-4o-audio-preview(?!-2024-10-01).*", ("40", "80")),
            (r"gpt-4o-audio-preview-2024-10-01", ("100", "200")),
            (r"gpt-4o-mini-audio.*", ("10", "20")),
        )
    ),
    Correction(
        "openai",
        r"gpt-5\.6-cyber",
        {
            "input_tokens": ("12.5", 272_000, "25"),
            "cache_read_tokens": ("1.25", 272_000, "2.5"),
            "cache_write_tokens": ("15.625", 272_000, "31.25"),
            "output_tokens": ("75", 272_000, "112.5"),
        },
        _OPENAI,
        "2026-11-24",
    ),
    Correction(
        "openai",
        r"gpt-6-astra-law",
        {"input_tokens": "10", "cache_read_tokens": "1", "output_tokens": "50"},
        _OPENAI,
        "2026-11-24",
    ),
    Correction("openai", r"ft:gpt-4o-2024-.*", {"cache_read_tokens": "1.875"}, _OPENAI, "2026-11-24"),
    Correction("openai", r"ft:gpt-4o-mini-2024-.*", {"cache_read_tokens": "0.15"}, _OPENAI, "2026-11-24"),
    *(
        Correction(
            "openai",
            rf"ft:{model}.*",
            {"input_tokens": usd[0], "cache_read_tokens": usd[1], "output_tokens": usd[2]},
            _OPENAI,
            "2026-11-24",
        )
        for model, usd in (
            (r"gpt-4\.1-2025-", ("3", "0.75", "12")),
            (r"gpt-4\.1-mini-2025-", ("0.8", "0.2", "3.2")),
            (r"gpt-4\.1-nano-2025-", ("0.2", "0.05", "0.8")),
            (r"o4-mini-2025-", ("4", "1", "16")),
        )
    ),
    Correction(
        "together",
        r"meta-llama/(?:meta-)?llama-3\.3-70b-instruct-turbo",
        {"input_tokens": "1.04", "output_tokens": "1.04"},
        "https://www.together.ai/pricing",
        "2026-11-24",
    ),
    Correction(
        "together",
        r"ricursive-ai/ripple-65b-preview",
        {"cache_read_tokens": "0.02"},
        "https://www.together.ai/pricing",
        "2026-11-24",
    ),
)
"""Missing and wrong rates of genai-prices. A test fails for each entry that is no longer needed."""


def corrected_rates(provider: str, model: str, when: datetime, published: Rates) -> Rates:
    """Return the standard rates that our corrections replace or add.

    Args:
        provider: the provider id.
        model: the canonical model name.
        when: when the call was made.
        published: the published standard rates; empty for an unknown model.
    """
    rates: dict[str, Rate] = {}
    for correction in CORRECTIONS:
        if (
            correction.provider == provider
            and re.fullmatch(correction.model, model)
            and correction.when(when)
        ):
            for unit in UNITS.values():
                if named := _named_unit(correction.usd_per_million, unit, published.get(unit)):
                    rates[unit] = _rate(correction.usd_per_million[named], named)
    return rates


def _rate(usd_per_million: str | tuple[str, int, str], origin: str) -> Rate:
    if isinstance(usd_per_million, str):
        return Rate(Decimal(usd_per_million) / 1_000_000, origin=origin)
    base, start, long = usd_per_million
    return Rate(Decimal(base) / 1_000_000, ((start, Decimal(long) / 1_000_000),), origin)


def _named_unit(usd_per_million: Mapping[str, object], unit: str, published: Rate | None) -> str | None:
    """Return the unit under which a correction names a rate for this unit, or None."""
    if unit in usd_per_million:
        return unit
    if unit == UNITS["cache_write_12h"]:
        return None  # costs a multiple of a shorter one
    general_units = list(_general_units(unit))
    if published is not None:
        if published.origin not in general_units:
            return None  # the unit has a separate rate
        general_units = general_units[: general_units.index(published.origin) + 1]
    return next((general for general in general_units if general in usd_per_million), None)


def _general_units(unit: str) -> Iterator[str]:
    """Yield the units of the price table that contain this one, the closest first."""
    if unit.startswith("cache_"):
        yield "cache_read_tokens" if "_read_" in unit else "cache_write_tokens"
    yield "output_tokens" if unit.startswith("output_") else "input_tokens"
