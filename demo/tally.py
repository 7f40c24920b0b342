"""Add up calls and show the spending as a table."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import Final

from llm_exporter.call import Call
from llm_exporter.cli.tables import aligned

_HEADINGS: Final = (
    ("provider/model", "agent"),
    ("calls", "retries", "errors", "input", "cached", "output", "reasoning", "USD"),
)


@dataclass
class Totals:
    """The totals of a set of calls."""

    calls: int = 0
    retries: int = 0
    """Attempts after the first."""
    errors: int = 0
    """Calls that failed after all retries."""
    input: int = 0
    """Prompt tokens not read from a cache, including cache writes."""
    cached: int = 0
    """Prompt tokens read from a cache."""
    output: int = 0
    reasoning: int = 0
    usd: float = 0.0
    unpriced: int = 0
    """Tokens with no known price."""
    approximated: int = 0
    """Tokens with an approximate cost."""
    unread: int = 0
    """Requests whose usage cannot be read."""

    @property
    def tokens(self) -> int:
        """All tokens."""
        return self.input + self.cached + self.output + self.reasoning

    def add(self, call: Call) -> None:
        """Add a call."""
        self.calls += 1
        self.retries += len(call.retries)
        self.errors += call.error is not None
        for kind, number in call.tokens.items():
            if kind.startswith("cache_read"):
                self.cached += number
            elif kind.startswith("output"):
                self.output += number
            elif kind == "reasoning":
                self.reasoning += number
            else:
                self.input += number
        self.usd += call.total_cost
        self.unpriced += call.unpriced_tokens
        self.approximated += call.approximated_tokens
        self.unread += bool(call.route and not call.error)


class Tally:
    """Add up calls by provider, model and agent."""

    def __init__(self) -> None:
        self.total = Totals()
        self._rows: defaultdict[tuple[str, str], Totals] = defaultdict(Totals)

    def add(self, call: Call) -> None:
        """Add a call. This is a callback for `subscribe`."""
        self.total.add(call)
        self._rows[f"{call.provider}/{call.model}", call.agent].add(call)

    def notes(self) -> list[str]:
        """Return sentences about what the costs do not include exactly; none if they are exact."""
        total = self.total
        return [
            *([f"{total.unpriced:,} tokens have no known price."] if total.unpriced else []),
            *([f"{total.approximated:,} tokens have an approximate cost."] if total.approximated else []),
            *([f"Requests whose usage cannot be read: {total.unread:,}."] if total.unread else []),
        ]

    def table(self) -> str:
        """Return the table, with the total of all calls in the last row."""
        names, numbers = _HEADINGS
        rows = [[*names, *numbers]]
        rows += [[*key, *_cells(totals)] for key, totals in sorted(self._rows.items())]
        rows.append(["total", "", *_cells(self.total)])
        lines = list(aligned(rows, left=len(names)))
        rule = "-" * len(lines[0])
        return "\n".join([lines[0], rule, *lines[1:-1], rule, lines[-1]])


def _cells(totals: Totals) -> list[str]:
    counts = (
        totals.calls,
        totals.retries,
        totals.errors,
        totals.input,
        totals.cached,
        totals.output,
        totals.reasoning,
    )
    # Calls with no known price are not free.
    usd = "no price" if totals.unpriced == totals.tokens > 0 else f"{totals.usd:.4f}"
    return [*(f"{number:,}" for number in counts), usd]
