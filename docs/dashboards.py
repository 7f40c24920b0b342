"""Take screenshots of the dashboards with the demo's sample month; needs Grafana and Chromium on PATH."""

from __future__ import annotations

import json
import shutil
import tempfile
import time
from pathlib import Path

from playwright.sync_api import sync_playwright

from demo.history.backfill import backfill
from demo.history.month import Month
from demo.history.series import DECLARED
from demo.history.server import MonthServer
from llm_exporter.bundle.writing import Target, write
from tools.stack import Grafana, Prometheus, prometheus_config

WIDTH = 1400
LOAD_TIMEOUT = 60_000
"""Milliseconds that a dashboard may take to load."""
TIME_RANGES = {
    "llm-cost": "7d",
    "llm-agents": "7d",
    "llm-latency": "24h",
    "llm-budgets": "24h",
    "llm-exporter": "24h",
}


def main() -> None:
    """Start the servers on the sample month and take the screenshots."""
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        month = Month(30, time.time())
        backfill(month, directory, directory / Prometheus.data)
        write(directory / "bundle", Target(labels=DECLARED))
        dashboards = directory / "bundle/grafana/dashboards"
        with (
            MonthServer(month) as page,
            Prometheus.start(
                config=prometheus_config(
                    directory / "config", targets=[page.address], rules=directory / "bundle/prometheus/rules"
                ),
                storage=directory,
            ) as prometheus,
            Grafana.start(prometheus=prometheus.url, storage=directory, dashboards=dashboards) as grafana,
        ):
            take_screenshots(grafana, dashboards)


def take_screenshots(grafana: Grafana, dashboards: Path) -> None:
    """Take a full-height screenshot of each dashboard."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=shutil.which("chromium"), args=["--headless", "--no-sandbox", "--disable-gpu"]
        )
        for uid, since in TIME_RANGES.items():
            board = json.loads((dashboards / f"{uid}.json").read_bytes())
            rows = max(panel["gridPos"]["y"] + panel["gridPos"]["h"] for panel in board["panels"])
            view = browser.new_page(viewport={"width": WIDTH, "height": 38 * rows + 120})
            view.goto(f"{grafana.url}/d/{uid}?kiosk&from=now-{since}&to=now")
            for panel in board["panels"]:
                view.get_by_role("heading", name=panel["title"], exact=True).first.wait_for(
                    timeout=LOAD_TIMEOUT
                )
            view.wait_for_load_state("networkidle", timeout=LOAD_TIMEOUT)
            view.screenshot(path=Path(__file__).with_name(f"{uid}.png"))
            view.close()
        browser.close()


if __name__ == "__main__":
    main()
