"""Names under which providers serve models that genai-prices lists under others."""

from __future__ import annotations

import re
from datetime import UTC, date, datetime
from urllib.parse import urlsplit

import pytest
from genai_prices import data_snapshot

from llm_exporter.pricing.aliases import ALIASES, Alias, listed_name

WHEN = datetime(2026, 11, 24, 12, tzinfo=UTC)

NAMES = [
    ("deepseek", "deepseek-v4-pro", "deepseek-flash"),
    ("google", "nano-banana-pro-preview", "gemini-3-pro-image"),
    ("mistral", "codestral-latest", "codestral-2508"),
    ("mistral", "devstral-latest", "devstral-2512"),
    ("mistral", "ministral-3b-latest", "ministral-3b-2512"),
    ("mistral", "ministral-3-8b-2512", "ministral-8b-2512"),
    ("mistral", "mistral-large-latest", "mistral-large-2512"),
    ("mistral", "magistral-medium-latest", "mistral-medium-3-5"),
    ("mistral", "magistral-small-latest", "mistral-small-2603"),
    ("openai", "gpt-5-search-api-2025-10-14", "gpt-5-search-api"),
    ("openai", "gpt-4o-mini-transcribe-2025-12-15", "gpt-4o-mini-transcribe"),
    ("openai", "tts-1-hd-1106", "tts-1-hd"),
    ("openai", "gpt-image-2.6-flare", "gpt-image-2.5-flare"),
    ("x-ai", "grok-4.20-reasoning", "grok-4.20"),
    ("x-ai", "grok-code-fast-1", "grok-build-0.1"),
]


def prices_of(provider: str, model: str) -> object:
    try:
        _, found = data_snapshot.get_snapshot().find_provider_model(model, None, provider, None)
    except LookupError:
        return None
    return found.get_prices(WHEN)


@pytest.mark.parametrize(("provider", "model", "listed"), NAMES)
def test_a_model_is_looked_up_under_the_name_that_genai_prices_lists(
    provider: str, model: str, listed: str
) -> None:
    assert listed_name(provider, model, WHEN) == listed


@pytest.mark.parametrize(("provider", "model", "listed"), NAMES)
def test_genai_prices_still_has_another_price_for_the_name(provider: str, model: str, listed: str) -> None:
    """If this fails, genai-prices agrees with the alias: remove it."""
    assert prices_of(provider, listed) is not None
    assert prices_of(provider, model) != prices_of(provider, listed)


@pytest.mark.parametrize("alias", ALIASES, ids=lambda alias: f"{alias.provider} {alias.model}")
def test_an_alias_is_tested_and_has_a_source_and_a_date(alias: Alias) -> None:
    assert any(
        provider == alias.provider and re.fullmatch(alias.model, model) for provider, model, _ in NAMES
    )
    assert urlsplit(alias.source).scheme == "https"
    assert date(2026, 1, 1) <= date.fromisoformat(alias.as_of) <= date(2026, 12, 31)


def test_a_model_without_an_alias_keeps_its_name() -> None:
    assert listed_name("mistral", "mistral-large-4", WHEN) == "mistral-large-4"
    assert listed_name("x-ai", "grok-4.20-multi-agent-0309", WHEN) == "grok-4.20-multi-agent-0309"


def test_an_alias_applies_from_the_moment_on_which_the_provider_changed_the_model() -> None:
    before, after = (datetime(2026, 9, 14, hour, tzinfo=UTC) for hour in (3, 4))
    assert listed_name("deepseek", "deepseek-v4-pro", before) == "deepseek-v4-pro"
    assert listed_name("deepseek", "deepseek-v4-pro", after) == "deepseek-flash"
