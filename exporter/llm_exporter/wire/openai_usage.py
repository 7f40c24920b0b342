"""The `usage` objects of OpenAI's APIs and of compatible services.

Their details and their reported costs have many dialects.
"""

from __future__ import annotations

import re
from typing import Any, Final

import msgspec

from ..call import TokenType
from .fields import Count, Json, Zero, amount, count, first_count, mapping, split, text, without_zeros
from .reader import Reading

_USAGE: Final = re.compile(rb'"usage"\s*:\s*\{')
_COUNT: Final = b'_tokens"'
"""The end of the name of a count. Every usage object has one."""

_PROMPT_DETAILS: Final = (
    *("prompt_tokens_details", "prompt_token_details"),
    *("input_tokens_details", "input_token_details"),
)
_COMPLETION_DETAILS: Final = (
    *("completion_tokens_details", "completion_token_details"),
    *("output_tokens_details", "output_token_details"),
)
"""Some services use the singular, `prompt_token_details`."""


class _Prompt(msgspec.Struct, forbid_unknown_fields=True):
    cached_tokens: Count = None
    cache_write_tokens: Count = None
    text_tokens: Any = None
    audio_tokens: Zero = None
    image_tokens: Zero = None
    video_tokens: Zero = None


class _Completion(msgspec.Struct, forbid_unknown_fields=True):
    reasoning_tokens: Count = None
    text_tokens: Any = None
    audio_tokens: Zero = None
    image_tokens: Zero = None
    accepted_prediction_tokens: Any = None
    rejected_prediction_tokens: Any = None


