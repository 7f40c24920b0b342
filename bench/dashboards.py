"""Measure the dashboards' queries on a real Prometheus: 30 days of 200 agents, each using 20 models.

The recorded series are written straight into its storage. Series that are recorded every minute (`today` and
`before`) are written only for the 15 minutes before each time that a query reads.
"""

from __future__ import annotations

import json
import re
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from demo.history.backfill import make_blocks
from demo.history.series import DAY, HOUR, QUARTER, series
from llm_exporter.bundle.files import bundle
from llm_exporter.bundle.increases import MODEL, levels, prefix
from llm_exporter.metrics.specs import LATENCY, OUTPUT_RATE, TIME_TO_FIRST_TOKEN
from tools.binaries import find
from tools.stack import Prometheus

from .compared import Row, Table, table

AGENTS, MODELS, DAYS = 200, 20, 30
BOARDS = ("llm-cost", "llm-agents", "llm-latency")
TURNS = 3
TARGET = 2.0
ONE_PHASE = {"phase": "plan"}
"""The most expensive filter: a third of the series remain, and no coarser level answers for all panels."""
SPAN = 162 * HOUR
"""The length of a block: after a month, Prometheus has merged its two-hour blocks to this size."""

TYPES = ("input", "cache_read", "output")
CALLERS = [
    {
        "job": "llm-exporter",
        "provider": ("openai", "anthropic", "google")[model % 3],
        "model": f"model-{model}",
        "agent": f"agent-{agent}",
        "phase": ("plan", "execute", "review")[agent % 3],
    }
    for agent in range(AGENTS)
    for model in range(MODELS)
]
BY_TYPE = [{**each, "token_type": kind} for each in CALLERS for kind in TYPES]
COUNTERS = {
    "llm_calls_total": CALLERS,
    "llm_call_errors_total": CALLERS[::10],
    "llm_cost_usd_total": BY_TYPE,
    "llm_tokens_total": BY_TYPE,
}
"""The labels of each counter's series."""


@dataclass(frozen=True)
class Sum:
    """A recorded sum."""

    name: str
    """What its recorded names begin with."""
    labels: dict[str, str]
    hourly: float
    """Its increase in an hour."""
    finest: bool
    """Whether it is summed from the counter, not from another level."""


def sums() -> Iterator[Sum]:
    """Yield the recorded sums of all counters at all levels."""
    for metric, callers in COUNTERS.items():
        for level, source in levels()[metric].items():
            hourly: dict[tuple[str, ...], float] = defaultdict(float)
            for number, caller in enumerate(callers):
                hourly[tuple(caller[label] for label in level)] += (number % 97 + 1) / 100
            for values, value in hourly.items():
                labels = dict(zip(level, values, strict=True))
                yield Sum(prefix(level, metric), labels, value, finest=source is None)


SUMS = list(sums())


