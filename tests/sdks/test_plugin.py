"""The pytest plugin that notes the results of the SDKs' own tests."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from support.samples import CHAT
from support.scripted import Response, Server

PLUGIN = Path(__file__).parent / "plugin"
TESTS = """
import logging, os, socket
import pytest, openai

def test_calls():
    client = openai.OpenAI(base_url=os.environ["TEST_API"], api_key="key")
    client.chat.completions.create(model="gpt-5", messages=[])

def test_fails(): assert 1 == 2
def test_skips(): pytest.skip("not here")

@pytest.mark.xfail
def test_xfails(): assert False

@pytest.fixture
def broken(): raise ValueError("setup")

def test_has_a_broken_fixture(broken): pass

def test_breaks_llm_exporter():
    try:
        raise RuntimeError("tap")
    except RuntimeError:
        logging.getLogger("llm_exporter").exception("llm-exporter failed in %s", "tap")

@pytest.mark.parametrize("host", ["192.0.2.1", "example.com"])
def test_reaches_no_other_machine(host):
    with pytest.raises(OSError, match=f"connections to other machines are off in these tests: {host}"):
        socket.create_connection((host, 80), timeout=5)
"""
"""The address is one for documentation: https://www.rfc-editor.org/rfc/rfc5737."""


def _run(directory: Path, server: Server, *, metered: bool, processes: int = 0) -> dict[str, Any]:
    """Run the tests above with the plugin, and return what it wrote."""
    (directory / "test_sdk.py").write_text(TESTS)
    (directory / "llm-exporter.yml").write_text("{}\n")
    results = directory / "results.json"
    environment = {
        "PATH": os.environ["PATH"],
        "PYTHONPATH": str(PLUGIN),
        "SDK_RESULTS": str(results),
        "SDK_METERED": str(directory / "llm-exporter.yml") if metered else "",
        "TEST_API": server.url,
    }
    command = [sys.executable, "-m", "pytest", "-q", "-p", "sdk_results", "-p", "no:cacheprovider"]
    command += ["-n", str(processes), "test_sdk.py"]
    done = subprocess.run(
        command, cwd=directory, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 1, done.stdout + done.stderr
    written: dict[str, Any] = json.loads(results.read_text())
    return written


@pytest.mark.parametrize("processes", [0, 2])
def test_the_plugin_notes_results_calls_and_errors(tmp_path: Path, server: Server, processes: int) -> None:
    server.respond_with("/chat/completions", Response(json.dumps(CHAT).encode()))
    raw = _run(tmp_path, server, metered=False, processes=processes)
    metered = _run(tmp_path, server, metered=True, processes=processes)
    statuses = {test.partition("::")[2]: each["status"] for test, each in metered["tests"].items()}
    assert statuses == {
        "test_calls": "passed",
        "test_fails": "failed",
        "test_skips": "skipped",
        "test_xfails": "xfailed",
        "test_has_a_broken_fixture": "error",
        "test_breaks_llm_exporter": "passed",
        "test_reaches_no_other_machine[192.0.2.1]": "passed",
        "test_reaches_no_other_machine[example.com]": "passed",
    }
    assert "assert 1 == 2" in metered["tests"]["test_sdk.py::test_fails"]["message"]
    assert {test: each["status"] for test, each in raw["tests"].items()} == {
        test: each["status"] for test, each in metered["tests"].items()
    }
    assert (raw["calls"], metered["calls"]) == (0, 1)
    own_errors = {test: each["own_errors"] for test, each in metered["tests"].items() if "own_errors" in each}
    assert list(own_errors) == ["test_sdk.py::test_breaks_llm_exporter"]
    (error,) = own_errors["test_sdk.py::test_breaks_llm_exporter"]
    assert error.startswith("llm-exporter failed in tap\n    Traceback")
    assert not any("own_errors" in each for each in raw["tests"].values())
