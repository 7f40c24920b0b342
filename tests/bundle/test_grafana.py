"""A real Grafana loads our files, and Chromium shows every panel with data; skipped without a Grafana."""

from __future__ import annotations

import json
import re
import time
import urllib.request
from base64 import b64encode
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from playwright.sync_api import Browser, ConsoleMessage, sync_playwright

from demo.history.backfill import backfill
from demo.history.month import Month
from demo.history.series import DECLARED
from demo.history.server import MonthServer
from llm_exporter.bundle.dashboards import boards
from llm_exporter.bundle.writing import Target, write
from llm_exporter.cli.main import main
from support.awaiting import DEADLINE, until
from support.browser import CHROMIUM, CUT, FLAGS
from tools import stack
from tools.binaries import BinaryUnavailable, find
from tools.stack import Grafana, Prometheus, prometheus_config

BOARDS = {board["uid"]: board for board in boards(DECLARED)}
"""The dashboards of the demo: those that we ship, and what its declared label adds."""
EMPTY = "|".join(
    {"No data"}
    | {
        panel["fieldConfig"]["defaults"]["noValue"]
        for board in BOARDS.values()
        for panel in board["panels"]
        if "noValue" in panel.get("fieldConfig", {}).get("defaults", {})
    }
)
"""The texts of panels without data."""
GRAFANAS_OWN = re.compile(r"logger=(plugin|update|grafana\.update|infra\.usagestats|cleanup|renderer)")
"""The loggers whose errors are not about our files, but about a missing network or folder of plugins."""
HEIGHT = 14_000
"""High enough for all panels one below the other: Grafana does not load panels out of sight."""
SETTLED = 60_000
"""Milliseconds within which every panel has to show data."""


def grafana_is_available() -> bool:
    try:
        find("grafana")
    except BinaryUnavailable:
        return False
    return True


pytestmark = pytest.mark.skipif(
    not grafana_is_available(),
    reason="no Grafana on PATH or in $GRAFANA_HOME",
)


@dataclass
class Session:
    """A running Grafana and a browser."""

    grafana: Grafana
    browser: Browser


@pytest.fixture(scope="module")
def session(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Session]:
    directory = tmp_path_factory.mktemp("grafana")
    month = Month(2, time.time())
    backfill(month, directory, directory / Prometheus.data)
    write(directory / "bundle", Target(labels=DECLARED))
    assert CHROMIUM is not None, "no Chromium on PATH"
    with (
        MonthServer(month) as page,
        Prometheus.start(
            config=prometheus_config(
                directory / "config", targets=[page.address], rules=directory / "bundle/prometheus/rules"
            ),
            storage=directory,
        ) as prometheus,
        Grafana.start(
            prometheus=prometheus.url, storage=directory, dashboards=directory / "bundle/grafana/dashboards"
        ) as grafana,
        sync_playwright() as playwright,
    ):
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield Session(grafana, browser)
        browser.close()


def test_provisioning_loads_without_errors(session: Session) -> None:
    until(lambda: len(session.grafana.get("/api/search", type="dash-db")) == len(BOARDS))
    log = session.grafana.log_file.read_text()

    assert [
        line for line in log.splitlines() if "level=error" in line and not GRAFANAS_OWN.search(line)
    ] == []
    assert [line for line in log.splitlines() if "level=warn" in line and "provisioning" in line] == []


def test_dashboards_are_in_the_folder_and_cost_is_the_home_page(session: Session) -> None:
    found = session.grafana.get("/api/search", type="dash-db")

    assert {each["uid"]: each["folderTitle"] for each in found} == dict.fromkeys(BOARDS, "LLM")
    home = session.grafana.get("/api/dashboards/home")
    assert home["dashboard"]["title"] == BOARDS["llm-cost"]["title"]


