"""Reads rate limits from the headers of responses.

OpenAI, Groq, xAI and others send `x-ratelimit-remaining-requests`, `x-ratelimit-limit-tokens` …
(https://platform.openai.com/docs/guides/rate-limits).
Anthropic sends `anthropic-ratelimit-tokens-remaining` … (https://docs.claude.com/en/api/rate-limits).
Google sends none.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final, Literal, NamedTuple

_HEADER: Final = re.compile(
    r"x-ratelimit-(?P<kind>remaining|limit)-(?P<resource>[a-z-]+)"
    r"|anthropic-ratelimit-(?P<resource_>[a-z-]+)-(?P<kind_>remaining|limit)"
)


class RateLimit(NamedTuple):
    """The limit of one resource, or what remains of it."""

    kind: Literal["remaining", "limit"]
    resource: str
    """`requests`, `tokens`, `input_tokens` …"""
    value: float


def rate_limits(headers: Iterable[tuple[str, str]]) -> list[RateLimit]:
    """Return the rate limits in the headers of a response; ignore values that are not numbers."""
    found = []
    for name, value in headers:
        if (match := _HEADER.fullmatch(name.lower())) and value.isdecimal() and len(value) < 16:
            kind: Literal["remaining", "limit"] = (
                "limit" if "limit" in (match["kind"], match["kind_"]) else "remaining"
            )
            resource = match["resource"] or match["resource_"]
            found.append(RateLimit(kind, resource.replace("-", "_"), float(value)))
    return found
