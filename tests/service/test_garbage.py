"""Large batches and reports cause no full garbage collection, which would keep the event loop waiting."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import httpx
import msgspec

from llm_exporter import Call

CALLS = 10_000
SERVICE = """
import gc, sys
from functools import partial
from llm_exporter.config.model import Config
from llm_exporter.service import run

def tell(phase, info):
    if phase == "start" and info["generation"] == 2:
        print("full collection", flush=True)

gc.callbacks.append(tell)
store = sys.argv[1]
run.serve(Config(store=store), "127.0.0.1", 0, None, partial(Config, store=store))
"""


def test_batches_and_reports_of_ten_thousand_calls_cause_no_full_collection(tmp_path: Path) -> None:
    calls = [
        Call(provider="openai", model="gpt-4o", operation="chat", labels={"user": f"user-{number}"})
        for number in range(3 * CALLS)
    ]
    with subprocess.Popen(
        [sys.executable, "-c", SERVICE, str(tmp_path / "ledger.db")], stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        started = iter(process.stdout.readline, "")
        url = next(found[0] for line in started if (found := re.search(r"http://\S+", line)))
        headers = {"content-type": "application/json"}
        with httpx.Client(base_url=url, headers=headers, timeout=None) as client:  # noqa: S113
            for first in range(0, len(calls), CALLS):
                batch = msgspec.json.encode(calls[first : first + CALLS])
                client.post("/api/v1/calls", content=batch).raise_for_status()
            report = client.get("/api/v1/report", params={"since": "0", "by": "user"}).raise_for_status()
            page = client.get("/api/v1/calls", params={"limit": CALLS}).raise_for_status()
        process.kill()  # ends without the full collection of an orderly end

        assert len(report.json()["rows"]) == 3 * CALLS
        assert len(page.json()["calls"]) == CALLS
        assert process.stdout.read() == ""
