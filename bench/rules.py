"""Measure what evaluating our rules costs Prometheus, with 200 active agents, each using 20 models."""

from __future__ import annotations

import tempfile
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from demo.history.series import series
from llm_exporter.metrics.specs import LATENCY
from tools.stack import Prometheus, prometheus_config

from .compared import Row, Table, table
from .dashboards import AGENTS, BY_TYPE, CALLERS, MODELS

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


def _rows() -> Iterator[Row]:
    """Yield the time that evaluating all rules takes per minute."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Page)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    with tempfile.TemporaryDirectory(prefix="llm-exporter-bench-") as name:
        directory = Path(name)
        config = prometheus_config(directory / "config", targets=[f"127.0.0.1:{server.server_port}"])
        with Prometheus.start(config=config, storage=directory) as prometheus:
            time.sleep(WARM_SECONDS)
            groups = prometheus.get("/api/v1/rules")["data"]["groups"]
    server.shutdown()
    seconds = sum(group["evaluationTime"] * 60 / group["interval"] for group in groups)
    what = f"all rules, per minute, {AGENTS} agents on {MODELS} models, {len(Page.counters):,} series"
    yield Row(what, "", f"{seconds:.1f} s")
