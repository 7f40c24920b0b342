"""Take docs/live-page.png and live-page-phone.png: the live page with sample calls, in Chromium from PATH."""

from __future__ import annotations

import random
import shutil
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import uvicorn
from playwright.sync_api import expect, sync_playwright

from llm_exporter import Call
from llm_exporter.config.model import Config
from llm_exporter.pricing.prices import PriceList
from llm_exporter.service.app import make_app
from llm_exporter.service.ledger.sqlite import SqliteLedger
from tools.stack import free_port

SCREENSHOTS: tuple[tuple[str, Any], ...] = (
    ("live-page.png", {"viewport": {"width": 1280, "height": 1240}, "color_scheme": "light"}),
    ("live-page-phone.png", {"viewport": {"width": 390, "height": 1240}, "color_scheme": "dark"}),
)
AGENTS = ("planner", "researcher", "coder", "reviewer", "summarizer")
MODELS = (("anthropic", "claude-sonnet-4-6"), ("openai", "gpt-5"), ("google", "gemini-2.5-pro"))
PHASES = ("plan", "execute", "review")
CALLS = 400


def sample_calls() -> list[Call]:
    """Return calls of the last 20 hours. Only their start times differ between runs."""
    chance = random.Random(7)  # noqa: S311
    now = time.time()
    calls = []
    for number in range(CALLS):
        provider, model = chance.choices(MODELS, (5, 3, 2))[0]
        labels = {
            "agent": chance.choices(AGENTS, (1, 3, 6, 2, 1))[0],
            "phase": chance.choice(PHASES),
            "team": chance.choices(("search", "support"), (2, 1))[0],
            "session": "release-42",
        }
        tokens: dict[Any, int] = {"input": chance.randint(300, 9000), "output": chance.randint(50, 1500)}
        duration = round(tokens["output"] / 70, 2)
        started = now - 180 * (CALLS - number)
        error: Any = "overloaded" if chance.random() < 0.02 else None
        call = Call(
            provider=provider,
            model=model,
            operation="chat",
            labels=labels,
            tokens={} if error else tokens,
            duration=duration,
            started=started,
            error=error,
        )
        PriceList().price(call)
        calls.append(call)
    return calls


def main() -> None:
    """Take the screenshots."""
    with tempfile.TemporaryDirectory() as directory, sync_playwright() as playwright:
        ledger = SqliteLedger(Path(directory) / "ledger.db")
        ledger.add(sample_calls())
        port = free_port()
        server = uvicorn.Server(uvicorn.Config(make_app(Config(), ledger), port=port, log_level="warning"))
        thread = threading.Thread(target=server.run)
        thread.start()
        browser = playwright.chromium.launch(
            executable_path=shutil.which("chromium"), args=["--headless", "--no-sandbox", "--disable-gpu"]
        )
        while not server.started:
            time.sleep(0.05)
        for name, options in SCREENSHOTS:
            page = browser.new_page(**options)
            page.goto(f"http://127.0.0.1:{port}/?window=24h&stack=agent")
            expect(page.locator("#calls")).to_have_text(str(CALLS))
            page.screenshot(path=Path(__file__).with_name(name))
        browser.close()
        server.should_exit = True
        thread.join()


if __name__ == "__main__":
    main()
