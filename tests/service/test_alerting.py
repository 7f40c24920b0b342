"""An agent that overspends causes an alert, and later its resolution, through real servers."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import pytest

from support import payloads
from support.awaiting import DEADLINE, until
from support.bundle import rewrite
from support.scripted import Server
from support.served import Served
from tools.stack import Alertmanager, Prometheus, alertmanager_config, prometheus_config

Json = dict[str, Any]


SPENDING = """
import sys, time
import openai
import llm_exporter

llm_exporter.instrument()
client = openai.OpenAI(base_url=sys.argv[1] + "/v1", api_key="none", max_retries=0)
with llm_exporter.labels(agent="planner", team="search"):
    client.chat.completions.create(model="gpt-4o", messages=[{"role": "user", "content": "Hello"}])
print(time.time())
"""

PENDING = 'ALERTS{alertname="LLMCostOverThreshold", alertstate="pending"}'

CONFIG = """
labels: [team]
thresholds:
  - {{name: planner-hour, window: hour, usd: {usd}, match: {{agent: planner, team: search}}}}
"""


class Webhook:
    """A receiver of Alertmanager webhooks that notes each alert and its time."""

    def __init__(self) -> None:
        received: list[tuple[float, Json]] = []

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["content-length"])))
                received.extend((time.time(), alert) for alert in body["alerts"])
                self.send_response(204)
                self.end_headers()

            def log_request(self, code: object = "-", size: object = "-") -> None:
                pass  # not to stderr

        self.received = received
        self._server = HTTPServer(("127.0.0.1", 0), Handler)
        self.address = f"127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever)
        self._thread.start()

    def await_status(self, status: str) -> tuple[float, Json]:
        """Return the first alert of a status, and the time when it was received."""
        until(lambda: any(alert["status"] == status for _, alert in self.received))
        return next((when, alert) for when, alert in self.received if alert["status"] == status)

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


@pytest.fixture
def webhook() -> Iterator[Webhook]:
    webhook = Webhook()
    yield webhook
    webhook.close()


def next_alert_shown(page: Any) -> Json:
    """Return the next alert from Alertmanager in the live page's events."""
    deadline = time.monotonic() + DEADLINE  # the stream itself never ends, and has a comment every 15 s
    for line in page:
        assert time.monotonic() < deadline, f"no alert within {DEADLINE} s"
        if line == b"event: alert\n":
            alert: Json = json.loads(next(page).removeprefix(b"data: "))
            if " is exceeded: $" in alert["title"]:  # not in alerts of the service itself
                return alert
    raise AssertionError("the page's events ended")


def test_an_agent_that_overspends_causes_an_alert_and_its_resolution(
    server: Server, webhook: Webhook, tmp_path: Path, figure: Callable[[str], None]
) -> None:
    """Use our files with shorter intervals, a `for` to see the pending alert, and another webhook."""
    usage = {"prompt_tokens": 400_000, "completion_tokens": 500_000, "total_tokens": 900_000}
    server.respond_with("/v1/chat/completions", payloads.chat(usage))
    config = tmp_path / "llm-exporter.yml"
    config.write_text(CONFIG.format(usd=5))  # a call costs 0.4 x 2.50 + 0.5 x 10
    with Served(tmp_path, "--config", str(config)) as served:
        exporter = f"127.0.0.1:{served.port}"
        alerting = alertmanager_config(tmp_path / "alerting", exporter=exporter)
        rewrite(
            alerting,
            ("group_wait: 15s", "group_wait: 1s"),
            ("group_interval: 1m", "group_interval: 1s"),
            (
                f"      - url: http://{exporter}/api/v1/alerts",
                f"      - url: http://{exporter}/api/v1/alerts\n      - url: http://{webhook.address}/",
            ),
        )
        with Alertmanager.start(config=alerting, storage=tmp_path) as alertmanager:
            address = alertmanager.url.removeprefix("http://")
            watching = prometheus_config(tmp_path / "config", targets=[exporter], alertmanagers=[address])
            rewrite(
                watching,
                ("scrape_interval: 5s", "scrape_interval: 1s"),
                ("scrape_timeout: 5s", "scrape_timeout: 1s"),
                ("evaluation_interval: 15s", "evaluation_interval: 1s"),
                ("runbooks_url: docs/runbooks.md", "runbooks_url: https://runbooks.example"),
            )
            rewrite(
                tmp_path / "config/rules/cost.yml",
                (
                    "expr: llm_cost_threshold_spent_usd > llm_cost_threshold_usd\n",
                    "expr: llm_cost_threshold_spent_usd > llm_cost_threshold_usd\n        for: 2s\n",
                ),
            )
            with (
                Prometheus.start(config=watching, storage=tmp_path) as prometheus,
                urlopen(f"{served.url}/api/v1/events", timeout=60) as page,
            ):
                until(lambda: bool(prometheus.query("up == 1")))
                assert _states(prometheus) == []
                called = float(_spend(server.url, served))
                until(lambda: _states(prometheus) == ["firing"])
                # It is pending for two seconds, which a busy machine may sleep through.
                assert prometheus.query(f"max_over_time({PENDING}[10m])")
                fired_at, alert = webhook.await_status("firing")
                shown = next_alert_shown(page)

                _raise_the_threshold(served, config)
                resolved_at, resolved = webhook.await_status("resolved")
    figure(f"from the call to the webhook {fired_at - called:.1f} s, intervals of 1 s, `for` of 2 s")

    summary = "Threshold planner-hour is exceeded: $6.00 spent in the current hour"
    assert alert["labels"] == {
        "alertname": "LLMCostOverThreshold",
        "severity": "warning",
        "job": "llm-exporter",
        "instance": exporter,
        "threshold": "planner-hour",
        "window": "hour",
        "agent": "planner",
        "team": "search",
    }
    assert alert["annotations"]["summary"] == summary
    assert alert["annotations"]["dashboard_url"] == (
        "http://127.0.0.1:3000/d/llm-cost?var-job=llm-exporter&var-agent=planner"
    )
    assert alert["annotations"]["runbook_url"] == "https://runbooks.example#llmcostoverthreshold"
    assert (shown["title"], shown["severity"], shown["resolved"]) == (summary, "warning", False)
    assert resolved["labels"] == alert["labels"]
    assert resolved_at > fired_at


def _spend(url: str, served: Served) -> str:
    """Make one call in another process, and return the time when it ended."""
    done = subprocess.run(
        [sys.executable, "-c", SPENDING, url],
        env=served.client_environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def _states(prometheus: Prometheus) -> list[str]:
    alerts = prometheus.get("/api/v1/alerts")["data"]["alerts"]
    return [each["state"] for each in alerts if each["labels"]["alertname"] == "LLMCostOverThreshold"]


def _raise_the_threshold(served: Served, config: Path) -> None:
    served.stop()
    config.write_text(CONFIG.format(usd=10))
    served.start()
