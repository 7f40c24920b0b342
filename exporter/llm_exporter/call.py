"""`Call`, the record of one LLM call, which passes from a tap to every sink."""

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
    "cache_write_12h",
    "output",
    "reasoning",
    "output_audio",
    "output_image",
    "output_video",
]
"""The disjoint token types: each token is counted under exactly one of them.

- `input`: prompt text and documents, neither read from nor written to a cache.
- `input_audio`, `input_image`, `input_video`: the same for other modalities, where the provider counts them
  separately.
- `cache_read`: prompt tokens read from a cache.
- `cache_read_audio`, `cache_read_image`, `cache_read_video`: the same for other modalities.
- `cache_write`: prompt tokens written to a cache with the provider's default lifetime (Anthropic: 5 minutes).
- `cache_write_1h`: prompt tokens written to Anthropic's one-hour cache.
- `cache_write_12h`: prompt tokens written to OpenAI's twelve-hour cache.
- `output`: generated text, without reasoning.
- `reasoning`: generated reasoning or thinking.
- `output_audio`, `output_image`, `output_video`: generated content of other modalities.
"""

PROMPT_TYPES: Final = frozenset(kind for kind in get_args(TokenType) if kind.startswith(("input", "cache")))
"""The token types that make up the prompt; all other types are generated."""

Operation = Literal[
    "cached_content",
    "chat",
    "container",
    "count_tokens",
    "decision",
    "embeddings",
    "evaluation",
    "fine_tuning",
    "generate_content",
    "image_generation",
    "invoke_agent",
    "live",
    "moderation",
    "realtime",
    "speech",
    "text_completion",
    "transcription",
    "translation",
    "unread",
    "video_generation",
]
"""The operations of metered calls. OpenTelemetry's `gen_ai.operation.name` values are used where they exist.

OpenAI's chat completions, responses and runs of assistants and Anthropic's messages are all `chat`.
`container` creates a container for code, `decision` is OpenAI's or Google's Decisions API, and `evaluation`
is a run of OpenAI's Evals API. `invoke_agent` is a session of OpenAI's hosted agents or of Anthropic's
managed ones, or a dream of the latter. `live` is Google's or OpenAI's Live API, and `realtime` is OpenAI's
Realtime API. `unread` is a request to a known provider whose response no reader takes.
"""

CostSource = Literal["list", "provider", "override", "fallback", "local"]
"""Where the cost of a call comes from.

- `list`: the published price.
- `provider`: the cost reported in the response.
- `override`: a price configured for the model.
- `fallback`: the price configured for models without a known price.
- `local`: the model runs on a server of the user's own, so the call costs nothing.
"""

ApproximationReason = Literal[
    "tier", "region", "batch", "speed", "modality", "lifetime", "fee", "reported_cost"
]
"""Why the cost of a call is approximate: the response or the request shows something without a known price.

- `tier`: the service tier; the tokens are priced at the standard tier.
- `region`: the region or data zone; the tokens are priced without its surcharge.
- `batch`: batch processing; the tokens are priced as if they were not part of a batch.
- `speed`: the speed mode; the tokens are priced at the standard speed.
- `modality`: the modality of the tokens; they are priced as text.
- `lifetime`: the lifetime of the cache; the tokens are priced at the default lifetime.
- `fee`: a fee per use, which the cost does not include.
- `reported_cost`: the response reports a cost that is far from the list price.
"""

UNATTRIBUTED: Final = "unattributed"
"""The agent or phase of a call without that label."""

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
"""Why a call, or one of its attempts, failed."""


_random: Final = Random()  # noqa: S311  # `os.urandom` releases the GIL, which costs a thread switch
"""A separate generator, because applications seed the global one."""
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_random.seed)


def new_id(when: float | None = None) -> str:
    """Return a new call id: 32 hex digits that sort by time (48 bits of milliseconds, 80 random bits).

    Args:
        when: the time, in seconds since the Unix epoch; now by default.
    """
    milliseconds = int((time.time() if when is None else when) * 1000)
    return f"{milliseconds:012x}{_random.getrandbits(80):020x}"


