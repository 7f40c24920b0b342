"""What was spent, added up call by call and shown as a table."""

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
class Spent:
    """What some calls came to."""

    calls: int = 0
    retries: int = 0
    """Attempts after the first."""
    errors: int = 0
    """Calls that failed, once all retries had."""
    input: int = 0
    """Prompt tokens not read from a cache: those written to one are among them."""
    cached: int = 0
    """Prompt tokens read from a cache."""
    output: int = 0
    reasoning: int = 0
    usd: float = 0.0
    unpriced: int = 0
    """Tokens that no price is known for."""

    @property
    def tokens(self) -> int:
        """All tokens, of which each is counted once."""
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


class Tally:
    """Adds up calls by provider, model and agent."""

    def __init__(self) -> None:
        self.total = Spent()
        self._rows: defaultdict[tuple[str, str], Spent] = defaultdict(Spent)

    def add(self, call: Call) -> None:
        """Add a call; a callback to `subscribe` with."""
        self.total.add(call)
        self._rows[f"{call.provider}/{call.model}", call.agent].add(call)

    def table(self) -> str:
        """Return the table, with a last row for all calls."""
        names, numbers = _HEADINGS
        rows = [[*names, *numbers]]
        rows += [[*key, *_cells(spent)] for key, spent in sorted(self._rows.items())]
        rows.append(["total", "", *_cells(self.total)])
        lines = list(aligned(rows, left=len(names)))
        rule = "-" * len(lines[0])
        return "\n".join([lines[0], rule, *lines[1:-1], rule, lines[-1]])


def _cells(spent: Spent) -> list[str]:
    counts = (
        spent.calls,
        spent.retries,
        spent.errors,
        spent.input,
        spent.cached,
        spent.output,
        spent.reasoning,
    )
    # What has no price did not cost nothing.
    usd = "no price" if spent.unpriced == spent.tokens > 0 else f"{spent.usd:.4f}"
    return [*(f"{number:,}" for number in counts), usd]
