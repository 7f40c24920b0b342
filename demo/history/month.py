"""What happens when in the sample month, and which samples Prometheus would have of it."""

from __future__ import annotations

import math
import random
import time
from collections import defaultdict
from collections.abc import Iterator
from typing import Final

from llm_exporter.bundle.increases import MODEL
from llm_exporter.call import ErrorKind
from llm_exporter.metrics.specs import SHIPPING_LAG
from llm_exporter.pricing.prices import PriceList

from .metrics import MICRODOLLAR, CallerMetrics, SpendingLimit
from .scenario import BUDGETS, CALLERS, INCIDENTS, THRESHOLDS, Caller
from .series import DAY, HOUR, INSTANCE, JOB, Histogram, Samples, add_coarser_sums, series

RECENT: Final = DAY
"""Samples are a minute apart in the last day, and five minutes apart before."""

_WATCHDOG: Final = {
    "alertname": "LLMWatchdog",
    "severity": "none",
    "page": "http://127.0.0.1:9847",
    "runbooks": "docs/runbooks.md",
}


class Month:
    """A simulated month. Time moves forward only, and can pass the end.

    Args:
        days: its length.
        end: its end as a Unix timestamp.
    """

    def __init__(self, days: float, end: float) -> None:
        self.end = int(end) // 60 * 60
        self.begin = int(self.end - days * DAY) // 300 * 300
        self.now: float = self.begin
        self._random = random.Random(2026)  # noqa: S311  # the same sample every time
        prices = PriceList()
        self.callers = [CallerMetrics(caller, prices) for caller in CALLERS]
        """The metrics of each caller."""
        self._coarser = add_coarser_sums(each for metrics in self.callers for each in metrics.sums)
        self._budgets = [
            SpendingLimit(
                ("llm_budget_limit_usd", "llm_budget_spent_usd"),
                {"budget": name, "period": period},
                usd,
                labels,
            )
            for name, period, usd, labels in BUDGETS
        ]
        self._limits = [
            *self._budgets,
            *(
                SpendingLimit(
                    ("llm_cost_threshold_usd", "llm_cost_threshold_spent_usd"),
                    {"threshold": name, "window": window},
                    usd,
                    labels,
                )
                for name, window, usd, labels in THRESHOLDS
            ),
        ]
        self._lag = Histogram(SHIPPING_LAG, {"job": JOB, "instance": INSTANCE}, 0.22)
        self._received = 0.0

    def steps(self) -> Iterator[int]:
        """Yield the times of the samples until the end."""
        now = self.begin
        while now < self.end:
            now += 60 if now >= self.end - RECENT else 300
            yield now

    def minutes_since_end(self) -> Iterator[int]:
        """Yield each minute between the end and the present, which moves on while the caller works."""
        now = self.end
        while now + 60 <= time.time():
            now += 60
            yield now

    def advance(self, now: float) -> None:
        """Simulate everything until a time."""
        elapsed, self.now = now - self.now, now
        for each in self._coarser:
            each.step = 0
        for metrics in self.callers:
            self._simulate(metrics, now, elapsed)

    def _simulate(self, metrics: CallerMetrics, now: float, elapsed: float) -> None:
        caller, chance = metrics.caller, self._random
        for each in metrics.sums:
            each.step = 0
        hits = [hit for hit in INCIDENTS if hit.active(now, self.end) and caller.matches(hit.labels)]
        rate = caller.hourly * self._activity(caller, now) / HOUR
        latency = 1 + 0.25 * math.sin(now / 5000 + len(caller.agent)) * math.sin(now / 71000)
        error_ratio = 0.003
        error: ErrorKind = "timeout"
        for hit in hits:
            rate *= hit.calls_factor
            latency *= hit.latency_factor
            error_ratio = max(error_ratio, hit.error_ratio)
            error = hit.error or error
        calls = int(rate * elapsed * chance.uniform(0.7, 1.3) + chance.random())
        failed = min(
            calls,
            int(
                calls * error_ratio * chance.uniform(0.6, 1.4)
                + chance.random() * (calls > 0) * (error_ratio > 0.01 or chance.random() < 0.02)
            ),
        )
        metrics.calls.add(calls)
        metrics.failed.add(failed)
        metrics.errors[error].add(failed)
        metrics.retries["rate_limited" if error == "timeout" else error].add(
            failed * 2 + int(calls * 0.01 + chance.random())
        )
        metrics.usage_missing.add(calls > 0 and chance.random() < 0.002)
        metrics.calls_in_flight = int(
            rate * caller.seconds * latency * chance.uniform(0.5, 1.5) + chance.random()
        )
        for kind, number in caller.tokens.items():
            tokens = metrics.tokens[kind].add((calls - failed) * number * chance.uniform(0.85, 1.15))
            if kind in metrics.costs:
                metrics.cost.add(metrics.costs[kind].add(tokens * metrics.usd[kind]))
            else:
                metrics.unpriced.add(tokens)
            for approximated in metrics.approximated:
                approximated.add(tokens)
        metrics.latency.add(calls, latency)
        metrics.first_token.add(calls, latency)
        metrics.output_rate.add(calls, 1 / latency)
        self._lag.add(calls)
        self._received += calls
        for limit in self._limits:
            limit.add(caller, metrics.cost.step * MICRODOLLAR, now)

    def _activity(self, caller: Caller, now: float) -> float:
        """Return how busy a caller is: 1 at 14:00 UTC on a weekday at the end of the month."""
        weekday = (int(now) // DAY + 3) % 7  # January 1, 1970 was a Thursday
        daylight: float = max(0.0, math.cos((now % DAY / HOUR - 14) / 24 * 2 * math.pi)) ** 1.5
        growth = 1 - 0.3 * (self.end - now) / (30 * DAY)
        weekend = 0.3 if weekday >= 5 and caller.team != "support" else 1.0
        return max(0.2, growth) * weekend * (0.12 + 0.88 * daylight)

    def raw(self, *, buckets: bool = True) -> Samples:
        """Yield the samples of a scrape. Without buckets, histograms have only their sums and counts."""
        for metrics in self.callers:
            for each in metrics.sums:
                if each.raw:
                    yield each.raw, round(each.value, 6)
            yield metrics.in_flight, metrics.calls_in_flight
            for histogram in metrics.histograms:
                yield from histogram.raw(buckets=buckets)
        yield from self._rate_limits()
        for limit in self._limits:
            yield from limit.samples()
        for name, *_ in BUDGETS:
            yield self._series("llm_budget_rejected_calls_total", budget=name), 0
        yield from self._exporter()

    def _series(self, name: str, **labels: str) -> str:
        return series(name, {"job": JOB, "instance": INSTANCE, **labels})

    def _rate_limits(self) -> Samples:
        calls: dict[tuple[str, str], float] = defaultdict(float)
        for metrics in self.callers:
            calls[metrics.caller.provider, metrics.caller.model] += metrics.caller.hourly * self._activity(
                metrics.caller, self.now
            )
        for (provider, model), hourly in calls.items():
            for resource, limit, used in (
                ("requests", 60.0, hourly / 60),
                ("tokens", 600_000.0, hourly * 150),
            ):
                labels = {"provider": provider, "model": model, "resource": resource}
                yield self._series("llm_rate_limit_limit", **labels), limit
                left = limit - min(limit * 0.97, used * self._random.uniform(1, 3))
                yield self._series("llm_rate_limit_remaining", **labels), round(left)

    def _exporter(self) -> Samples:
        yield self._series("llm_exporter_received_calls_total"), self._received
        yield self._series("llm_exporter_duplicate_calls_total"), self._received // 4000
        yield self._series("llm_exporter_shipped_calls_total"), self._received
        yield self._series("llm_exporter_dropped_calls_total", reason="memory"), self._received // 90_000
        yield self._series("llm_exporter_errors_total", where="wire"), self._received // 60_000
        unread = self._series(
            "llm_exporter_unread_requests_total",
            provider="openai",
            route="POST /v1/vector_stores/{id}/search",
        )
        yield unread, self._received // 5000
        yield from self._lag.raw(buckets=True)
        table = self.end - 3 * DAY + (self.now - self.end) // DAY * DAY
        yield self._series("llm_exporter_price_table_timestamp_seconds"), table
        yield self._series("llm_exporter_build_info", version="0.1.0", python_version="3.13.2"), 1
        yield self._series("llm_exporter_series"), 1460
        yield self._series("llm_exporter_series_limit"), 10_000
        yield self._series("llm_exporter_series_over_limit_total"), 0
        yield self._series("llm_exporter_config_last_reload_successful"), 1
        yield self._series("llm_exporter_config_last_reload_success_timestamp_seconds"), self.begin
        yield self._series("llm_exporter_budget_store_up"), 1

    def recorded(self) -> Samples:
        """Yield what Prometheus and its rules record for the last step."""
        now = int(self.now)
        elapsed = 60 if now > self.end - RECENT else 300
        rates: dict[str, float] = defaultdict(float)
        for metrics in self.callers:
            model = {name: metrics.labels[name] for name in MODEL}
            level = "_".join(MODEL)
            rates[series(f"{level}:llm_calls:rate5m", model)] += metrics.calls.step / elapsed
            rates[series(f"{level}:llm_calls_in_flight:sum", model)] += metrics.calls_in_flight
            for metric, kinds in (("llm_call_errors", metrics.errors), ("llm_retries", metrics.retries)):
                for error, each in kinds.items():
                    name = series(f"{level}_error:{metric}:rate5m", {**model, "error": error})
                    rates[name] += each.step / elapsed
            for each in metrics.sums:
                if each.level_labels:
                    yield from each.recorded(now, minutes=elapsed == 60)
            for histogram in metrics.histograms:
                for name, rate in histogram.rates(elapsed):
                    rates[name] += rate
        yield from rates.items()
        for each in self._coarser:
            yield from each.recorded(now, minutes=False)
        today = sum(cost.today for metrics in self.callers for cost in metrics.costs.values())
        yield series("job:llm_cost_usd:increase", {"job": JOB, "part": "today"}), today
        for budget in self._budgets:
            yield from budget.recorded(now)
        yield "llm:utc_day:number", now // DAY
        yield self._series("up"), 1
        yield self._series("scrape_duration_seconds"), round(self._random.uniform(0.008, 0.02), 4)
        yield self._series("scrape_samples_scraped"), 2400
        yield from self._alerts(now)

    def _alerts(self, now: int) -> Samples:
        yield series("ALERTS", {**_WATCHDOG, "alertstate": "firing"}), 1
        for incident in INCIDENTS:
            if incident.active(now, self.end):
                labels = {"alertname": incident.alert, "severity": incident.severity, "job": JOB}
                yield series("ALERTS", {**labels, **incident.labels, "alertstate": "firing"}), 1
                began = self.end - incident.days_ago * DAY
                yield series("ALERTS_FOR_STATE", {**labels, **incident.labels}), began
