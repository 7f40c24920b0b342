"""Which metrics a caller has, and a budget or a cost threshold."""

from __future__ import annotations

import calendar
import time
from collections.abc import Iterator, Mapping
from statistics import fmean
from typing import Any, Final

from llm_exporter.bundle.increases import CALLER, CALLER_BY_TYPE
from llm_exporter.call import Call, ErrorKind, TokenType
from llm_exporter.metrics.specs import LATENCY, OUTPUT_RATE, TIME_TO_FIRST_TOKEN
from llm_exporter.pricing.prices import PriceList

from .scenario import Caller
from .series import DAY, INSTANCE, JOB, Histogram, Samples, Sum, series

MICRODOLLAR: Final = 1e-6
ERRORS: Final[tuple[ErrorKind, ...]] = ("rate_limited", "overloaded", "timeout", "server_error")
_PERIODS: Final = {"hour": "%Y-%m-%d %H", "day": "%Y-%m-%d", "month": "%Y-%m"}
_STEP: Final = 300
"""Seconds between the amounts that a budget remembers for its forecast."""


class CallerMetrics:
    """The metrics of a caller."""

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
        self.usd = _prices_per_token(caller, prices)
        base = [name for name in self.labels if name != "operation"]
        self.calls = self._sum("llm_calls_total", raw=self.labels, level=CALLER)
        self.failed = self._sum("llm_call_errors_total", level=CALLER)
        self.cost = self._sum("llm_cost_usd_total", unit=MICRODOLLAR)
        self.unpriced = self._sum("llm_unpriced_tokens_total", raw=base)
        self.usage_missing = self._sum("llm_usage_missing_total", raw=self.labels)
        self.approximated: list[Sum] = []
        if caller.approximated:
            self.labels["reason"] = caller.approximated
            self.approximated.append(self._sum("llm_price_approximated_tokens_total", raw=[*base, "reason"]))
        self.tokens: dict[TokenType, Sum] = {}
        self.costs: dict[TokenType, Sum] = {}
        self.errors: dict[ErrorKind, Sum] = {}
        self.retries: dict[ErrorKind, Sum] = {}
        typed = [*base, "token_type"]
        for kind in caller.tokens:
            self.labels["token_type"] = kind
            self.tokens[kind] = self._sum("llm_tokens_total", raw=typed, level=CALLER_BY_TYPE)
            if kind in self.usd:
                self.costs[kind] = self._sum(
                    "llm_cost_usd_total", raw=typed, level=CALLER_BY_TYPE, unit=MICRODOLLAR
                )
        for error in ERRORS:
            self.labels["error"] = error
            self.errors[error] = self._sum("llm_call_errors_total", raw=[*base, "operation", "error"])
            self.retries[error] = self._sum("llm_retries_total", raw=[*base, "error"])
        self.in_flight = series("llm_calls_in_flight", {name: self.labels[name] for name in base})
        self.calls_in_flight = 0.0
        by_operation = {name: self.labels[name] for name in (*base, "operation")}
        self.latency = Histogram(LATENCY, by_operation, caller.seconds)
        self.first_token = Histogram(TIME_TO_FIRST_TOKEN, by_operation, 0.3 + caller.seconds / 25)
        self.output_rate = Histogram(OUTPUT_RATE, by_operation, 40 + 600 / (caller.seconds + 4))

    def _sum(self, metric: str, **options: Any) -> Sum:
        return Sum(metric, self.labels, **options)

    @property
    def sums(self) -> Iterator[Sum]:
        """All sums."""
        yield from (self.calls, self.failed, self.cost, self.unpriced, self.usage_missing, *self.approximated)
        yield from (*self.tokens.values(), *self.costs.values())
        yield from (*self.errors.values(), *self.retries.values())

    @property
    def histograms(self) -> tuple[Histogram, ...]:
        """All histograms."""
        return (self.latency, self.first_token, self.output_rate)


def _prices_per_token(caller: Caller, prices: PriceList) -> dict[str, float]:
    """Return the USD of one token by type; types with no known price are left out."""
    call = Call(provider=caller.provider, model=caller.model, operation=caller.operation)
    call.tokens = dict.fromkeys(caller.tokens, 1000)
    prices.price(call)
    return {kind: usd / 1000 for kind, usd in call.cost.items()}


class SpendingLimit:
    """A budget or a cost threshold, with what was spent in the current hour, day or month.

    Args:
        metrics: the names of two gauges: the limit, and the amount spent.
        labels: the labels of the gauges; one of them is `period` or `window`.
        usd: the limit.
        matched: the labels of the calls that count.
    """

    def __init__(
        self, metrics: tuple[str, str], labels: Mapping[str, str], usd: float, matched: Mapping[str, str]
    ) -> None:
        self._matched, self._usd = matched, usd
        self._spent = self._ever = 0.0
        self._earlier: dict[int, tuple[float, float]] = {}
        """What was spent in the period and ever, at each multiple of `_STEP`."""
        self._began = ""
        self._period = _PERIODS[labels.get("period") or labels["window"]]
        own = {"job": JOB, "instance": INSTANCE}
        self._limit_series, self._spent_series = (
            series(metric, {**own, **labels, **matched}) for metric in metrics
        )
        shared = {"job": JOB, **labels, **matched, "unit": "usd"}
        self._recorded_spent, self._recorded_limit, self._recorded_forecast = (
            series(f"llm:budget_{name}", shared) for name in ("spent:max", "limit:max", "spent:forecast")
        )
        self._monthly = labels.get("period") == "month"

    def add(self, caller: Caller, usd: float, now: float) -> None:
        """Add the cost of a caller's calls, if they count."""
        began = time.strftime(self._period, time.gmtime(now))
        if began != self._began:
            self._spent, self._began = 0.0, began
        if caller.matches(self._matched):
            self._spent += usd
            self._ever += usd

    def samples(self) -> Samples:
        """Yield the gauges."""
        yield self._limit_series, self._usd
        yield self._spent_series, round(self._spent, 6)

    def recorded(self, now: int) -> Samples:
        """Yield what the rules in prometheus/rules/budgets.yml record for the budget of a day or a month."""
        yield self._recorded_spent, round(self._spent, 6)
        yield self._recorded_limit, self._usd
        self._earlier[now // _STEP * _STEP] = self._spent, self._ever
        forecast = self._month_forecast(now) if self._monthly else self._day_forecast(now)
        if forecast is not None:
            yield self._recorded_forecast, round(forecast, 6)

    def _month_forecast(self, now: int) -> float:
        _, then = self._at(now - 7 * DAY) or (0.0, 0.0)
        year, month, *_ = time.gmtime(now)
        end = calendar.timegm((year + month // 12, month % 12 + 1, 1, 0, 0, 0))
        return self._spent + (self._ever - then) / 7 * (end - now) / DAY

    def _day_forecast(self, now: int) -> float | None:
        for days in (7, 14), (1, 2):
            past = [(self._at(now - ago * DAY), self._at(now - (ago - 1) * DAY)) for ago in days]
            usual = [(then[0], end[1] - end[0] - then[1]) for then, end in past if then and end]
            if usual:
                so_far, later = map(fmean, zip(*usual, strict=True))
                little = self._usd / 4
                return self._spent + later * (self._spent + little) / (so_far + little)
        return None

    def _at(self, then: int) -> tuple[float, float] | None:
        return self._earlier.get(then // _STEP * _STEP)
