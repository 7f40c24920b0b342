"""Fixtures: the service in this process, a real Chromium, a running service and its live page."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, ConsoleMessage, Page, Request, expect, sync_playwright
from starlette.testclient import TestClient

from llm_exporter.config.model import Config
from llm_exporter.service.app import make_app
from llm_exporter.service.ledger.sqlite import SqliteLedger
from support.api import JSON
from support.awaiting import DEADLINE
from support.browser import CHROMIUM, FLAGS
from support.served import Served


@pytest.fixture
def ledger(tmp_path: Path) -> SqliteLedger:
    """The empty ledger of `client`."""
    return SqliteLedger(tmp_path / "ledger.db")


@pytest.fixture
def client(ledger: SqliteLedger) -> Iterator[TestClient]:
    """A client of the service, which runs in this process without a socket."""
    with TestClient(make_app(Config(), ledger), base_url="http://localhost", headers=JSON) as client:
        yield client


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    assert CHROMIUM is not None, "no Chromium on PATH"
    expect.set_options(timeout=1000 * DEADLINE)  # a busy machine may need more than the default of 5 s
    with sync_playwright() as playwright:
        # What ends in .test is this machine, as after DNS rebinding.
        mapping = "--host-resolver-rules=MAP *.test 127.0.0.1"
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=[*FLAGS, mapping])
        yield browser
        browser.close()


@pytest.fixture
def served(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Served]:
    """Return a running service, with the configuration from the test's parameters if there is one."""
    file = tmp_path / "llm-exporter.yml"
    file.write_text(getattr(request, "param", ""))
    with Served(tmp_path, "--config", str(file)) as served:
        yield served


@pytest.fixture
def open_page(browser: Browser, served: Served) -> Iterator[Any]:
    """Return a function that opens the page. At the end, check that it had no errors or external requests."""
    contexts = []
    problems: list[str] = []

    def on_console(message: ConsoleMessage) -> None:
        # There is no other way to ask for the cost of a session that may have no calls.
        if message.type == "error" and "/api/v1/cost?" not in message.location["url"]:
            problems.append(message.text)

    def on_request(request: Request) -> None:
        if not request.url.startswith(served.url):
            problems.append(request.url)

    def open_page(
        prepare: Callable[[Page], object] = lambda page: None, path: str = "/", **options: Any
    ) -> Page:
        contexts.append(browser.new_context(**options))
        page = contexts[-1].new_page()
        prepare(page)
        page.on("console", on_console)
        page.on("pageerror", lambda error: problems.append(str(error)))
        page.on("request", on_request)
        page.goto(served.url + path)
        expect(page.locator("#state")).to_have_text("Live")
        expect(page.locator("#cost")).to_contain_text("$")
        return page

    yield open_page
    for context in contexts:
        context.close()
    expected = (
        "data:",
        "Failed to load resource: net",
        "Failed to load resource: the server responded with a status of 503",
    )
    assert [line for line in problems if not line.startswith(expected)] == []
