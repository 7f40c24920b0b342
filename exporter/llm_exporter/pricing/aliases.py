"""Model names that genai-prices does not list, or lists with the prices of another model."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Final, NamedTuple


class Alias(NamedTuple):
    """A name under which a provider serves and bills a model that genai-prices lists under another name."""

    provider: str
    """The genai-prices provider id."""
    model: str
    """A regular expression for the whole model name, in lower case."""
    listed_as: str
    """The name that genai-prices lists. It may refer to groups of the regular expression, as in `\\1`."""
    source: str
    """The URL of the provider's page."""
    as_of: str
    """The date on which the page said so."""
    since: str = ""
    """When the provider began to bill it so, in UTC."""


_MISTRAL: Final = "https://docs.mistral.ai/models"
_OPENAI: Final = "https://developers.openai.com/api/docs/pricing"
_XAI: Final = "https://docs.x.ai/docs/models"

ALIASES: Final[tuple[Alias, ...]] = (
    Alias(
        "deepseek",
        r"deepseek-v4-pro.*",
        "deepseek-flash",
        "https://api-docs.deepseek.com/",
        "2026-11-24",
        "2026-09-14T04:00",
    ),
    Alias(
        "google",
        r"nano-banana-pro-preview",
        "gemini-3-pro-image",
        "https://ai.google.dev/gemini-api/docs/models",
        "2026-11-24",
    ),
    Alias("mistral", r"codestral-latest", "codestral-2508", f"{_MISTRAL}/codestral-25-08", "2026-11-24"),
    Alias(
        "mistral",
        r"devstral-(?:medium-)?latest",
        "devstral-2512",
        f"{_MISTRAL}/devstral-2-25-12",
        "2026-11-24",
    ),
    Alias(
        "mistral",
        r"ministral-(3b|14b)-latest",
        r"ministral-\1-2512",
        f"{_MISTRAL}/ministral-3-3b-25-12",
        "2026-11-24",
    ),
    Alias(
        "mistral",
        r"ministral-3-(3b|8b|14b)-2512",
        r"ministral-\1-2512",
        f"{_MISTRAL}/ministral-3-3b-25-12",
        "2026-11-24",
    ),
    Alias(
        "mistral",
        r"mistral-large-(?:latest|3)",
        "mistral-large-2512",
        f"{_MISTRAL}/mistral-large-3-25-12",
        "2026-11-24",
    ),
    Alias(
        "mistral",
        r"mistral-medium|magistral-medium-latest",
        "mistral-medium-3-5",
        f"{_MISTRAL}/mistral-medium-3-5-26-04",
        "2026-11-24",
    ),
    Alias(
        "mistral",
        r"magistral-small-latest",
        "mistral-small-2603",
        f"{_MISTRAL}/mistral-small-4-0-26-03",
        "2026-11-24",
    ),
    Alias("openai", r"(gpt-5-search-api)-2025-10-14", r"\1", _OPENAI, "2026-11-24"),
    Alias("openai", r"(gpt-4o-mini-(?:transcribe|tts))-\d{4}-\d\d-\d\d", r"\1", _OPENAI, "2026-11-24"),
    Alias("openai", r"(tts-1(?:-hd)?)-1106", r"\1", _OPENAI, "2026-11-24"),
    Alias("openai", r"gpt-image-2\.6-(sunburst|flare)", r"gpt-image-2.5-\1", _OPENAI, "2026-11-24"),
    Alias("x-ai", r"grok-4\.20-(?!multi-agent-0309$).*", "grok-4.20", _XAI, "2026-11-24"),
    Alias("x-ai", r"grok-code-fast.*", "grok-build-0.1", _XAI, "2026-11-24", "2026-05-15"),
)


def listed_name(provider: str, model: str, when: datetime) -> str:
    """Return the name under which genai-prices lists a model.

    Args:
        provider: the provider id.
        model: the model name, in lower case.
        when: when the call was made.
    """
    moment = when.astimezone(UTC).isoformat()
    for alias in ALIASES:
        if (
            alias.provider == provider
            and alias.since <= moment
            and (match := re.fullmatch(alias.model, model))
        ):
            return match.expand(alias.listed_as)
    return model
