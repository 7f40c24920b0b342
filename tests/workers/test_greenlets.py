"""Calls are metered, shipped and limited under gevent and eventlet, whenever these patch the library."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from support.awaiting import until
from support.operations import CHAT
from support.scripted import Server
from support.served import Served

PROGRAM = Path(__file__).with_name("greenlets.py")
BUDGETS = """
budgets: [{name: broke, match: {agent: broke}, usd: 0.0000001, period: month, on_exceed: block}]
"""


@pytest.mark.parametrize("order", ["before", "after", "late"])
@pytest.mark.parametrize("library", ["gevent", "eventlet"])
def test_calls_in_greenlets_are_metered_shipped_and_limited(
    library: str, order: str, server: Server, tmp_path: Path
) -> None:
    """The library patches before our import, after it, or after the first call."""
    server.respond_with("/chat/completions", CHAT.responses[False]())
    config = tmp_path / "llm-exporter.yml"
    config.write_text(BUDGETS)
    with Served(tmp_path, "--config", str(config)) as service:
        done = subprocess.run(
            [sys.executable, "-W", "ignore", str(PROGRAM), library, order],
            env={**service.client_environment, "PROVIDER": server.url},
            check=False,
            capture_output=True,
            text=True,
            timeout=120,
        )
        assert done.returncode == 0, done.stderr
        assert "llm-exporter failed" not in done.stderr
        result = json.loads(done.stdout.splitlines()[-1])
        calls = 9 if order == "late" else 10
        assert result == {
            "outcomes": ["made"] * calls,
            "flushed": True,
            "refused": "refused",
            "seen": 11,
            "errors": [],
        }
        stored = until(lambda: service.get("/api/v1/calls")["calls"])
        assert Counter(call["labels"]["agent"] for call in stored) == {"planner": 10, "broke": 1}
