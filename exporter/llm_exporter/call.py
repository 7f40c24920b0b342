"""`Call`, the one record that walks from the tap to every sink."""

from __future__ import annotations

import os
import time
from random import Random
from typing import Final, Literal, get_args

import msgspec

TokenType = Literal[
    "input",
    "input_audio",
    "input_image",
    "input_video",
    "cache_read",
    "cache_read_audio",
    "cache_read_image",
    "cache_read_video",
    "cache_write",
    "cache_write_1h",
    "output",
    "reasoning",
    "output_audio",
    "output_image",
    "output_video",
]
"""The disjoint kinds of token: a token is counted in exactly one of them.

`input` is prompt text that was neither read from nor written to a cache; `cache_write` is a write
with the provider's ordinary lifetime (Anthropic: 5 minutes), `cache_write_1h` Anthropic's one-hour write;
`reasoning` is generated but not part of `output`.
"""

PROMPT_TYPES: Final = frozenset(kind for kind in get_args(TokenType) if kind.startswith(("input", "cache")))
"""The token types that make up the prompt; all other types are generated."""

CostSource = Literal["list", "provider", "override", "fallback"]
"""The published price, the answer itself, the configured price, or the configured price of unknown models."""

UNATTRIBUTED: Final = "unattributed"
"""The agent or phase of a call that was made outside any `labels(...)`."""

ErrorKind = Literal[
    "rate_limited",
    "overloaded",
    "timeout",
    "connection",
    "auth",
    "not_found",
    "invalid_request",
    "server_error",
    "cancelled",
    "budget",
    "unknown",
]
"""Why a call, or one attempt of it, failed."""


_random: Final = Random()  # noqa: S311  # `os.urandom` would let another thread take over, each time
"""Of our own: nobody else seeds it."""
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_random.seed)


def new_id() -> str:
    """Return a fresh call id: 32 hex digits that sort by time (milliseconds first, then 80 random bits)."""
    return f"{time.time_ns() // 1_000_000:012x}{_random.getrandbits(80):020x}"


class Call(msgspec.Struct, kw_only=True):
    """One finished call to a provider: who asked, what was asked, what it used and cost, how it went.

    Numbers and labels only: no prompt and no answer is ever in it.
    """

    provider: str
    """The genai-prices provider id (`openai`, `anthropic`, `google`, `azure`, `aws` …)."""
    model: str
    """What the response says it was, else what was asked for."""
    operation: str
    """The wire format spoken: `chat`, `responses`, `messages`, `generate_content` …"""
    id: str = msgspec.field(default_factory=new_id)
    started: float = msgspec.field(default_factory=time.time)
    """When the request was made, in seconds since the epoch."""
    requested_model: str = ""
    labels: dict[str, str] = {}
    """`agent`, `phase` and whatever else `labels(...)` said: session, project, user …"""
    tokens: dict[TokenType, int] = {}
    """Tokens by type; types with no tokens are left out."""
    units: dict[str, float] = {}
    """What else is billed, by genai-prices unit: `web_searches`, `audio_seconds` …"""
    cost: dict[str, float] = {}
    """USD by token type, and `tools` for per-use fees."""
    cost_source: CostSource | None = None
    """Where the cost is from; None when the call has none."""
    reported_cost: float | None = None
    """USD as the answer says it, where a service does."""
    unpriced_tokens: int = 0
    """Tokens for which no price is known; they add nothing to `cost`."""
    usage_reported: bool = True
    """False when the call ended with no usage from the provider."""
    estimated: bool = False
    """True when the tokens are estimated from what was sent and seen, because the provider reported none."""
    stream: bool = False
    service_tier: str | None = None
    """The tier that served the call, as the response says it."""
    speed: str | None = None
    """Anthropic's speed mode that served the call, as the response says it."""
    batch: bool = False
    """True for a request that was processed in a batch."""
    duration: float = 0.0
    """Seconds from the request to the last byte, retries included."""
    time_to_first_token: float | None = None
    """Seconds from the request to the first generated token of a stream."""
    error: ErrorKind | None = None
    """Why the call failed; None when it succeeded."""
    budget: str = ""
    """The name of the budget that kept it from being sent, when the error is `budget`."""
    retries: list[ErrorKind] = []
    """Why each attempt before the last one failed."""

    @property
    def agent(self) -> str:
        """The agent label, or `unattributed`."""
        return self.labels.get("agent") or UNATTRIBUTED

    @property
    def phase(self) -> str:
        """The phase label, or `unattributed`."""
        return self.labels.get("phase") or UNATTRIBUTED

    @property
    def input_tokens(self) -> int:
        """The tokens of the prompt, cached ones included."""
        return sum(number for kind, number in self.tokens.items() if kind in PROMPT_TYPES)

    @property
    def output_tokens(self) -> int:
        """The generated tokens, reasoning included."""
        return sum(number for kind, number in self.tokens.items() if kind not in PROMPT_TYPES)

    @property
    def total_tokens(self) -> int:
        """All tokens of the call: what the provider counted."""
        return sum(self.tokens.values())

    @property
    def total_cost(self) -> float:
        """All of the call's cost in USD."""
        return sum(self.cost.values())
