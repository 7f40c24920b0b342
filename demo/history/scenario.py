"""What happens in the sample month: who calls which model, what goes wrong, and which budgets apply."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from llm_exporter.call import ApproximationReason, ErrorKind, TokenType

from .series import DAY, HOUR

_OPERATIONS: Final = {"openai": "chat", "anthropic": "chat", "google": "generate_content"}


@dataclass(frozen=True)
class Caller:
    """An agent that calls a model in one phase of its work."""

    team: str
    agent: str
    phase: str
    provider: str
    model: str
    hourly: float
    """Calls per hour at the busiest time of a weekday."""
    tokens: Mapping[TokenType, int]
    """The average tokens of a call."""
    seconds: float
    """The median latency of a call."""
    approximated: ApproximationReason | None = None
    """Why the cost of its calls is approximate, if it is."""

    @property
    def operation(self) -> str:
        """The operation of its calls."""
        return _OPERATIONS[self.provider]

    def matches(self, labels: Mapping[str, str]) -> bool:
        """Return whether the caller has these labels."""
        return all(getattr(self, name) == value for name, value in labels.items())


def _tokens(prompt: int, cached: int, written: int, output: int, reasoning: int = 0) -> dict[TokenType, int]:
    counts: dict[TokenType, int] = {
        "input": prompt,
        "cache_read": cached,
        "cache_write": written,
        "output": output,
        "reasoning": reasoning,
    }
    return {kind: number for kind, number in counts.items() if number}


CALLERS: Final = (
    Caller(
        "checkout",
        "planner",
        "plan",
        "openai",
        "gpt-5",
        40,
        _tokens(3200, 5200, 0, 900, 2600),
        21,
    ),
    Caller(
        "checkout",
        "coder",
        "execute",
        "anthropic",
        "claude-sonnet-5",
        150,
        _tokens(2100, 21000, 1900, 1900),
        24,
    ),
    Caller(
        "checkout", "coder", "execute", "anthropic", "claude-haiku-4-5", 90, _tokens(1800, 6400, 500, 700), 6
    ),
    Caller(
        "checkout",
        "reviewer",
        "review",
        "google",
        "gemini-2.5-pro",
        60,
        _tokens(9800, 4200, 0, 800, 1500),
        17,
    ),
    Caller(
        "checkout",
        "tester",
        "review",
        "openai",
        "o4-mini",
        70,
        _tokens(4100, 2600, 0, 600, 1800),
        12,
    ),
    Caller(
        "search", "researcher", "research", "google", "gemini-2.5-flash", 240, _tokens(6200, 1500, 0, 700), 4
    ),
    Caller(
        "search",
        "researcher",
        "research",
        "anthropic",
        "claude-haiku-4-5",
        160,
        _tokens(3800, 5100, 700, 600),
        5,
    ),
    Caller("search", "researcher", "report", "openai", "gpt-4o", 55, _tokens(5200, 1900, 0, 800), 9),
    Caller("search", "indexer", "execute", "openai", "gpt-4o-mini", 520, _tokens(2400, 900, 0, 250), 3),
    Caller(
        "search",
        "indexer",
        "report",
        "google",
        "gemini-2.5-flash",
        120,
        _tokens(3100, 0, 0, 300),
        3,
        "region",
    ),
    Caller("support", "triage", "plan", "openai", "gpt-4o-mini", 600, _tokens(900, 700, 0, 120), 2),
    Caller(
        "support",
        "responder",
        "execute",
        "anthropic",
        "claude-sonnet-5",
        95,
        _tokens(2600, 7800, 600, 500),
        9,
    ),
    Caller(
        "support", "responder", "review", "anthropic", "claude-haiku-4-5", 95, _tokens(1500, 2100, 0, 200), 4
    ),
    Caller(
        "support", "translator", "execute", "google", "gemini-2.5-flash", 180, _tokens(1300, 0, 0, 900), 5
    ),
    Caller("platform", "summarizer", "report", "openai", "gpt-4o-mini", 140, _tokens(5200, 0, 0, 500), 5),
    Caller("platform", "summarizer", "report", "openai", "acme-1-preview", 12, _tokens(4800, 0, 0, 500), 6),
    Caller(
        "platform",
        "migrator",
        "plan",
        "openai",
        "gpt-5",
        8,
        _tokens(6100, 9200, 0, 1200, 3900),
        26,
        "tier",
    ),
    Caller(
        "platform",
        "migrator",
        "execute",
        "anthropic",
        "claude-sonnet-5",
        26,
        _tokens(4900, 18000, 2600, 2400),
        28,
    ),
)


@dataclass(frozen=True)
class Incident:
    """A period in which something was wrong."""

    days_ago: float
    """Its start, in days before the end of the month."""
    hours: float
    labels: Mapping[str, str]
    """The labels of the affected callers."""
    error: ErrorKind | None = None
    error_ratio: float = 0.0
    """The fraction of calls that failed."""
    latency_factor: float = 1.0
    calls_factor: float = 1.0
    alert: str = ""
    """The alert that fired."""
    severity: str = ""

    def active(self, now: float, end: float) -> bool:
        """Return whether it was active at a time, in a month that ends at `end`."""
        begin = end - self.days_ago * DAY
        return begin <= now < begin + self.hours * HOUR


INCIDENTS: Final = (
    Incident(
        26.3,
        3,
        {"provider": "openai"},
        "server_error",
        0.3,
        3.2,
        alert="LLMErrorRateHigh",
        severity="critical",
    ),
    Incident(
        19.6,
        5,
        {"provider": "google"},
        "rate_limited",
        0.12,
        1.4,
        alert="LLMRateLimitClose",
        severity="warning",
    ),
    Incident(11.2, 6, {"agent": "migrator"}, calls_factor=24, alert="LLMCostSpike", severity="critical"),
    Incident(
        6.5,
        2,
        {"provider": "anthropic"},
        "overloaded",
        0.22,
        2.6,
        alert="LLMErrorRateHigh",
        severity="critical",
    ),
    Incident(
        0.45,
        1.5,
        {"provider": "anthropic"},
        "overloaded",
        0.15,
        2.1,
        alert="LLMErrorRateHigh",
        severity="warning",
    ),
    Incident(0.1, 3, {"agent": "researcher"}, calls_factor=4, alert="LLMCostSpike", severity="warning"),
)

BUDGETS: Final[tuple[tuple[str, str, float, dict[str, str]], ...]] = (
    ("everything", "month", 4000.0, {}),
    ("a day of coding", "day", 70.0, {"agent": "coder"}),
    ("research", "day", 15.0, {"agent": "researcher"}),
    ("migration", "month", 900.0, {"agent": "migrator"}),
    ("the search team", "month", 1000.0, {"team": "search"}),
)
"""Name, period, limit in USD and the labels of the calls that count."""
THRESHOLDS: Final[tuple[tuple[str, str, float, dict[str, str]], ...]] = (
    ("hourly", "hour", 12.0, {}),
    ("daily", "day", 180.0, {}),
    ("monthly", "month", 3600.0, {}),
    ("coding", "hour", 6.0, {"agent": "coder"}),
)
"""Name, window, limit in USD and the labels of the calls that count."""
