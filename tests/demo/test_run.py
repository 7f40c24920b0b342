"""The demo as a process: it serves metrics, prints the spending and cleans up."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, cast

import pytest
from prometheus_client.parser import text_string_to_metric_families

from demo.run import _HistoryProgress
from support.awaiting import DEADLINE, until

ROOT = Path(__file__).parents[2]
TEAMS = {"checkout", "search", "platform"}
AGENTS = {"planner", "researcher", "coder", "reviewer", "summarizer"}


class Demo:
    """A running `python -m demo`."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process
        self._output = cast(IO[str], process.stdout)

    def url(self, name: str) -> str:
        """Return the URL printed next to a name."""
        for line in self._output:
            if found := re.match(rf"{name}\s+(http://\S+)", line):
                return found[1]
        raise AssertionError(f"no URL printed for {name}")

    def rest(self) -> str:
        """Return the remaining output until the process exits."""
        return self._output.read()

    def status(self) -> int:
        return self.process.wait(DEADLINE)


@contextmanager
def demo(*arguments: str) -> Iterator[Demo]:
    """Run the demo, and check that all its processes exit."""
    command = [sys.executable, "-m", "demo", "--port", "0", *arguments]
    with subprocess.Popen(
        command,
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    ) as process:
        try:
            yield Demo(process)
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
    with pytest.raises(ProcessLookupError):
        os.killpg(process.pid, 0)


def fetch(url: str) -> str:
    """Return the text at a local URL, ignoring any proxy."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(url, timeout=DEADLINE) as response:
        return cast(str, response.read().decode())


def label_values(text: str, metric: str, label: str) -> set[str]:
    return {
        sample.labels[label]
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.name == metric
    }


def test_the_demo_serves_metrics_until_ctrl_c() -> None:
    with demo("--no-stack", "--speed", "50") as running:
        url = running.url("metrics")

        def has_all_metrics() -> bool:
            text = fetch(url)
            metrics = (
                "llm_tokens_total",
                "llm_cost_usd_total",
                "llm_calls_total",
                "llm_latency_seconds_count",
            )
            return "llm_unpriced_tokens_total{" in text and all(
                label_values(text, metric, "provider") == {"openai", "anthropic", "google"}
                and label_values(text, metric, "agent") == AGENTS
                and label_values(text, metric, "team") == TEAMS
                and label_values(text, metric, "phase") == {"plan", "research", "execute", "review", "report"}
                for metric in metrics
            )

        until(has_all_metrics)
        running.process.send_signal(signal.SIGINT)
        output = running.rest()

        assert running.status() == 0
    assert "Traceback" not in output
    rows = re.findall(r"^(?:openai|anthropic|google)/\S+ +(\w+) +[1-9]", output, re.MULTILINE)
    assert set(rows) == AGENTS
    assert re.search(r"^openai/acme-1-preview .* no price$", output, re.MULTILINE)
    assert re.search(r"^[\d,]+ tokens have no known price\.$", output, re.MULTILINE)


def test_the_demo_opens_on_a_live_page_that_has_the_calls() -> None:
    with demo("--no-stack", "--speed", "50") as running:
        page = running.url("Open this:")

        assert "<title>" in fetch(page)
        until(lambda: json.loads(fetch(f"{page}api/v1/cost?window=1h"))["calls"] > 5)
        os.killpg(running.process.pid, signal.SIGHUP)  # as when its terminal is closed

        assert re.search(r"^total +\d", running.rest(), re.MULTILINE)
        assert running.status() == 0
    with pytest.raises(urllib.error.URLError):
        fetch(page)


def test_nothing_survives_a_demo_that_is_killed() -> None:
    with demo("--speed", "50") as running:
        prometheus = running.url("Prometheus")
        page = running.url("Open this:")
        running.process.kill()
        running.rest()

        for url in (prometheus, page):
            until(lambda url=url: not reachable(url))  # type: ignore[misc]


def test_the_demo_ends_when_the_process_that_started_it_is_killed() -> None:
    starts = "import subprocess, sys; subprocess.run([sys.executable, '-m', 'demo', *sys.argv[1:]])"
    command = [sys.executable, "-c", starts, "--no-stack", "--port", "0", "--speed", "50"]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as make:
        running = Demo(make)
        page = running.url("Open this:")
        make.kill()

        assert re.search(r"^total +\d", running.rest(), re.MULTILINE)
    assert not reachable(page)


def reachable(url: str) -> bool:
    try:
        fetch(url)
    except OSError:
        return False
    return True


def test_the_demo_writes_sample_data_shows_its_progress_and_stops_after_its_duration() -> None:
    with demo("--history", "36m", "--duration", "1s", "--speed", "50") as running:
        output = running.rest()

        assert running.status() == 0
    lines = re.findall(r"^history +(\d+)% of (\S+) days of sample data$", output, re.MULTILINE)
    # How many tenths are shown between the first and the last depends on the speed of the disk.
    assert (lines[0], lines[-1]) == (("0", "0.025"), ("100", "0.025"))
    assert re.search(r"^total +\d", output, re.MULTILINE)


def test_progress_is_shown_in_tenths(capsys: pytest.CaptureFixture[str]) -> None:
    progress = _HistoryProgress(30)
    for part in (0.02, 0.19, 0.2, 0.29, 0.31, 1.0):
        progress(part)
    progress.end()

    shown = re.findall(r"^history +(\d+)% of 30 days of sample data$", capsys.readouterr().out, re.MULTILINE)
    assert shown == ["0", "19", "20", "31", "100"]


def test_prometheus_computes_the_spending_and_stops_with_the_demo_at_sigterm() -> None:
    query = "/api/v1/query?query=sum%20by%20(model)%20(increase(llm_cost_usd_total%5B1m%5D))"
    with demo("--speed", "20") as running:
        prometheus = running.url("Prometheus")
        until(lambda: '"model":"gpt-5-2025-08-07"' in fetch(f"{prometheus}{query}"))
        assert '"name":"job_team:llm_cost_usd:increase"' in fetch(f"{prometheus}/api/v1/rules")
        running.process.send_signal(signal.SIGTERM)

        assert running.rest()
        assert running.status() == 0
    with pytest.raises(urllib.error.URLError):
        fetch(prometheus)


def test_a_port_in_use_is_reported_and_nothing_keeps_running() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with demo("--no-stack", "--port", str(port)) as running:
            output = running.rest()

            assert running.status() == 1
    assert f"port {port} of 127.0.0.1 is already in use" in output
    assert len(output.splitlines()) == 1


def test_an_invalid_duration_is_a_usage_error() -> None:
    command = [sys.executable, "-m", "demo", "--duration", "soon"]
    done = subprocess.run(command, check=False, capture_output=True, text=True, cwd=ROOT)

    assert done.returncode == 2
    assert "'soon' is not a duration" in done.stderr
