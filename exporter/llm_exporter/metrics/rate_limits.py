"""Reads rate limits from the headers of responses.

OpenAI, Groq, xAI and others send `x-ratelimit-remaining-requests`, `x-ratelimit-limit-tokens` …
(https://platform.openai.com/docs/guides/rate-limits).
Anthropic sends `anthropic-ratelimit-tokens-remaining` … (https://docs.claude.com/en/api/rate-limits).
Google sends none.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import Final, Literal, NamedTuple

Kind = Literal["remaining", "limit"]

_HEADER: Final = re.compile(
    r"x-ratelimit-(?P<kind>remaining|limit)-(?P<resource>[a-z-]+)"
    r"|anthropic-ratelimit-(?P<resource_>[a-z-]+)-(?P<kind_>remaining|limit)"
)


class RateLimit(NamedTuple):
    """The limit of one resource, or what remains of it."""

    kind: Kind
    resource: str
    """`requests`, `tokens`, `input_tokens` …"""
    value: float


def rate_limits(headers: Mapping[str, str]) -> list[RateLimit]:
    """Return the rate limits in the headers of a response; ignore values that are not numbers."""
    # httpx decodes all headers if one is asked for, but has their bytes at hand.
    pairs: Iterable[tuple[str | bytes, str | bytes]] = getattr(headers, "raw", None) or headers.items()
    found = []
    for name, raw in pairs:
        if (limit := _limit_of(name)) is not None:
            value = raw.decode("latin-1") if isinstance(raw, bytes) else raw
            if value.isdecimal() and len(value) < 16:
                found.append(RateLimit(*limit, float(value)))
    return found


@lru_cache(maxsize=256)  # responses have the same few headers
def _limit_of(header: str | bytes) -> tuple[Kind, str] | None:
    """Return the kind and the resource of the limit that a header states, if it states one."""
    name = header.decode("latin-1") if isinstance(header, bytes) else header
    if (match := _HEADER.fullmatch(name.lower())) is None:
        return None
    kind: Kind = "limit" if "limit" in (match["kind"], match["kind_"]) else "remaining"
    return kind, (match["resource"] or match["resource_"]).replace("-", "_")