class OrdinaryUsage(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """The `usage` object of a text model of OpenAI's."""

    prompt_tokens: Count
    completion_tokens: Count = None
    total_tokens: Count = None
    prompt_tokens_details: _Prompt | None = None
    completion_tokens_details: _Completion | None = None

    def tokens(self) -> dict[TokenType, int]:
        """Return the disjoint tokens, as `tokens_of` does for any usage object."""
        prompt, completion = self.prompt_tokens or 0, self.completion_tokens or 0
        read = write = reasoning = 0
        if (details := self.prompt_tokens_details) is not None:
            read, write = min(details.cached_tokens or 0, prompt), details.cache_write_tokens or 0
        if self.completion_tokens_details is not None:
            reasoning = self.completion_tokens_details.reasoning_tokens or 0
        if reasoning > completion or self.total_tokens == prompt + completion + reasoning:
            completion += reasoning
        if write == read and read + write > prompt:
            fresh = prompt - read
        else:
            write = min(write, prompt - read)
            fresh = prompt - read - write
        reasoning = min(reasoning, completion)
        return without_zeros(
            {
                "input": fresh,
                "cache_read": read,
                "cache_write": write,
                "output": completion - reasoning,
                "reasoning": reasoning,
            }
        )


class OrdinaryResponsesUsage(
    OrdinaryUsage,
    rename={
        "prompt_tokens": "input_tokens",
        "completion_tokens": "output_tokens",
        "prompt_tokens_details": "input_tokens_details",
        "completion_tokens_details": "output_tokens_details",
    },
):
    """The same in the Responses API, which has other names for the fields."""

    prompt_tokens: Count
    completion_tokens: Count = None
    prompt_tokens_details: _Prompt | None = None
    completion_tokens_details: _Completion | None = None


def has_usage(events: bytes) -> bool:
    """Return whether there is a usage object in events. Many services send `usage: null` in every event."""
    return events.rfind(_COUNT) >= 0 and _USAGE.search(events) is not None


def requested_tier(request: Json) -> str | None:
    """Return the service tier that a request names; a response need not name the tier that served it."""
    tier = text(request.get("service_tier"))
    return tier if tier not in ("", "auto") else None


def image_tokens_of(usage: Json) -> dict[TokenType, int]:
    """Return the disjoint tokens of an image model's `usage` object.

    Its output tokens are image tokens, except those that the details list as text.
    """
    tokens = tokens_of(usage)
    generated = tokens.pop("output", 0) + tokens.pop("output_image", 0)
    text_tokens = min(count(mapping(usage.get("output_tokens_details")).get("text_tokens")), generated)
    return without_zeros({**tokens, "output": text_tokens, "output_image": generated - text_tokens})


def tokens_of(usage: Json) -> dict[TokenType, int]:
    """Return the disjoint tokens of a `usage` object in any of OpenAI's formats.

    OpenAI's prompt counts include cached tokens, and its completion counts include reasoning tokens
    (https://platform.openai.com/docs/guides/prompt-caching, /docs/guides/reasoning). Some compatible services
    exclude them; their totals show which. Caches live for 30 minutes or 12 hours, at different prices.
    """
    prompt = first_count(usage, "prompt_tokens", "input_tokens")
    completion = first_count(usage, "completion_tokens", "output_tokens")
    total = count(usage.get("total_tokens"))
    prompt_details = _details(usage, _PROMPT_DETAILS)
    completion_details = _details(usage, _COMPLETION_DETAILS)

    reasoning = count(completion_details.get("reasoning_tokens"))
    if reasoning > completion or total == prompt + completion + reasoning:
        completion += reasoning  # xAI, and Gemini behind gateways, exclude it
    audio = count(prompt_details.get("audio_tokens"))
    if audio > prompt and total == prompt + completion + audio:
        prompt += audio  # Mistral excludes it

    read = first_count(prompt_details, "cached_tokens") or first_count(
        usage, "prompt_cache_hit_tokens", "num_cached_tokens", "cached_tokens"
    )
    read = min(read, prompt)
    # In the Realtime API, and in `tool_usage`.
    cached_by = mapping(prompt_details.get("cached_tokens_details") or usage.get("cached_tokens_details"))
    cached = split(
        read,
        audio=count(cached_by.get("audio_tokens")),
        image=first_count(cached_by, "image_tokens", "cached_image_tokens"),
    )
    write = count(prompt_details.get("cache_write_tokens"))
    if write == read and read + write > prompt:
        fresh = prompt - read  # Gemini behind OpenRouter bills the same tokens as written and as read
    else:
        write = min(write, prompt - read)
        fresh = prompt - read - write
    written = split(
        write,
        twelve_hours=count(mapping(prompt_details.get("cache_write_tokens_details")).get("ttl_12h_tokens")),
    )
    into = split(
        fresh,
        audio=max(audio - cached["audio"], 0),
        image=max(count(prompt_details.get("image_tokens")) - cached["image"], 0),
        video=count(prompt_details.get("video_tokens")),
    )
    out = split(
        completion,
        reasoning=reasoning,
        audio=count(completion_details.get("audio_tokens")),
        image=count(completion_details.get("image_tokens")),
    )
    return without_zeros(
        {
            "input": into["rest"],
            "input_audio": into["audio"],
            "input_image": into["image"],
            "input_video": into["video"],
            "cache_read": cached["rest"],
            "cache_read_audio": cached["audio"],
            "cache_read_image": cached["image"],
            "cache_write": written["rest"],
            "cache_write_12h": written["twelve_hours"],
            "output": out["rest"],
            "reasoning": out["reasoning"],
            "output_audio": out["audio"],
            "output_image": out["image"],
        }
    )


def read_usage(usage: Json | OrdinaryUsage, reading: Reading) -> None:
    """Read a `usage` object: its tokens and its cost."""
    if isinstance(usage, OrdinaryUsage):
        reading.tokens = usage.tokens()
        reading.reported_cost, reading.states_usd, reading.reported_costs = None, False, {}
    else:
        reading.tokens = tokens_of(usage)
        read_cost(usage, reading)


def read_cost(usage: Json, reading: Reading) -> None:
    """Read the cost in USD that a `usage` object reports, and the parts that it is split into.

    A service that reports 0 does not know the cost, like Grok on Azure.
    """
    cost = reported_cost(usage) or None
    reading.reported_cost = cost
    reading.states_usd = "cost_in_usd_ticks" in usage or "usd" in mapping(usage.get("cost"))
    reading.reported_costs = _parts_of_cost(usage, cost) if cost else {}


def reported_cost(usage: Json) -> float | None:
    """Return the cost in USD that a `usage` object reports, or None.

    OpenRouter and Vercel report a number (https://openrouter.ai/docs/use-cases/usage-accounting). If the
    user brings a provider key (BYOK), OpenRouter's number is only its fee, so the upstream cost is added.
    Perplexity reports an object with a total, Charm Hyper one with `usd`, and xAI ticks of 1e-10 USD.
    """
    cost = usage.get("cost")
    if (ticks := amount(usage.get("cost_in_usd_ticks"))) is not None:
        return ticks / 1e10
    if isinstance(cost, dict):
        total = amount(cost.get("total_cost"))
        return total if total is not None else amount(cost.get("usd"))
    charged = amount(cost)
    if charged is not None and usage.get("is_byok") is True:
        charged += amount(mapping(usage.get("cost_details")).get("upstream_inference_cost")) or 0.0
    return charged


_COST_PARTS: Final = {
    # Perplexity's Sonar and Agent APIs: https://docs.perplexity.ai/docs/getting-started/pricing
    "input_tokens_cost": "input",
    "citation_tokens_cost": "input",
    "output_tokens_cost": "output",
    "reasoning_tokens_cost": "output",
    "request_cost": "tools",
    "search_queries_cost": "tools",
    "input_cost": "input",
    "cache_creation_cost": "input",
    "cache_read_cost": "input",
    "output_cost": "output",
    "tool_calls_cost": "tools",
    # OpenRouter: https://openrouter.ai/docs/use-cases/usage-accounting
    "upstream_inference_prompt_cost": "input",
    "upstream_inference_input_cost": "input",
    "upstream_inference_completions_cost": "output",
    "upstream_inference_output_cost": "output",
}
"""What each part of a reported cost is for: the prompt, the generated tokens, or fees."""

_ROUNDED: Final = 5e-5
"""The largest difference in USD between a total and its parts: Perplexity rounds each to 5 decimal places."""


def _parts_of_cost(usage: Json, total: float) -> dict[str, float]:
    """Return the parts of a reported cost, or an empty dict if they do not add up to it."""
    parts: dict[str, float] = {}
    for name, value in {**mapping(usage.get("cost")), **mapping(usage.get("cost_details"))}.items():
        kind, part = _COST_PARTS.get(name), amount(value)
        if kind and part:
            parts[kind] = parts.get(kind, 0.0) + part
    if usage.get("is_byok") is True and parts and (fee := amount(usage.get("cost"))):
        parts["tools"] = parts.get("tools", 0.0) + fee
    tolerance = max(min(_ROUNDED, total / 100), total / 1e6)
    return parts if abs(sum(parts.values()) - total) <= tolerance else {}


def _details(usage: Json, names: tuple[str, ...]) -> Json:
    """Return the first details object among alternative field names."""
    for name in names:
        if found := mapping(usage.get(name)):
            return found
    return {}
