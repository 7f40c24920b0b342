"""The usages whose prices are compared, with the keys of LiteLLM's table that price them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from decimal import Decimal
from typing import Final, NamedTuple

from llm_exporter.call import TokenType

_TOKENS: Final = 1_000
_CONTEXT_STEPS: Final = (32, 100, 128, 200, 256, 272, 512)
"""The prompt lengths, in thousands of tokens, above which LiteLLM's table has separate prices."""
_SUFFIXES: Final[Mapping[str, str]] = {
    "": "",
    "batch": "_batches",
    "flex": "_flex",
    "priority": "_priority",
    "ultrafast": "_ultrafast",
}
_KEYS: Final[Mapping[TokenType, str]] = {
    "input": "input_cost_per_token",
    "input_audio": "input_cost_per_audio_token",
    "input_image": "input_cost_per_image_token",
    "input_video": "input_cost_per_video_token",
    "cache_read": "cache_read_input_token_cost",
    "cache_read_audio": "cache_read_input_audio_token_cost",
    "cache_read_image": "cache_read_input_image_token_cost",
    "cache_write": "cache_creation_input_token_cost",
    "cache_write_1h": "cache_creation_input_token_cost_above_1hr",
    "cache_write_12h": "cache_creation_input_token_cost_above_12hr",
    "output": "output_cost_per_token",
    "reasoning": "output_cost_per_reasoning_token",
    "output_audio": "output_cost_per_audio_token",
    "output_image": "output_cost_per_image_token",
    "output_video": "output_cost_per_video_token",
}
_UNITS: Final[Mapping[str, tuple[str, str]]] = {
    "input_audio_seconds": ("input_cost_per_second", "input_audio"),
    "input_characters": ("input_cost_per_character", "input"),
    "maps_searches": ("google_maps_grounding_cost_per_query", "tools"),
}
_PREVIEW: Final = frozenset({"openai"})
_SEARCH: Final = frozenset({"anthropic", "aws", "azure", "google", "groq", "x-ai"})


class Usage(NamedTuple):
    """One rate to compare: the cost of one type in a call."""

    name: str
    key: str
    """The key of LiteLLM's table: USD per token or unit."""
    cost_type: str
    """The part of our cost to compare."""
    number: int = _TOKENS
    """How many tokens or units the rate is multiplied by."""
    tokens: Mapping[TokenType, int] = {}
    units: Mapping[str, float] = {}
    tier: str = ""
    batch: bool = False
    search_size: str = ""
    """The `search_context_size`, if the key has prices by size."""
    providers: frozenset[str] = frozenset()
    """The providers that this usage is billed by; empty for all."""

    def theirs(self, entry: Mapping[str, object]) -> Decimal | None:
        """Return what this usage costs by an entry of LiteLLM's table, or None if the entry does not say."""
        rate = entry.get(self.key)
        if self.search_size and isinstance(rate, dict):
            rate = rate.get(f"search_context_size_{self.search_size}")
        if not isinstance(rate, Decimal | int):
            return None
        return Decimal(rate) * self.number


def standard_usages() -> Iterator[Usage]:
    """Yield all usages."""
    for tier, suffix in _SUFFIXES.items():
        for kind, key in _KEYS.items():
            for step in (0, *_CONTEXT_STEPS):
                yield _token_usage(kind, key, step, tier, suffix)
    for unit, (key, cost_type) in _UNITS.items():
        yield Usage(unit, key, cost_type, 1_000, units={unit: 1_000})
    for quality in ("low", "medium", "high"):
        for size in ("1024x1024", "1024x1536", "1536x1024"):
            unit = f"images_{quality}_{size}"
            yield Usage(unit, unit, "tools", 1_000, units={unit: 1_000})
    search = "search_context_cost_per_query"
    for size in ("low", "medium", "high"):
        unit = f"search_requests_{size}"
        yield Usage(
            unit,
            search,
            "tools",
            1_000,
            units={unit: 1_000},
            search_size=size,
            providers=frozenset({"perplexity"}),
        )
    # OpenAI's prices by size are those of the preview tool.
    for unit, providers in (("web_search_previews", _PREVIEW), ("web_searches", _SEARCH)):
        yield Usage(
            unit, search, "tools", 1_000, units={unit: 1_000}, search_size="medium", providers=providers
        )


def _token_usage(kind: TokenType, key: str, step: int, tier: str, suffix: str) -> Usage:
    tokens: dict[TokenType, int] = {kind: _TOKENS}
    name = f"{kind} {tier}".strip()
    if step:
        name = f"{name} above {step}k"
        tokens["input"] = step * 1_000 + 1
        key = f"{key}_above_{step}k_tokens"
    return Usage(
        name,
        key + suffix,
        kind,
        tokens[kind],
        tokens=tokens,
        tier="" if tier == "batch" else tier,
        batch=tier == "batch",
    )
