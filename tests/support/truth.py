"""What the callers of the sample month did, as the simulation counted it: the truth for the dashboards."""

from __future__ import annotations

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterable, Mapping

from demo.history.month import Month

Labels = tuple[str, ...]
"""The values of labels."""


class Truth(Month):
    """A sample month that remembers what its callers had done after each step."""

    def __init__(self, days: float, end: float) -> None:
        super().__init__(days, end)
        self._times: list[int] = []
        self._done: list[dict[tuple[int, str, str], float]] = []

    def advance(self, now: float) -> None:
        super().advance(now)
        self._times.append(int(now))
        self._done.append(
            {
                (number, what, kind): each.value
                for number, metrics in enumerate(self.callers)
                for what, sums in (
                    ("calls", {"": metrics.calls}),
                    ("failed", {"": metrics.failed}),
                    ("unpriced", {"": metrics.unpriced}),
                    ("tokens", metrics.tokens),
                    ("cost", metrics.costs),
                )
                for kind, each in sums.items()
            }
        )

    def counted(
        self,
        what: str,
        by: Iterable[str] = (),
        *,
        since: float,
        until: float,
        kinds: str = "",
        only: Mapping[str, str] | None = None,
    ) -> dict[Labels, float]:
        """Return how much was counted between two times, by the values of labels, without zeros.

        Args:
            what: `calls`, `failed`, `unpriced`, `tokens` or `cost`.
            by: the labels; `token_type` is one for `tokens` and `cost`.
            since: the start; before the month, nothing was counted.
            until: the end.
            kinds: what a token type begins with to count.
            only: the labels of the callers to count; by default all.
        """
        before, after = self._at(since), self._at(until)
        found: dict[Labels, float] = defaultdict(float)
        for (number, name, kind), value in after.items():
            caller = self.callers[number].caller
            if name == what and kind.startswith(kinds) and caller.matches(only or {}):
                labels = tuple(kind if label == "token_type" else getattr(caller, label) for label in by)
                found[labels] += value - before.get((number, name, kind), 0.0)
        return {labels: value for labels, value in found.items() if value}

    def _at(self, time: float) -> dict[tuple[int, str, str], float]:
        """Return what had been counted at the last step before a time or at it."""
        index = bisect_right(self._times, time)
        return self._done[index - 1] if index else {}