def every(seconds: int, begin: int, end: int) -> range:
    """Return the multiples of a number of seconds between two times."""
    return range(-(-begin // seconds) * seconds, end, seconds)


def lines(begin: int, end: int, looked_at: Iterable[int]) -> Iterator[str]:
    """Yield the recorded samples between two times as OpenMetrics text."""
    minutes = sorted(
        {now for look in looked_at for now in every(60, max(begin, look - QUARTER), min(end, look + 60))}
    )
    yield from (f"llm:utc_day:number {now // DAY} {now}\n" for now in minutes)
    for each in SUMS:
        day, today, before = (
            series(f"{each.name}:increase", {**each.labels, "part": part})
            for part in ("day", "today", "before")
        )
        for now in every(DAY, begin, end):
            yield f"{day} {24 * each.hourly} {now}\n"
        for now in minutes:
            value = now % DAY / HOUR * each.hourly
            yield f"{today} {value} {now}\n{before} {-value} {now}\n"
            if each.finest:
                minute = series(f"{each.name}:increase1m", {**each.labels, "day": str(now // DAY % 2)})
                yield f"{minute} {each.hourly / 60} {now}\n"
        if "token_type" not in each.labels:  # no dashboard graphs token types
            quarter = series(f"{each.name}:increase15m", each.labels)
            for now in every(QUARTER, begin, end):
                yield f"{quarter} {each.hourly / 4} {now}\n"
    yield from rates(begin, end)


def rates(begin: int, end: int) -> Iterator[str]:
    """Yield the recorded rates of latencies, calls and errors."""
    models = [{name: caller[name] for name in MODEL} for caller in CALLERS[:MODELS]]
    for kept in ({"job": "llm-exporter"}, *models):
        for spec in (LATENCY, TIME_TO_FIRST_TOKEN, OUTPUT_RATE):
            for number, bound in enumerate((*map(str, spec.buckets), "+Inf")):
                name = series(f"{'_'.join((*kept, 'le'))}:{spec.name}_bucket:rate5m", {**kept, "le": bound})
                for now in every(300, begin, end):
                    yield f"{name} {number * (1 + now % 7 / 10)} {now}\n"
    for kept in models:
        by_error = {**kept, "error": "timeout"}
        for name in (
            series("job_provider_model:llm_calls:rate5m", kept),
            series("job_provider_model:llm_calls_in_flight:sum", kept),
            series("job_provider_model_error:llm_call_errors:rate5m", by_error),
            series("job_provider_model_error:llm_retries:rate5m", by_error),
        ):
            for now in every(300, begin, end):
                yield f"{name} {1 + now % 7} {now}\n"


def build(directory: Path, now: int) -> None:
    """Fill Prometheus' storage with the days before a time."""
    promtool, storage = find("promtool"), directory / Prometheus.data
    storage.mkdir()
    month = time.gmtime(now).tm_mday * DAY - DAY + now % DAY
    looked_at = [now - back for back in (0, HOUR, now % DAY, 7 * DAY, month, DAYS * DAY)]
    begin = now - DAYS * DAY

    def write(number: int) -> Path:
        file = directory / f"{number}.om"
        span = max(begin, number * SPAN), min(now + 1, (number + 1) * SPAN)
        with file.open("w") as out:
            out.writelines(lines(*span, looked_at))
            out.write("# EOF\n")
        return file

    with ThreadPoolExecutor(1) as pool:
        made: Future[None] | None = None
        for number in range(begin // SPAN, now // SPAN + 1):
            file = write(number)
            if made:
                made.result()  # at most one file ahead
            made = pool.submit(make_blocks, promtool, file, storage, SPAN)
        if made:
            made.result()


def run_query(
    prometheus: Prometheus,
    panel: dict[str, Any],
    target: dict[str, Any],
    now: int,
    chosen: Mapping[str, str] = {},
) -> None:
    """Run a panel's query over all days, with every filter set to All except the chosen ones."""
    window = {"now/d": now % DAY, "now/M": time.gmtime(now).tm_mday * DAY - DAY + now % DAY}.get(
        panel.get("timeFrom", ""), DAYS * DAY
    )
    least = {"15m": QUARTER, "5m": 300}.get(panel.get("interval", ""), 15)
    nice = (300, 600, 900, 1800, HOUR, 2 * HOUR, 3 * HOUR, 6 * HOUR, 12 * HOUR, DAY)
    step = next(each for each in nice if each >= max(least, window / panel.get("maxDataPoints", 800)))
    values = {
        "__range_s": window,
        "__range": f"{window}s",
        "__rate_interval": f"{step + 15}s",
        "__interval_ms": step * 1000,
        "__interval": f"{step}s",
        **chosen,
    }
    query = re.sub(r"\$(\w+)", lambda name: str(values.get(name[1], ".*")), target["expr"])
    if target["instant"]:
        prometheus.get("/api/v1/query", query=query, time=str(now))
    else:
        times = {"start": str((now - window) // step * step), "end": str(now), "step": str(step)}
        prometheus.get("/api/v1/query_range", query=query, **times)


def tables() -> Iterator[Table]:
    """Yield the only table."""
    yield table("Dashboards", _rows())


def _rows() -> Iterator[Row]:
    """Yield two rows for each dashboard: with all filters set to All, and with one of three phases chosen."""
    now = int(time.time()) // 60 * 60
    with tempfile.TemporaryDirectory(prefix="llm-exporter-bench-") as name:
        directory = Path(name)
        build(directory, now)
        config = directory / "prometheus.yml"
        config.write_text("{}")
        with Prometheus.start(config=config, storage=directory) as prometheus:
            for uid in BOARDS:
                board = json.loads((bundle("grafana") / "dashboards" / f"{uid}.json").read_bytes())
                panels = [panel for panel in board["panels"] if panel["type"] != "row"]
                targets = [(panel, target) for panel in panels for target in panel["targets"]]
                what = f"all {len(targets)} queries of {uid}, {DAYS} days, {AGENTS} agents on {MODELS} models"
                seconds = duration(prometheus, targets, now, {})
                yield Row(what, "", f"{seconds:.2f} s", f"≤ {TARGET:g} s")
                seconds = duration(prometheus, targets, now, ONE_PHASE)
                yield Row(f"{what}, one phase chosen", "", f"{seconds:.2f} s")


def duration(
    prometheus: Prometheus,
    targets: Sequence[tuple[dict[str, Any], dict[str, Any]]],
    now: int,
    chosen: Mapping[str, str],
) -> float:
    """Return the seconds that all queries take one after another: the median of several turns."""
    durations = []
    for _ in range(TURNS):
        began = time.perf_counter()
        for panel, target in targets:
            run_query(prometheus, panel, target, now, chosen)
        durations.append(time.perf_counter() - began)
    return sorted(durations)[TURNS // 2]
