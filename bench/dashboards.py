"""How long the dashboards' queries take on a real Prometheus: 30 days of 200 agents on 20 models each.

What rules would have recorded is written straight into its storage. Of what is recorded each minute (`today`
and `before`), only the quarter of an hour before a time that a query looks at is there: the rest is not read.
"""

from __future__ import annotations

import json
import re
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

from demo.history import DAY, HOUR, QUARTER, make_blocks, series
from llm_exporter.cli.bundle import bundle
from llm_exporter.metrics.specs import LATENCY, OUTPUT_RATE, TIME_TO_FIRST_TOKEN
from tools.binaries import find
from tools.stack import Prometheus

from .compared import Row

AGENTS, MODELS, DAYS = 200, 20, 30
BOARDS = ("llm-cost", "llm-agents", "llm-latency")
TURNS = 3
TARGET = 2.0
ONE_PHASE = {"phase": "plan"}
"""Of three: the choice that leaves the most to add up, as nothing that is rolled up answers for it."""
SPAN = 162 * HOUR
"""Of one block: a Prometheus that has run for a month has merged its blocks of two hours to such ones."""

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
KEPT = {
    "llm_cost_usd": CALLERS,
    "llm_calls": CALLERS,
    "llm_call_errors": CALLERS[::10],
}
KEPT_BY_TYPE = {"llm_cost_usd": BY_TYPE, "llm_tokens": BY_TYPE}
LEVELS = (tuple(CALLERS[0]), ("job", "provider", "model"), ("job", "agent"), ("job", "phase"))
LEVELS_BY_TYPE = (tuple(BY_TYPE[0]), ("job", "provider", "model", "token_type"))


def families() -> Iterator[tuple[str, dict[str, str], float]]:
    """Yield what is recorded as sums: how its name begins, its labels, and the sum of an hour."""
    for kept, levels in ((KEPT, LEVELS), (KEPT_BY_TYPE, LEVELS_BY_TYPE)):
        for metric, callers in kept.items():
            for level in levels:
                hourly: dict[tuple[str, ...], float] = defaultdict(float)
                for number, caller in enumerate(callers):
                    hourly[tuple(caller[label] for label in level)] += (number % 97 + 1) / 100
                for values, value in hourly.items():
                    yield f"{'_'.join(level)}:{metric}", dict(zip(level, values, strict=True)), value


FAMILIES = list(families())


def every(seconds: int, begin: int, end: int) -> range:
    """Return the times between two that are whole multiples of so many seconds."""
    return range(-(-begin // seconds) * seconds, end, seconds)


def lines(begin: int, end: int, looked_at: Iterable[int]) -> Iterator[str]:
    """Yield what is recorded from one time to another, as OpenMetrics."""
    minutes = sorted(
        {now for look in looked_at for now in every(60, max(begin, look - QUARTER), min(end, look + 60))}
    )
    yield from (f"llm:utc_day:number {now // DAY} {now}\n" for now in minutes)
    for name, labels, value in FAMILIES:
        parts = [series(f"{name}:increase", {**labels, "part": part}) for part in ("day", "today", "before")]
        for now in every(DAY, begin, end):
            yield f"{parts[0]} {24 * value} {now}\n"
        for now in minutes:
            today = now % DAY / HOUR * value
            yield f"{parts[1]} {today} {now}\n{parts[2]} {-today} {now}\n"
            if tuple(labels) in (LEVELS[0], LEVELS_BY_TYPE[0]):
                minute = series(f"{name}:increase1m", {**labels, "day": str(now // DAY % 2)})
                yield f"{minute} {value / 60} {now}\n"
        if "token_type" not in labels:
            quarter = series(f"{name}:increase15m", labels)
            for now in every(QUARTER, begin, end):
                yield f"{quarter} {value / 4} {now}\n"
    yield from rates(begin, end)


def rates(begin: int, end: int) -> Iterator[str]:
    """Yield what is recorded of speed and failures."""
    models = [{name: model[name] for name in LEVELS[1]} for model in CALLERS[:MODELS]]
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
    """Fill a Prometheus' storage with the days before a time."""
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
                made.result()  # not more than one file ahead
            made = pool.submit(make_blocks, promtool, file, storage, SPAN)
        if made:
            made.result()


def asked(
    prometheus: Prometheus,
    panel: dict[str, Any],
    target: dict[str, Any],
    now: int,
    chosen: Mapping[str, str] = {},
) -> None:
    """Ask what a panel asks when its dashboard shows all the days, and everybody but for what is chosen."""
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


def rows() -> Iterator[Row]:
    """Yield rows for each dashboard: with everybody on it, and with a third of them chosen."""
    now = int(time.time()) // 60 * 60
    with tempfile.TemporaryDirectory(prefix="llm-exporter-bench-") as name:
        directory = Path(name)
        build(directory, now)
        config = directory / "prometheus.yml"
        config.write_text("{}")
        with Prometheus.start(config=config, storage=directory) as prometheus:
            for uid in BOARDS:
                board = json.loads((bundle("grafana") / "dashboards" / f"{uid}.json").read_bytes())
                targets = [(panel, target) for panel in board["panels"] for target in panel["targets"]]
                what = (
                    f"all {len(targets)} queries of {uid}, {DAYS} days of {AGENTS} agents by {MODELS} models"
                )
                seconds = took(prometheus, targets, now, {})
                yield Row(what, "", f"{seconds:.2f} s", f"≤ {TARGET:g} s")
                seconds = took(prometheus, targets, now, ONE_PHASE)
                yield Row(f"{what}, one phase chosen", "", f"{seconds:.2f} s")


def took(
    prometheus: Prometheus,
    targets: Sequence[tuple[dict[str, Any], dict[str, Any]]],
    now: int,
    chosen: Mapping[str, str],
) -> float:
    """Return the seconds that all queries took one after the other, the median of some turns."""
    turns = []
    for _ in range(TURNS):
        began = time.perf_counter()
        for panel, target in targets:
            asked(prometheus, panel, target, now, chosen)
        turns.append(time.perf_counter() - began)
    return sorted(turns)[TURNS // 2]
