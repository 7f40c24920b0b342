"""A month as several teams would have spent it, so that dashboards can be looked at full.

    month = Month(days=30, end=time.time())
    backfill(month, directory)       # what a Prometheus would have scraped and recorded, as its blocks
    with Continued(month) as page:   # goes on from there: a page to be scraped
        ...

The same every time but for when it ends. Nights and weekends are quiet, use grows, providers have bad hours
and one agent runs away. Prices are the published ones. The counters are what a process would have exported;
what the rules record is worked out beside them, because Prometheus evaluates no rule over a month that it has
not seen, and promtool none that reads another one's record.
"""

from __future__ import annotations

import itertools
import math
import os
import random
import subprocess
import threading
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

from llm_exporter.call import Call
from llm_exporter.metrics.specs import LATENCY, OUTPUT_RATE, SHIPPING_LAG, TIME_TO_FIRST_TOKEN, Spec
from llm_exporter.pricing.prices import PriceList
from prometheus.increases import CALLER, CALLER_BY_TYPE, LEVELS, MODEL
from tools.binaries import environment, find

JOB: Final = "llm-exporter"
INSTANCE: Final = "sample-month"
"""The process that made the calls, as its series call it."""

HOUR: Final = 3600
DAY: Final = 24 * HOUR
RECENT: Final = DAY
"""The last so many seconds are kept a minute apart, what was before them five minutes."""
QUARTER: Final = HOUR // 4
SPAN: Final = 18 * HOUR
"""Of one block: as Prometheus' own, the shortest one multiplied by three twice."""
PATIENCE: Final = 120.0
"""Seconds that making a block may take."""

_LE: Final = (("job", "le"), (*MODEL, "le"))
_MICRODOLLAR: Final = 1e-6


class BackfillFailed(RuntimeError):  # noqa: N818  # reads as what happened, like ServerFailed
    """promtool did not make a block; the message has what it said."""


@dataclass(frozen=True)
class Caller:
    """Who calls which model for what, how often and how much at a time."""

    team: str
    agent: str
    phase: str
    provider: str
    model: str
    hourly: float
    """Calls an hour at the busiest time of a weekday."""
    tokens: Mapping[Any, int]
    """A call's, on average."""
    seconds: float
    """The median time to an answer."""
    operation: str = "chat"


def _tokens(prompt: int, cached: int, written: int, output: int, reasoning: int = 0) -> dict[str, int]:
    counts = {
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
        "responses",
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
        "responses",
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
    Caller("search", "indexer", "report", "google", "gemini-2.5-flash", 120, _tokens(3100, 0, 0, 300), 3),
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
        "responses",
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
    """A time at which something was wrong, counted back from the end."""

    days_ago: float
    hours: float
    of: Mapping[str, str]
    """The callers it hit: fields of theirs and the values."""
    error: str = ""
    failing: float = 0.0
    """Which fraction of their calls failed."""
    slower: float = 1.0
    busier: float = 1.0
    alert: str = ""
    severity: str = ""

    def at(self, now: float, end: float) -> bool:
        """Whether it was at a time, in a month that ended at another."""
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
    Incident(11.2, 6, {"agent": "migrator"}, busier=24, alert="LLMCostSpike", severity="critical"),
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
    Incident(0.1, 3, {"agent": "researcher"}, busier=4, alert="LLMCostSpike", severity="warning"),
)

BUDGETS: Final[tuple[tuple[str, str, float, dict[str, str]], ...]] = (
    ("everything", "month", 4000.0, {}),
    ("a day of coding", "day", 70.0, {"agent": "coder"}),
    ("research", "day", 15.0, {"agent": "researcher"}),
    ("migration", "month", 900.0, {"agent": "migrator"}),
)
"""Name, period, dollars and the callers it is of."""
THRESHOLDS: Final[tuple[tuple[str, str, float, dict[str, str]], ...]] = (
    ("hourly", "hour", 12.0, {}),
    ("daily", "day", 180.0, {}),
    ("monthly", "month", 3600.0, {}),
    ("coding", "hour", 6.0, {"agent": "coder"}),
)
"""Name, window, dollars and the callers it is of."""


