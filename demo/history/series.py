"""Which series a counter or a histogram has: as scraped from a process, and as recorded by the rules."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from typing import Final

from llm_exporter.bundle.increases import MODEL, has_quarters, labels_of, levels, prefix
from llm_exporter.metrics.specs import Spec

JOB: Final = "llm-exporter"
INSTANCE: Final = "sample-month"
"""The instance of the process that makes the calls."""

DECLARED: Final = ("team",)
"""The declared labels."""

HOUR: Final = 3600
DAY: Final = 24 * HOUR
QUARTER: Final = HOUR // 4

Samples = Iterator[tuple[str, float]]
"""Series and their values."""

_LEVELS_BY_BUCKET: Final = (("job", "le"), (*MODEL, "le"))


def series(name: str, labels: Mapping[str, object]) -> str:
    """Return a series in PromQL syntax, for example `up{job="x"}`."""
    pairs = ",".join(f'{label}="{value}"' for label, value in labels.items())
    return f"{name}{{{pairs}}}"


class Sum:
    """A counter, and its increases as the rules record them. It counts whole units, so that it is exact.

    Args:
        metric: the counter's name.
        labels: the values of all labels that may be needed.
        raw: the labels of the scraped series; empty if it is not scraped.
        level: the level of the recorded series; empty if it is not recorded.
        unit: the value of one unit.
    """

    def __init__(
        self,
        metric: str,
        labels: Mapping[str, str],
        *,
        raw: Iterable[str] = (),
        level: tuple[str, ...] = (),
        unit: float = 1,
    ) -> None:
        self.raw = series(metric, {name: labels[name] for name in raw}) if raw else ""
        self.metric, self.unit = metric, unit
        self.total = self.step = 0
        self._quarter_so_far = self._today_so_far = 0
        self.level_labels = {name: labels[name] for name in labels_of(level, DECLARED)}
        self.coarser: list[Sum] = []
        """The sums at coarser levels that include this one."""
        name = prefix(level, metric)
        self._minutes = [series(f"{name}:increase1m", {**self.level_labels, "day": day}) for day in "01"]
        self._quarter = series(f"{name}:increase15m", self.level_labels) if has_quarters(level) else ""
        self._day, self._today, self._before = (
            series(f"{name}:increase", {**self.level_labels, "part": part})
            for part in ("day", "today", "before")
        )

    @property
    def value(self) -> float:
        """The value of the counter."""
        return self.total * self.unit

    def add(self, amount: float) -> float:
        """Add an amount, rounded to whole units; return the rounded amount."""
        units = round(amount / self.unit)
        self.total += units
        self.step += units
        for each in self.coarser:
            each.step += units
        return units * self.unit

    def recorded(self, now: int, *, minutes: bool) -> Samples:
        """Yield what the rules record at the end of a step, with or without the increase in a minute."""
        self._quarter_so_far += self.step
        if now % DAY == 0:
            yield self._day, self._today_so_far * self.unit
            self._today_so_far = 0
        self._today_so_far += self.step
        if minutes:
            yield self._minutes[now // DAY % 2], self.step * self.unit
        if now % QUARTER == 0 and self._quarter:
            yield self._quarter, self._quarter_so_far * self.unit
            self._quarter_so_far = 0
        yield self._today, self.today
        yield self._before, -self.today

    @property
    def today(self) -> float:
        """The increase since midnight UTC."""
        return self._today_so_far * self.unit


def add_coarser_sums(sums: Iterable[Sum]) -> list[Sum]:
    """Return the sums at coarser levels, which the given sums add to from now on."""
    made: dict[str, Sum] = {}
    for each in sums:
        if not each.level_labels:
            continue
        for level in (level for level, source in levels(DECLARED)[each.metric].items() if source):
            name = series(each.metric, {label: each.level_labels[label] for label in level})
            if name not in made:
                made[name] = Sum(each.metric, each.level_labels, level=level, unit=each.unit)
            each.coarser.append(made[name])
    return list(made.values())


class Histogram:
    """A histogram whose values have a log-logistic distribution around a median.

    Args:
        spec: the metric.
        labels: the labels of its series.
        median: the median of the values.
        spread: the shape of the distribution; higher is narrower.
    """

    def __init__(self, spec: Spec, labels: Mapping[str, str], median: float, spread: float = 3.0) -> None:
        self._median, self._spread = median, spread
        self._bounds = (*spec.buckets, math.inf)
        self._counts = [0.0] * len(self._bounds)
        self._step = [0.0] * len(self._bounds)
        self._total = 0.0
        texts = ["+Inf" if bound == math.inf else str(float(bound)) for bound in self._bounds]
        self._buckets = [series(f"{spec.name}_bucket", {**labels, "le": text}) for text in texts]
        self._sum, self._count = series(f"{spec.name}_sum", labels), series(f"{spec.name}_count", labels)
        self._rates = [
            [
                series(f"{prefix(level, spec.name)}_bucket:rate5m", {name: values[name] for name in level})
                for level in _LEVELS_BY_BUCKET
                if {*level} <= {*values}
            ]
            for values in ({**labels, "le": text} for text in texts)
        ]

    def add(self, calls: float, factor: float = 1) -> None:
        """Observe a number of calls, with the median multiplied by a factor."""
        median = self._median * factor
        for index, bound in enumerate(self._bounds):
            self._step[index] = calls / (1 + (median / bound) ** self._spread)
            self._counts[index] += self._step[index]
        self._total += calls * median * 1.15

    def raw(self, *, buckets: bool) -> Samples:
        """Yield the scraped series, with or without its buckets."""
        if buckets:
            yield from zip(self._buckets, self._counts, strict=True)
        yield self._sum, round(self._total, 3)
        yield self._count, self._counts[-1]

    def rates(self, elapsed: float) -> Samples:
        """Yield what this histogram adds to the recorded rates, for a step of `elapsed` seconds."""
        for names, step in zip(self._rates, self._step, strict=True):
            for name in names:
                yield name, step / elapsed
