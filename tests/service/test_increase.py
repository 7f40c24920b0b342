"""Prometheus reports the same cost as the ledger, although new agents appear all the time."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, make_server

import pytest

from llm_exporter.config.model import Config
from llm_exporter.metrics.http import WsgiMetrics
from llm_exporter.service.intake import Intake
from llm_exporter.service.ledger.base import Query
from llm_exporter.service.ledger.sqlite import SqliteLedger
from support.awaiting import until
from support.calls import a_call
from tools.stack import Prometheus

INTERVAL = 1.0
AGENTS = 60
"""A new one every 0.1 seconds, each with four calls."""
CALLS_EACH = 4
SPENT = AGENTS * CALLS_EACH * 0.75
"""USD: `a_call` costs $0.75."""


class _Quiet(WSGIRequestHandler):
    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
        """Log nothing."""


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[SqliteLedger]:
    ledger = SqliteLedger(tmp_path / "ledger.db")
    yield ledger
    ledger.close()


@pytest.fixture
def intake(ledger: SqliteLedger) -> Iterator[Intake]:
    intake = Intake(Config(scrape_interval=INTERVAL), ledger)
    yield intake
    intake.close()


@pytest.fixture
def port(intake: Intake) -> Iterator[int]:
    """Serve the same metrics at /with and /without zero-first."""
    metrics = WsgiMetrics(lambda: intake.metrics)

    def app(environ: Any, start_response: Any) -> Any:
        if environ["PATH_INFO"] == "/without":
            del environ["HTTP_X_PROMETHEUS_SCRAPE_TIMEOUT_SECONDS"]  # as if the client were not Prometheus
        return metrics(environ, start_response)

    server = make_server("127.0.0.1", 0, app, handler_class=_Quiet)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server.server_port
    server.shutdown()
    server.server_close()
    thread.join()


def config(directory: Path, port: int) -> Path:
    """Write a configuration with two jobs that have zero-first, as two servers would, and one without."""
    jobs = [
        {
            "job_name": name,
            "metrics_path": f"/{name.split('-')[0]}",
            "static_configs": [{"targets": [f"127.0.0.1:{port}"]}],
        }
        for name in ("with-a", "with-b", "without")
    ]
    path = directory / "prometheus.yml"
    path.write_text(json.dumps({"global": {"scrape_interval": f"{INTERVAL:.0f}s"}, "scrape_configs": jobs}))
    return path


def increase(prometheus: Prometheus, metric: str, job: str) -> float:
    """Return the sum over series of the last scraped value minus the first."""
    answer = prometheus.get("/api/v1/query", query=f'{metric}{{job="{job}"}}[10m]')
    return sum(
        float(series["values"][-1][1]) - float(series["values"][0][1]) for series in answer["data"]["result"]
    )


def test_increase_counts_the_first_value_of_new_series(
    intake: Intake, ledger: SqliteLedger, port: int, tmp_path: Path, figure: Callable[[str], None]
) -> None:
    with Prometheus.start(config=config(tmp_path, port), storage=tmp_path) as prometheus:
        until(lambda: len(prometheus.query("up == 1")) == 3)
        for agent in range(AGENTS):
            labels = {"agent": f"agent-{agent}"}
            intake.submit([a_call(labels=labels) for _ in range(CALLS_EACH)]).result()
            time.sleep(0.1)  # paces the run
        until(lambda: prometheus.query('sum(llm_cost_usd_total{job="with-b"})')[0].value == SPENT)
        until(lambda: prometheus.query('sum(llm_cost_usd_total{job="with-a"})')[0].value == SPENT)
        with_zero_first = {
            job: increase(prometheus, "llm_cost_usd_total", job) for job in ("with-a", "with-b")
        }
        without = increase(prometheus, "llm_cost_usd_total", "without")
        calls = increase(prometheus, "llm_calls_total", "with-a")
    figure(f"spent ${SPENT:.2f}; increase with zero-first {with_zero_first}; without it ${without:.2f}")
    assert ledger.totals(Query())[()].cost_usd == SPENT
    assert with_zero_first == {"with-a": SPENT, "with-b": SPENT}
    assert calls == AGENTS * CALLS_EACH
    assert without < SPENT / 2
