"""The price table of LiteLLM: which of its models is which model at which provider."""

from __future__ import annotations

import json
import re
import zipfile
from collections.abc import Iterator, Mapping
from decimal import Decimal
from pathlib import Path
from typing import Final, NamedTuple

FILE: Final = "litellm/model_prices_and_context_window_backup.json"

_PROVIDERS: Final[Mapping[str, str]] = {
    "anthropic": "anthropic",
    "azure": "azure",
    "azure_ai": "azure",
    "azure_text": "azure",
    "baseten": "baseten",
    "bedrock": "aws",
    "bedrock_converse": "aws",
    "bedrock_mantle": "aws",
    "cerebras": "cerebras",
    "codestral": "mistral",
    "cohere": "cohere",
    "cohere_chat": "cohere",
    "databricks": "databricks",
    "deepseek": "deepseek",
    "fireworks_ai": "fireworks",
    "fireworks_ai-embedding-models": "fireworks",
    "gemini": "google",
    "groq": "groq",
    "minimax": "minimax",
    "mistral": "mistral",
    "moonshot": "moonshotai",
    "novita": "novita",
    "openai": "openai",
    "openrouter": "openrouter",
    "perplexity": "perplexity",
    "text-completion-openai": "openai",
    "together_ai": "together",
    "vertex_ai": "google",
    "vertex_ai-anthropic_models": "google",
    "vertex_ai-embedding-models": "google",
    "vertex_ai-language-models": "google",
    "voyage": "voyageai",
    "xai": "x-ai",
    "zai": "zai",
}
"""The genai-prices provider ids by LiteLLM's."""

_PREFIX: Final = re.compile(
    r"(?:azure|azure_ai|baseten|bedrock|bedrock_mantle|cerebras|cohere|databricks|deepseek|fireworks_ai|gemini"
    r"|groq|minimax|mistral|codestral|moonshot|novita|openai|openrouter|perplexity|together_ai|vertex_ai|voyage|xai|zai)/"
)
_REGION: Final = re.compile(r"(?:us|eu|us-gov|[a-z]{2}(?:-gov)?-[a-z]+-\d)/")
_IMAGE: Final = re.compile(r"(low|medium|high)/(\d+)-x-(\d+)/(gpt-image-.*)")
"""Images by quality and size, which have separate entries."""
_UNCOMPARABLE: Final = re.compile(
    r".*commitment/.*|claude_platform/.*|(?:low|medium|high|standard|hd|auto|\d+-x-\d+)/.*|\d.*|\*/.*"
)
"""Provisioned capacity and images by size, whose names are not those of models."""
_DATA_ZONE: Final = re.compile(r"azure/(?:us|eu)/.*")
"""Azure's data zones, which no response shows: `prices.factors` sets their surcharge."""


class Model(NamedTuple):
    """A model of LiteLLM's table."""

    key: str
    provider: str
    """The genai-prices provider id."""
    name: str
    """The name as a request to the provider has it."""
    region: str
    entry: Mapping[str, object]


def read(wheel: Path) -> Iterator[Model]:
    """Yield the models of the table inside LiteLLM's wheel whose provider genai-prices has."""
    with zipfile.ZipFile(wheel) as archive:
        table = json.loads(archive.read(FILE), parse_float=Decimal)
    for key, entry in table.items():
        provider = _PROVIDERS.get(str(entry.get("litellm_provider")))
        if provider == "openai" and (image := _IMAGE.fullmatch(key)):
            quality, width, height, name = image.groups()
            per_image = {f"images_{quality}_{width}x{height}": entry.get("input_cost_per_image")}
            yield Model(key, provider, name, "", per_image)
            continue
        name = _PREFIX.sub("", key, count=1) if _PREFIX.match(key) else key
        if provider is None or _UNCOMPARABLE.fullmatch(name) or _DATA_ZONE.fullmatch(key):
            continue
        region = ""
        if provider in {"aws", "azure"} and (match := _REGION.match(name)):
            region, name = match[0][:-1], name[match.end() :]
        if provider == "azure":
            name = name.removeprefix("global-standard/").removeprefix("global/")
        yield Model(key, provider, name, region, entry)