# No call is part of a reference cycle, so the garbage collector need not look at any. Ledgers, spools and
# requests leave out the fields that have their defaults: never change a default.
class Call(msgspec.Struct, kw_only=True, gc=False, omit_defaults=True):
    """A finished call to a provider: its labels, usage, cost and outcome.

    It holds only numbers and labels, never a prompt or a response.
    """

    provider: str
    """The genai-prices provider id (`openai`, `anthropic`, `google`, `azure`, `aws` …)."""
    model: str
    """The model that the response names, or else the requested model."""
    operation: str
    """One of `Operation` if the call was metered; any name if it was passed to `record()`."""
    id: str = msgspec.field(default_factory=new_id)
    started: float = msgspec.field(default_factory=time.time)
    """When the request was sent, in seconds since the Unix epoch."""
    requested_model: str = ""
    labels: dict[str, str] = {}
    """Set with `labels(...)`: `agent`, `phase`, `project`, `session`, `user` …"""
    tokens: dict[TokenType, int] = {}
    """Tokens by type, without zeros."""
    units: dict[str, float] = {}
    """Other billed usage, by genai-prices unit: `web_searches`, `input_audio_seconds` …"""
    cost: dict[str, float] = {}
    """Cost in USD by token type, with per-use fees under `tools`."""
    cost_source: CostSource | None = None
    """Where the cost comes from; None if the call has no cost."""
    reported_cost: float | None = None
    """The cost in USD reported in the response, if any."""
    reported_costs: dict[str, float] = {}
    """The parts of `reported_cost`, if the response splits it: `input` (the prompt), `output` and `tools`."""
    unpriced_tokens: int = 0
    """Tokens without a known price; they are not part of `cost`."""
    approximated: dict[ApproximationReason, int] = {}
    """Tokens with an approximate cost, by reason. A call without tokens counts as one token."""
    usage_reported: bool = True
    """False if the provider reported no usage for the call."""
    estimated: bool = False
    """True if the tokens are estimated from the text, because the provider reported no usage."""
    stream: bool = False
    service_tier: str | None = None
    """The service tier that the response names, or else the requested one."""
    speed: str | None = None
    """Anthropic's speed mode, if the response names it."""
    region: str = ""
    """The region or data zone that the call ran in, if its address or response shows one."""
    host: str = ""
    """The host of the request, if a factor of `prices.factors` names it."""
    batch: bool = False
    """True if the request was processed in a batch."""
    duration: float = 0.0
    """Seconds from the request to the last byte, retries included."""
    time_to_first_token: float | None = None
    """Seconds from the request to the first generated token of a stream."""
    error: ErrorKind | None = None
    """Why the call failed; None if it succeeded."""
    budget: str = ""
    """The name of the budget that blocked the call, if the error is `budget`."""
    route: str = ""
    """The route of a request whose response no reader takes, as in `POST /v1/things/{id}`."""
    trace_id: str = ""
    """The trace of the sampled OpenTelemetry span in force at the start, as 32 hex digits; else empty."""
    retries: list[ErrorKind] = []
    """Why each attempt before the last failed."""

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
        return sum([number for kind, number in self.tokens.items() if kind in PROMPT_TYPES])

    @property
    def output_tokens(self) -> int:
        """The generated tokens, reasoning included."""
        return sum([number for kind, number in self.tokens.items() if kind not in PROMPT_TYPES])

    @property
    def total_tokens(self) -> int:
        """The tokens of all types: the provider's total."""
        return sum(self.tokens.values())

    @property
    def approximated_tokens(self) -> int:
        """The tokens with an approximate cost, for whatever reason: at most all tokens of the call."""
        return min(sum(self.approximated.values()), max(self.total_tokens, 1))

    @property
    def total_cost(self) -> float:
        """The total cost in USD."""
        return sum(self.cost.values())