def _is_of(caller: Caller, labels: Mapping[str, str]) -> bool:
    return all(getattr(caller, name) == value for name, value in labels.items())


def series(name: str, labels: Mapping[str, object]) -> str:
    """Return a series as it is written, such as `up{job="x"}`."""
    pairs = ",".join(f'{label}="{value}"' for label, value in labels.items())
    return f"{name}{{{pairs}}}"


# ---- what was done

Samples = Iterator[tuple[str, float]]
"""Series and their values."""


class _Sum:
    """What something came to, as a process counts it and as the rules keep it: in whole units, so exactly.

    Args:
        metric: the counter's name.
        labels: those of the series, and more.
        raw: its labels as it is scraped; none where only the rules keep it.
        level: its labels as the rules keep it; none where they do not.
        unit: what one of the whole units is.
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
        self.total = self.step = self.quarter = self.today = self.yesterday = 0
        name = f"{'_'.join(level)}:{metric.removesuffix('_total')}"
        self.kept = kept = {name: labels[name] for name in level}
        self.rolled_up: list[_Sum] = []
        """What goes by fewer labels, and all of this goes into."""
        self._minutes = [series(f"{name}:increase1m", {**kept, "day": day}) for day in "01"]
        self._quarter = series(f"{name}:increase15m", kept)
        self._day, self._today, self._before = (
            series(f"{name}:increase", {**kept, "part": part}) for part in ("day", "today", "before")
        )

    def add(self, amount: float) -> float:
        """Add what is nearest to an amount in whole units; return it."""
        whole = round(amount / self.unit)
        self.total += whole
        self.step += whole
        for more in self.rolled_up:
            more.step += whole
        return whole * self.unit

    def recorded(self, now: int, *, minutes: bool) -> Samples:
        """Yield what the rules record at the end of a step."""
        self.quarter += self.step
        if now % DAY == 0:
            yield self._day, self.today * self.unit
            self.today = 0
        self.today += self.step
        if minutes:
            yield self._minutes[now // DAY % 2], self.step * self.unit
        if now % QUARTER == 0:
            yield self._quarter, self.quarter * self.unit
            self.quarter = 0
        yield self._today, self.today * self.unit
        yield self._before, -self.today * self.unit


def _rolled_up(sums: Iterable[_Sum]) -> list[_Sum]:
    """Return the sums by fewer labels that others go into from now on."""
    made: dict[str, _Sum] = {}
    for each in sums:
        if not each.kept:
            continue
        for level in (level for level, source in LEVELS[each.metric].items() if source):
            name = series(each.metric, {label: each.kept[label] for label in level})
            if name not in made:
                made[name] = _Sum(each.metric, each.kept, level=level, unit=each.unit)
            each.rolled_up.append(made[name])
    return list(made.values())


class _Histogram:
    """Seconds of calls, or what else there is of them, spread around a median that may move."""

    def __init__(self, spec: Spec, labels: Mapping[str, str], median: float, spread: float = 3.0) -> None:
        self.median, self.spread = median, spread
        self.bounds = (*spec.buckets, math.inf)
        self.counts = [0.0] * len(self.bounds)
        self.step = [0.0] * len(self.bounds)
        self.total = 0.0
        texts = [
            f"{bound:g}".replace("inf", "+Inf") if bound == math.inf else str(float(bound))
            for bound in self.bounds
        ]
        self.buckets = [series(f"{spec.name}_bucket", {**labels, "le": text}) for text in texts]
        self.rest = series(f"{spec.name}_sum", labels), series(f"{spec.name}_count", labels)
        self.rates = [
            [
                series(
                    f"{'_'.join(level)}:{spec.name}_bucket:rate5m",
                    {name: {**labels, "le": text}[name] for name in level},
                )
                for level in _LE
                if {*level} <= {*labels, "le"}
            ]
            for text in texts
        ]

    def add(self, calls: float, factor: float = 1) -> None:
        median = self.median * factor
        for index, bound in enumerate(self.bounds):
            self.step[index] = calls / (1 + (median / bound) ** self.spread)
            self.counts[index] += self.step[index]
        self.total += calls * median * 1.15

    def raw(self, *, buckets: bool) -> Samples:
        """Yield it as it is scraped."""
        if buckets:
            yield from zip(self.buckets, self.counts, strict=True)
        yield self.rest[0], round(self.total, 3)
        yield self.rest[1], self.counts[-1]


class _State:
    """A caller and all that it has done."""

    def __init__(self, caller: Caller, prices: PriceList) -> None:
        self.caller = caller
        self.labels = {
            "job": JOB,
            "instance": INSTANCE,
            **{
                name: getattr(caller, name)
                for name in ("provider", "model", "agent", "phase", "team", "operation")
            },
        }
        call = Call(provider=caller.provider, model=caller.model, operation=caller.operation)
        call.tokens = dict.fromkeys(caller.tokens, 1000)
        prices.price(call)
        self.usd = {kind: usd / 1000 for kind, usd in call.cost.items()}
        base = [name for name in self.labels if name != "operation"]
        self.calls = self._sum("llm_calls_total", raw=self.labels, level=CALLER)
        self.failed = self._sum("llm_call_errors_total", level=CALLER)
        self.cost = self._sum("llm_cost_usd_total", unit=_MICRODOLLAR)
        self.unpriced = self._sum("llm_unpriced_tokens_total", raw=base)
        self.missing = self._sum("llm_usage_missing_total", raw=self.labels)
        self.tokens, self.costs, self.errors, self.retries = {}, {}, {}, {}
        typed = [*base, "token_type"]
        for kind in caller.tokens:
            self.labels["token_type"] = kind
            self.tokens[kind] = self._sum("llm_tokens_total", raw=typed, level=CALLER_BY_TYPE)
            if kind in self.usd:
                self.costs[kind] = self._sum(
                    "llm_cost_usd_total", raw=typed, level=CALLER_BY_TYPE, unit=_MICRODOLLAR
                )
        for error in ("rate_limited", "overloaded", "timeout", "server_error"):
            self.labels["error"] = error
            self.errors[error] = self._sum("llm_call_errors_total", raw=[*base, "operation", "error"])
            self.retries[error] = self._sum("llm_retries_total", raw=[*base, "error"])
        self.in_flight = series("llm_calls_in_flight", {name: self.labels[name] for name in base})
        by_operation = {name: self.labels[name] for name in (*base, "operation")}
        self.latency = _Histogram(LATENCY, by_operation, caller.seconds)
        self.first_token = _Histogram(TIME_TO_FIRST_TOKEN, by_operation, 0.3 + caller.seconds / 25)
        self.pace = _Histogram(OUTPUT_RATE, by_operation, 40 + 600 / (caller.seconds + 4))
        self.under_way = 0.0

    def _sum(self, metric: str, **how: Any) -> _Sum:
        return _Sum(metric, self.labels, **how)

    @property
    def sums(self) -> Iterator[_Sum]:
        """All that is added up."""
        yield from (self.calls, self.failed, self.cost, self.unpriced, self.missing)
        for kinds in (self.tokens, self.costs, self.errors, self.retries):
            yield from kinds.values()

    @property
    def histograms(self) -> tuple[_Histogram, ...]:
        return (self.latency, self.first_token, self.pace)


class Month:
    """The month. It is walked through once, and goes on after its end for as long as it is asked to.

    Args:
        days: how long ago it begins.
        end: when it ends, in seconds since 1970.
    """

    def __init__(self, days: float, end: float) -> None:
        self.end = int(end) // 60 * 60
        self.begin = int(self.end - days * DAY) // 300 * 300
        self.now: float = self.begin
        self._dice = random.Random(2026)  # noqa: S311  # a sample, the same every time
        prices = PriceList()
        self._states = [_State(caller, prices) for caller in CALLERS]
        self._rolled_up = _rolled_up(each for state in self._states for each in state.sums)
        self._spent = [
            *(
                _Spent(
                    ("llm_budget_limit_usd", "llm_budget_spent_usd"),
                    {"budget": name, "period": period},
                    usd,
                    of,
                )
                for name, period, usd, of in BUDGETS
            ),
            *(
                _Spent(
                    ("llm_cost_threshold_usd", "llm_cost_threshold_spent_usd"),
                    {"threshold": name, "window": window},
                    usd,
                    of,
                )
                for name, window, usd, of in THRESHOLDS
            ),
        ]
        self._lag = _Histogram(SHIPPING_LAG, {"job": JOB, "instance": INSTANCE}, 0.22)
        self._received = 0.0

    def steps(self) -> Iterator[int]:
        """Yield the times that the past is kept at."""
        now = self.begin
        while now < self.end:
            now += 60 if now >= self.end - RECENT else 300
            yield now

    def meanwhile(self) -> Iterator[int]:
        """Yield the minutes that have gone by since the end, for as long as there are any."""
        now = self.end
        while now + 60 <= time.time():
            now += 60
            yield now

    def advance(self, now: float) -> None:
        """Do what is done until a time."""
        elapsed, self.now = now - self.now, now
        for each in self._rolled_up:
            each.step = 0
        for state in self._states:
            self._work(state, now, elapsed)

    def _work(self, state: _State, now: float, elapsed: float) -> None:
        caller, dice = state.caller, self._dice
        for each in state.sums:
            each.step = 0
        hits = [hit for hit in INCIDENTS if hit.at(now, self.end) and _is_of(caller, hit.of)]
        rate = caller.hourly * self._bustle(caller, now) / HOUR
        slower = 1 + 0.25 * math.sin(now / 5000 + len(caller.agent)) * math.sin(now / 71000)
        failing = 0.003
        error = "timeout"
        for hit in hits:
            rate, slower, failing = rate * hit.busier, slower * hit.slower, max(failing, hit.failing)
            error = hit.error or error
        calls = int(rate * elapsed * dice.uniform(0.7, 1.3) + dice.random())
        failed = min(
            calls,
            int(
                calls * failing * dice.uniform(0.6, 1.4)
                + dice.random() * (calls > 0) * (failing > 0.01 or dice.random() < 0.02)
            ),
        )
        state.calls.add(calls)
        state.failed.add(failed)
        state.errors[error].add(failed)
        state.retries["rate_limited" if error == "timeout" else error].add(
            failed * 2 + int(calls * 0.01 + dice.random())
        )
        state.missing.add(calls > 0 and dice.random() < 0.002)
        state.under_way = int(rate * caller.seconds * slower * dice.uniform(0.5, 1.5) + dice.random())
        for kind, number in caller.tokens.items():
            tokens = state.tokens[kind].add((calls - failed) * number * dice.uniform(0.85, 1.15))
            if kind in state.costs:
                state.cost.add(state.costs[kind].add(tokens * state.usd[kind]))
            else:
                state.unpriced.add(tokens)
        state.latency.add(calls, slower)
        state.first_token.add(calls, slower)
        state.pace.add(calls, 1 / slower)
        self._lag.add(calls)
        self._received += calls
        for budget in self._spent:
            budget.add(caller, state.cost.step * _MICRODOLLAR, now)

    def _bustle(self, caller: Caller, now: float) -> float:
        """Return how busy it is: 1 at two o'clock on a weekday late in the month."""
        weekday = (int(now) // DAY + 3) % 7  # 1970 began on a Thursday
        daylight: float = max(0.0, math.cos((now % DAY / HOUR - 14) / 24 * 2 * math.pi)) ** 1.5
        grown = 1 - 0.3 * (self.end - now) / (30 * DAY)
        rest = 0.3 if weekday >= 5 and caller.team != "support" else 1.0
        return max(0.2, grown) * rest * (0.12 + 0.88 * daylight)

    def raw(self, *, buckets: bool = True) -> Samples:
        """Yield what a scrape shows now. Histograms are dear: the past keeps their sums and counts alone."""
        for state in self._states:
            for each in state.sums:
                if each.raw:
                    yield each.raw, round(each.total * each.unit, 6)
            yield state.in_flight, state.under_way
            for histogram in state.histograms:
                yield from histogram.raw(buckets=buckets)
        yield from self._limits()
        for budget in self._spent:
            yield from budget.samples()
        for name, *_ in BUDGETS:
            yield self._own("llm_budget_rejected_calls_total", budget=name), 0
        yield from self._exporter(buckets=buckets)

    def _own(self, name: str, **labels: str) -> str:
        return series(name, {"job": JOB, "instance": INSTANCE, **labels})

    def _limits(self) -> Samples:
        calls: dict[tuple[str, str], float] = defaultdict(float)
        for state in self._states:
            calls[state.caller.provider, state.caller.model] += state.caller.hourly * self._bustle(
                state.caller, self.now
            )
        for (provider, model), hourly in calls.items():
            for resource, limit, used in (
                ("requests", 60.0, hourly / 60),
                ("tokens", 600_000.0, hourly * 150),
            ):
                labels = {"provider": provider, "model": model, "resource": resource}
                yield self._own("llm_rate_limit_limit", **labels), limit
                left = limit - min(limit * 0.97, used * self._dice.uniform(1, 3))
                yield self._own("llm_rate_limit_remaining", **labels), round(left)

    def _exporter(self, *, buckets: bool) -> Samples:
        yield self._own("llm_exporter_received_calls_total"), self._received
        yield self._own("llm_exporter_duplicate_calls_total"), self._received // 4000
        yield self._own("llm_exporter_shipped_calls_total"), self._received
        yield self._own("llm_exporter_dropped_calls_total", reason="full"), self._received // 90_000
        yield self._own("llm_exporter_errors_total", where="reader"), self._received // 60_000
        yield from self._lag.raw(buckets=True)
        table = self.end - 3 * DAY + (self.now - self.end) // DAY * DAY
        yield self._own("llm_exporter_price_table_timestamp_seconds"), table
        yield self._own("llm_exporter_build_info", version="0.1.0", python_version="3.13.2"), 1
        yield self._own("llm_exporter_series"), 1460
        yield self._own("llm_exporter_series_limit"), 10_000
        yield self._own("llm_exporter_series_over_limit_total"), 0
        yield self._own("llm_exporter_config_last_reload_successful"), 1
        yield self._own("llm_exporter_config_last_reload_success_timestamp_seconds"), self.begin
        yield self._own("llm_exporter_budget_store_up"), 1

    def recorded(self) -> Samples:
        """Yield what Prometheus and its rules add to the step that was just done."""
        now = int(self.now)
        elapsed = 60 if now > self.end - RECENT else 300
        rates: dict[str, float] = defaultdict(float)
        for state in self._states:
            model = {name: state.labels[name] for name in MODEL}
            level = "_".join(MODEL)
            rates[series(f"{level}:llm_calls:rate5m", model)] += state.calls.step / elapsed
            rates[series(f"{level}:llm_calls_in_flight:sum", model)] += state.under_way
            for metric, kinds in (("llm_call_errors", state.errors), ("llm_retries", state.retries)):
                for error, each in kinds.items():
                    name = series(f"{level}_error:{metric}:rate5m", {**model, "error": error})
                    rates[name] += each.step / elapsed
            for each in state.sums:
                if each.kept:
                    yield from each.recorded(now, minutes=elapsed == 60)
            for histogram in state.histograms:
                for names, step in zip(histogram.rates, histogram.step, strict=True):
                    for name in names:
                        rates[name] += step / elapsed
        yield from rates.items()
        for each in self._rolled_up:
            yield from each.recorded(now, minutes=False)
        today = sum(state.cost.today for state in self._states) * _MICRODOLLAR
        yield series("job:llm_cost_usd:increase", {"job": JOB, "part": "today"}), today
        yield "llm:utc_day:number", now // DAY
        yield self._own("up"), 1
        yield self._own("scrape_duration_seconds"), round(self._dice.uniform(0.008, 0.02), 4)
        yield self._own("scrape_samples_scraped"), 2400
        for incident in INCIDENTS:
            if incident.at(now, self.end):
                labels = {"alertname": incident.alert, "alertstate": "firing", "severity": incident.severity}
                yield series("ALERTS", {**labels, "job": JOB, **incident.of}), 1


class _Spent:
    """A limit of dollars, and what of it is spent in its hour, day or month.

    Args:
        metrics: the names of the gauges: of the limit, and of what is spent.
        labels: theirs.
        usd: the limit.
        of: the callers it is for.
    """

    def __init__(
        self, metrics: tuple[str, str], labels: Mapping[str, str], usd: float, of: Mapping[str, str]
    ) -> None:
        self.of, self.usd = of, usd
        self.spent = 0.0
        self.began = ""
        period = labels.get("period") or labels["window"]
        self._period = {"hour": "%Y-%m-%d %H", "day": "%Y-%m-%d", "month": "%Y-%m"}[period]
        own = {"job": JOB, "instance": INSTANCE}
        self._limit, self._spent = (series(metric, {**own, **labels, **of}) for metric in metrics)

    def add(self, caller: Caller, usd: float, now: float) -> None:
        began = time.strftime(self._period, time.gmtime(now))
        if began != self.began:
            self.spent, self.began = 0.0, began
        if _is_of(caller, self.of):
            self.spent += usd

    def samples(self) -> Samples:
        yield self._limit, self.usd
        yield self._spent, round(self.spent, 6)


# ---- into Prometheus


def backfill(month: Month, directory: Path, storage: Path) -> None:
    """Walk through a month, and make blocks of a Prometheus' storage of it.

    Args:
        month: is at its end afterwards, or at what is then the present minute.
        directory: for files between the two, a day's at a time.
        storage: what `--storage.tsdb.path` is to be.

    Raises:
        BackfillFailed: when promtool does not make a block.
        BinaryUnavailable: when there is no promtool.
    """
    promtool = find("promtool")
    storage.mkdir(parents=True, exist_ok=True)
    with ThreadPoolExecutor(1, thread_name_prefix="promtool") as pool:
        made = None
        # To make up a month takes minutes, and a gap of more than five is one on every graph.
        steps = itertools.chain(month.steps(), month.meanwhile())
        for number, (_, times) in enumerate(itertools.groupby(steps, lambda now: now // SPAN)):
            file = directory / f"{number}.om"
            _write(month, times, file)
            if made:
                made.result()
            made = pool.submit(make_blocks, promtool, file, storage)
        if made:
            made.result()


def _write(month: Month, times: Iterable[int], file: Path) -> None:
    with file.open("w", encoding="utf-8") as lines:
        for now in times:
            month.advance(now)
            lines.writelines(f"{name} {value} {now}\n" for name, value in month.raw(buckets=False))
            lines.writelines(f"{name} {value} {now}\n" for name, value in month.recorded())
        lines.write("# EOF\n")


def make_blocks(promtool: Path, file: Path, storage: Path, span: int = SPAN) -> None:
    """Make blocks of so many seconds of an OpenMetrics file, and delete it; raises BackfillFailed."""
    command = [
        str(promtool),
        "tsdb",
        "create-blocks-from",
        "openmetrics",
        f"--max-block-duration={span}s",
        "--quiet",
    ]
    done = subprocess.run(  # noqa: S603  # a program that find() found
        [*command, str(file), str(storage)],
        check=False,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        env={**os.environ, **environment(promtool)},
    )
    if done.returncode:
        raise BackfillFailed(f"promtool: {(done.stderr or done.stdout).strip()[-500:]}")
    file.unlink()


class Continued:
    """A page that goes on where a month has ended, for a Prometheus to scrape."""

    def __init__(self, month: Month) -> None:
        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:  # the name is the base class's
                month.advance(max(month.now, time.time()))
                body = "".join(f"{_without(name)} {value}\n" for name, value in month.raw()).encode()
                self.send_response(200)
                self.send_header("Content-Type", "text/plain; version=0.0.4")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002  # its name in the base class
                pass

        self._server = HTTPServer(("127.0.0.1", 0), Handler)  # one at a time: a month has one present
        self.address = f"127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, name="sample-month")

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


def _without(name: str) -> str:
    """Return a series without the labels that Prometheus adds when it scrapes."""
    return name.replace(f'job="{JOB}",', "").replace(f'instance="{INSTANCE}"', f'instance="{INSTANCE}"', 1)
