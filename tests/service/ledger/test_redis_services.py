"""Services and clients in separate processes share a ledger in Redis."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from llm_exporter.periods import span_of
from support.awaiting import DEADLINE, until
from support.redis_server import RedisServer
from tools.stack import free_port

get, post = partial(httpx.get, timeout=DEADLINE), partial(httpx.post, timeout=DEADLINE)


@contextmanager
def service(
    store: str, directory: Path, port: int = 0, end: signal.Signals = signal.SIGTERM
) -> Iterator[str]:
    """Run `llm-exporter serve`, and return its URL."""
    command = [sys.executable, "-m", "llm_exporter.cli", "serve", "--port", str(port), "--store", store]
    environment = {**os.environ, "LLM_EXPORTER_SPOOL": str(directory / "spool")}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as process:
        assert process.stdout is not None
        found = re.search(r"http://\S+", process.stdout.readline())
        try:
            assert found, "it has not started"
            yield found[0]
        finally:
            process.send_signal(end)
            process.wait(DEADLINE)


CLIENT = """
import sys, time, llm_exporter
llm_exporter.instrument()
name, number = sys.argv[1], int(sys.argv[2])
for at in range(number):
    with llm_exporter.labels(project=name, session=f"{name}-{at % 3}"):
        llm_exporter.record(provider="openai", model="gpt-5", tokens={"input": 1000, "output": 100})
    if at % 50 == 0:
        time.sleep(0.02)
"""
DOLLARS = 1000 * 1.25e-6 + 100 * 10e-6
"""The cost of one call at the published price of gpt-5."""


def client(url: str, name: str, number: int, directory: Path) -> subprocess.Popen[bytes]:
    """Start a process that records calls and ships them. Calls that it cannot ship stay in the spool."""
    environment = {**os.environ, "LLM_EXPORTER_URL": url, "LLM_EXPORTER_SPOOL": str(directory / "spool")}
    return subprocess.Popen([sys.executable, "-c", CLIENT, name, str(number)], env=environment)


def scraped(*urls: str) -> tuple[float, Any]:
    """Return the calls and the USD in the metrics of all services."""
    number = dollars = 0.0
    for url in urls:
        for family in text_string_to_metric_families(get(f"{url}/metrics").text):
            for sample in family.samples:
                number += sample.value * (sample.name == "llm_calls_total")
                dollars += sample.value * (sample.name == "llm_cost_usd_total")
    return number, dollars


def projects(url: str) -> dict[str, tuple[int, float]]:
    """Return the calls and the USD of each project this month."""
    since = span_of("month", time.time()).start
    answer = get(f"{url}/api/v1/cost", params={"since": since, "by": "project"}).json()
    return {one["project"]: (one["calls"], one["cost_usd"]) for one in answer["by_project"]}


def spent(number: int) -> dict[str, tuple[int, Any]]:
    """Return the calls and the USD that each of four clients should have."""
    return {name: (number, pytest.approx(number * DOLLARS)) for name in "abcd"}


def test_reports_and_metrics_of_two_services_include_all_calls(redis: RedisServer, tmp_path: Path) -> None:
    with service(redis.url, tmp_path) as first, service(redis.url, tmp_path) as second:
        urls = first, second
        clients = [client(urls[at % 2], name, 500, tmp_path) for at, name in enumerate("abcd")]
        assert [each.wait(DEADLINE) for each in clients] == [0] * 4
        until(lambda: scraped(*urls)[0] >= 2000)

        assert scraped(*urls) == (2000, pytest.approx(2000 * DOLLARS))
        assert scraped(first) == scraped(second) == (1000, pytest.approx(1000 * DOLLARS))
        assert projects(first) == projects(second) == spent(500)
        usage = get(f"{second}/api/v1/usage?scope=session&id=a-0&period=month").json()["periods"]
        assert [month["calls"] for month in usage] == [167]


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL], ids=lambda how: how.name)
def test_a_restart_of_redis_under_load_loses_and_duplicates_nothing(
    redis: RedisServer, tmp_path: Path, how: signal.Signals
) -> None:
    with service(redis.url, tmp_path) as first, service(redis.url, tmp_path) as second:
        urls = first, second
        clients = [client(urls[at % 2], name, 3000, tmp_path) for at, name in enumerate("abcd")]
        until(lambda: scraped(*urls)[0] > 0)

        redis.stop(how)
        answer = post(f"{first}/api/v1/calls", content=b"[]", headers=JSON)
        assert answer.status_code == 503
        assert "refused" in answer.json()["detail"]
        assert get(f"{second}/-/ready").status_code == 503
        assert get(f"{second}/-/healthy").status_code == 200
        assert scraped(*urls)[0] < 12_000, "there is more to come"
        redis.start()

        assert [each.wait(DEADLINE) for each in clients] == [0] * 4
        until(lambda: scraped(*urls)[0] >= 12_000)
        assert scraped(*urls) == (12_000, pytest.approx(12_000 * DOLLARS))
        assert projects(first) == projects(second) == spent(3000)


def test_metrics_continue_after_a_service_is_killed(redis: RedisServer, tmp_path: Path) -> None:
    port = free_port()
    with service(redis.url, tmp_path, port, end=signal.SIGKILL) as url:
        post(f"{url}/api/v1/calls", content=CALL % b"x", headers=JSON).raise_for_status()
    with service(redis.url, tmp_path, port) as url:
        assert scraped(url) == (1, 0.5)
        post(f"{url}/api/v1/calls", content=CALL % b"x", headers=JSON).raise_for_status()
        post(f"{url}/api/v1/calls", content=CALL % b"y", headers=JSON).raise_for_status()
        assert scraped(url) == (2, 1.0)


JSON = {"content-type": "application/json"}
CALL = b'[{"id": "%b", "provider": "openai", "model": "gpt-5", "operation": "chat", "cost": {"output": 0.5}}]'