@pytest.mark.parametrize("uid", BOARDS)
def test_every_panel_of_a_dashboard_shows_data_and_no_error(session: Session, uid: str) -> None:
    errors: list[str] = []

    def collect_error(message: ConsoleMessage) -> None:
        if message.type == "error":
            errors.append(message.text)

    page = session.browser.new_page(viewport={"width": 1600, "height": HEIGHT})
    page.on("console", collect_error)
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.goto(f"{session.grafana.url}/d/{uid}?kiosk&from=now-24h&to=now")
    titles = [panel["title"] for panel in BOARDS[uid]["panels"]]
    for title in titles:
        page.get_by_role("heading", name=title, exact=True).first.wait_for(timeout=SETTLED)
    page.wait_for_function(
        "() => !document.querySelector('[aria-label=\"Panel loading bar\"], .panel-loading')", timeout=SETTLED
    )
    page.wait_for_load_state("networkidle", timeout=SETTLED)
    text = page.inner_text("body")

    assert not re.search(f"{EMPTY}|Panel plugin not found|Dashboard not found", text)
    assert page.locator("[aria-label='Panel header error'], [data-testid*='Panel status error']").count() == 0
    assert [each for each in errors if not each.startswith("Failed to load resource: net")] == []
    page.close()


LAPTOP, PHONE = 1366, 390
OUT_OF_SIGHT = """(box) => [...box.querySelectorAll("[role=columnheader]")]
  .filter((heading) => heading.getBoundingClientRect().right > box.getBoundingClientRect().right + 1)
  .map((heading) => heading.innerText)"""
"""Returns the headings of a table that one has to scroll to."""


@pytest.mark.parametrize("width", [LAPTOP, PHONE])
@pytest.mark.parametrize("uid", BOARDS)
def test_no_number_and_no_title_is_cut(session: Session, uid: str, width: int) -> None:
    page = session.browser.new_page(viewport={"width": width, "height": HEIGHT})
    page.goto(f"{session.grafana.url}/d/{uid}?kiosk&from=now-24h&to=now")
    cut = []
    for panel in BOARDS[uid]["panels"]:
        title = page.get_by_role("heading", name=panel["title"], exact=True).first
        title.wait_for(timeout=SETTLED)
        cut += title.evaluate(CUT)
    page.wait_for_load_state("networkidle", timeout=SETTLED)
    for panel in BOARDS[uid]["panels"]:
        # The last: a section before it may have the same name.
        title = page.get_by_role("heading", name=panel["title"], exact=True).last
        box = title.locator("xpath=ancestor::*[self::section or contains(@class, 'panel-container')][1]")
        if panel["type"] == "stat":
            cut += box.evaluate(CUT)
        elif panel["type"] == "table" and width == LAPTOP:  # one scrolls tables on a phone
            cut += box.evaluate(OUT_OF_SIGHT)

    assert cut == []
    page.close()


def post(grafana: Grafana, path: str, body: Any, password: str) -> Any:
    """Post as Grafana's administrator; return the decoded response."""
    request = urllib.request.Request(
        grafana.url + path,
        json.dumps(body).encode(),
        {
            "Content-Type": "application/json",
            "Authorization": f"Basic {b64encode(f'admin:{password}'.encode()).decode()}",
        },
    )
    with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(
        request, timeout=DEADLINE
    ) as response:
        return json.load(response)


def test_bundle_pushes_dashboards_to_an_empty_grafana(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    environment = stack.grafana_environment
    empty = tmp_path / "provisioning"
    for each in ("dashboards", "datasources", "plugins", "notifiers", "alerting"):
        (empty / each).mkdir(parents=True)
    monkeypatch.setattr(
        stack, "grafana_environment", lambda **how: environment(**how) | {"GF_PATHS_PROVISIONING": str(empty)}
    )
    monkeypatch.setattr("secrets.token_urlsafe", lambda _: "password")
    monkeypatch.setenv("no_proxy", "*")

    with Grafana.start(prometheus="http://127.0.0.1:1", storage=tmp_path) as grafana:
        account = post(grafana, "/api/serviceaccounts", {"name": "push", "role": "Editor"}, "password")
        path = f"/api/serviceaccounts/{account['id']}/tokens"
        token = post(grafana, path, {"name": "push"}, "password")["key"]
        for _ in range(2):  # the second time replaces them
            result = CliRunner().invoke(
                main,
                ["bundle", str(tmp_path / "out"), "--grafana-url", grafana.url],
                env={"LLM_EXPORTER_GRAFANA_TOKEN": token},
            )
            assert (result.exit_code, result.stderr) == (0, "")
        found = grafana.get("/api/search", type="dash-db")

    assert {each["uid"]: each["folderTitle"] for each in found} == dict.fromkeys(BOARDS, "LLM")
