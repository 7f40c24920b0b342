"""Measure what evaluating our rules costs Prometheus, with 200 active agents, each using 20 models.

The Prometheus on PATH is measured. If it is 3.16, so are the rules for Prometheus 3.
"""

from __future__ import annotations

import shutil
import tempfile
import threading
import time
from collections.abc import Iterable, Iterator, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import yaml

from demo.history.backfill import make_blocks
from demo.history.series import DAY, HOUR, series
from llm_exporter.bundle.files import bundle
from llm_exporter.bundle.increases import CALLER, DAY_NUMBER, Level, levels, prefix
from llm_exporter.metrics.specs import LATENCY
from tools.binaries import find
from tools.stack import Prometheus, ServerFailed, prometheus_config

from .compared import Row, Table, table
from .dashboards import AGENTS, BY_TYPE, CALLERS, COUNTERS, MODELS

TARGET = 3.0
"""Seconds of evaluation per minute."""
WARM_SECONDS = 180
"""How long to wait until every group with an interval under five minutes has evaluated full windows."""


def counters() -> Iterator[tuple[str, float]]:
    """Yield each series of the page with its increase per scrape."""
    for number, caller in enumerate(CALLERS):
        of = {name: value for name, value in caller.items() if name != "job"} | {"operation": "chat"}
        yield series("llm_calls_total", of), 1
        if number % 10 == 0:
            yield series("llm_call_errors_total", {**of, "error": "timeout"}), 1
        for bound in (*map(str, LATENCY.buckets), "+Inf"):
            yield series("llm_latency_seconds_bucket", {**of, "le": bound}), 1
    for typed in BY_TYPE:
        of = {name: value for name, value in typed.items() if name != "job"}
        yield series("llm_tokens_total", of), 100
        yield series("llm_cost_usd_total", of), 0.01


class Page(BaseHTTPRequestHandler):
    """Serve all counters, increased at each scrape."""

    counters = tuple(counters())
    scrapes = 0

    def do_GET(self) -> None:
        """Respond to a scrape."""
        Page.scrapes += 1
        body = "".join(f"{name} {step * Page.scrapes}\n" for name, step in self.counters).encode()
        self.send_response(200)
        self.send_header("Content-Type", "text/plain; version=0.0.4")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - its name in the base class
        """Log nothing."""


def tables() -> Iterator[Table]:
    """Yield the only table."""
    yield table("Rules", _rows())


EVERY = {"15s": 15, "1m": 60, "5m": 300, "10m": 600, "15m": 900}
"""Seconds. A group without an interval has that of prometheus.yml: 15 s."""
SAMPLE = 10
"""How many callers have a day of scrapes. The samples that rules read grow in proportion to the callers."""


def day_of_samples(now: int) -> Iterator[str]:
    """Yield what Prometheus scraped and recorded of some callers in a day, as OpenMetrics text."""
    callers = {(caller["model"], caller["agent"]) for caller in CALLERS[:SAMPLE]}

    def kept(labels: Mapping[str, str]) -> bool:
        return (labels["model"], labels["agent"]) in callers

    scraped = [(name.replace("{", '{job="llm-exporter",'), step) for name, step in counters()]
    names = {f'model="{model}",agent="{agent}"' for model, agent in callers}
    for name, step in scraped:
        if any(each in name for each in names):
            yield from (f"{name} {step * (at - now + DAY)} {at}\n" for at in range(now - DAY, now + 1, 5))
    minutes = range(now - DAY, now + 1, 60)
    yield from (f"{DAY_NUMBER} {at // DAY} {at}\n" for at in minutes)
    for metric, of_metric in levels().items():
        for level in of_metric:
            if not {*CALLER} <= {*level}:
                continue  # a few series, however many callers there are
            for labels in callers_at(level, filter(kept, COUNTERS[metric])):
                name = f"{prefix(level, metric)}:increase"
                for at in minutes:
                    yield f"{series(f'{name}1m', {**labels, 'day': str(at // DAY % 2)})} 1 {at}\n"
                for part in ("today", "before"):
                    yield from (f"{series(name, {**labels, 'part': part})} 1 {at}\n" for at in minutes)


def callers_at(level: Level, callers: Iterable[Mapping[str, str]]) -> Iterator[dict[str, str]]:
    """Yield the labels of callers at a level, each once."""
    seen = {tuple(labels[name] for name in level): None for labels in callers}
    yield from (dict(zip(level, values, strict=True)) for values in seen)


def samples_read(rules: Path, prometheus: Prometheus, now: int) -> float:
    """Return how many samples the rules of a directory read per minute, at full windows."""
    scaled = fixed = 0.0
    day = f"{DAY_NUMBER}[1d]"
    in_day = samples_of(f"count_over_time({day})", prometheus, now)
    for file in rules.glob("*.yml"):
        for group in yaml.safe_load(file.read_text())["groups"]:
            per_minute = 60 / EVERY[group.get("interval", "15s")]
            for rule in group["rules"]:
                of_day = rule["expr"].count(day) * in_day  # one series, however many callers there are
                scaled += (samples_of(rule["expr"], prometheus, now) - of_day) * per_minute
                fixed += of_day * per_minute
    return scaled * len(CALLERS) / SAMPLE + fixed


def samples_of(expr: str, prometheus: Prometheus, now: int) -> float:
    """Return how many samples a query reads."""
    response = prometheus.get("/api/v1/query", query=expr, time=str(now), stats="all")
    return float(response["data"]["stats"]["samples"]["totalQueryableSamples"])


def _samples(rules: Path, name: str) -> Iterator[Row]:
    """Yield how many samples all rules read per minute at 23:00 UTC."""
    now = int(time.time()) // DAY * DAY - HOUR
    with tempfile.TemporaryDirectory(prefix="llm-exporter-bench-") as scratch:
        directory = Path(scratch)
        storage = directory / Prometheus.data
        storage.mkdir()
        file = directory / "day.om"
        with file.open("w") as out:
            out.writelines(day_of_samples(now))
            out.write("# EOF\n")
        make_blocks(find("promtool"), file, storage, DAY)
        config = directory / "prometheus.yml"
        config.write_text("{}")
        with Prometheus.start(config=config, storage=directory) as prometheus:
            read = samples_read(rules, prometheus, now)
    what = f"samples that {name} read per minute at 23:00 UTC, {AGENTS} agents on {MODELS} models"
    yield Row(what, "", f"{read / 1e6:.1f} million")


def _rows() -> Iterator[Row]:
    """Yield what evaluating all rules costs per minute: the samples read, and the time."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Page)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    address = f"127.0.0.1:{server.server_port}"
    for name, for_3 in (("all rules", False), ("those for Prometheus 3", True)):
        with tempfile.TemporaryDirectory(prefix="llm-exporter-bench-") as scratch:
            config = prometheus_config(Path(scratch) / "config", targets=[address])
            if for_3:
                newer = bundle("prometheus") / "prometheus3"
                shutil.copytree(newer, config.parent / "rules", dirs_exist_ok=True)
            try:
                seconds = evaluation(config, Path(scratch))
            except ServerFailed:
                continue  # Prometheus 2 does not load the rules for Prometheus 3
            yield from _samples(config.parent / "rules", name)
        what = f"{name}, per minute, {AGENTS} agents on {MODELS} models, {len(Page.counters):,} series"
        yield Row(what, "", f"{seconds:.1f} s", f"{TARGET} s", seconds <= TARGET)
    server.shutdown()


def evaluation(config: Path, storage: Path) -> float:
    """Return how many seconds a Prometheus needs to evaluate all rules of a minute.

    Raises:
        ServerFailed: if it does not load them.
    """
    with Prometheus.start(config=config, storage=storage) as prometheus:
        time.sleep(WARM_SECONDS)
        groups = prometheus.get("/api/v1/rules")["data"]["groups"]
    return sum(float(group["evaluationTime"]) * 60 / float(group["interval"]) for group in groups)
