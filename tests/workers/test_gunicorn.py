"""Several gunicorn workers serve one `/metrics`, with the configuration of docs/multiprocess.md."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from http.client import RemoteDisconnected
from pathlib import Path
from urllib.request import Request, urlopen

import pytest
from prometheus_client.parser import text_string_to_metric_families

from support.awaiting import until
from support.operations import CHAT
from support.scripted import Response, Server
from tools.stack import free_port

DOCS = Path(__file__).parents[2] / "docs" / "multiprocess.md"
WORKERS = 4
COST = 0.00472
"""USD per call, computed in test_prices.py."""
SCRAPES = {"X-Prometheus-Scrape-Timeout-Seconds": "10"}


class Application:
    """An application with four workers, each of which handles one request at a time."""

    def __init__(self, port: int, server: Server) -> None:
        self.url = f"http://127.0.0.1:{port}"
        self._server = server
        self.responding = threading.Event()
        """The provider responds while it is set."""
        self.responding.set()
        response = CHAT.responses[False]()
        assert isinstance(response.body, bytes)
        server.respond_with("/chat/completions", Response([response.body], before={0: self.responding}))

    def get(self, path: str, headers: Mapping[str, str] = {}) -> str:
        with urlopen(Request(self.url + path, headers=dict(headers)), timeout=60) as response:
            return str(response.read().decode())

    def call(self, agent: str, calls: int) -> set[int]:
        """Make calls at the same time, and return the ids of their workers."""
        with ThreadPoolExecutor(WORKERS) as pool:
            return set(map(int, pool.map(self.get, [f"/{agent}"] * calls)))

    def call_in_all(self, agent: str) -> set[int]:
        """Make one call in each worker, and return the ids of the workers."""
        with self.in_flight(agent, WORKERS) as calls:
            self.responding.set()
            return {int(call.result()) for call in calls}

    @contextmanager
    def in_flight(self, agent: str, calls: int) -> Iterator[list[Future[str]]]:
        """Make calls to which the provider responds at the end."""
        self.responding.clear()
        before = len(self._server.requests)
        with ThreadPoolExecutor(calls) as pool:
            futures = [pool.submit(self.get, f"/{agent}") for _ in range(calls)]
            until(lambda: len(self._server.requests) == before + calls)
            yield futures
            self.responding.set()

    def total(self, name: str, **labels: str) -> float:
        return sum(samples(self.get("/metrics"), name, **labels).values())


def samples(text: str, name: str, **labels: str) -> dict[tuple[str, ...], float]:
    return {
        tuple(value for _, value in sorted(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.name == name and labels.items() <= sample.labels.items()
    }


@pytest.fixture(params=[(), ("--preload",)], ids=["forked", "preloaded"])
def application(request: pytest.FixtureRequest, server: Server, tmp_path: Path) -> Iterator[Application]:
    port = free_port()
    values = tmp_path / "values"
    values.mkdir()
    (snippet,) = re.findall(r"```python\n(# gunicorn\.conf\.py\n.*?)```", DOCS.read_text(), re.DOTALL)
    (tmp_path / "gunicorn.conf.py").write_text(snippet)
    (tmp_path / "llm-exporter.yml").write_text(
        "scrape_interval: 0.4\nseries: [{provider: openai, model: o3}]\n"
    )
    command = [
        *(sys.executable, "-m", "gunicorn", "--config", str(tmp_path / "gunicorn.conf.py")),
        *("--bind", f"127.0.0.1:{port}", "--worker-tmp-dir", str(tmp_path)),
        *("--no-control-socket", "--chdir", str(Path(__file__).parent)),
        *(*request.param, "application"),
    ]
    environment = {
        **os.environ,
        "PROMETHEUS_MULTIPROC_DIR": str(values),
        "LLM_EXPORTER_CONFIG": str(tmp_path / "llm-exporter.yml"),
        "PROVIDER": server.url,
    }
    with (
        (tmp_path / "log").open("wb") as log,
        subprocess.Popen(command, env=environment, stderr=log) as process,
    ):
        application = Application(port, server)
        until(lambda: process.poll() is not None or is_up(application))
        assert process.poll() is None, (tmp_path / "log").read_text()
        yield application
        process.terminate()


def is_up(application: Application) -> bool:
    try:
        return bool(application.get("/metrics"))
    except OSError:
        return False


def test_every_worker_shows_the_total_including_a_killed_worker(application: Application) -> None:
    first = application.call_in_all("planner")
    assert len(first) == WORKERS
    application.call("coder", 36)
    until(lambda: application.total("llm_calls_total") == 40)
    os.kill(min(first), signal.SIGKILL)
    second = application.call_in_all("planner")
    assert len(second) == WORKERS
    assert min(first) not in second
    for _ in range(2 * WORKERS):
        until(lambda: application.total("llm_calls_total") == 44)
        text = application.get("/metrics")
        assert samples(text, "llm_calls_total", agent="planner") == {
            ("planner", CHAT.model, "chat", "unattributed", CHAT.provider): 8.0
        }
        tokens = samples(text, "llm_tokens_total", agent="coder")
        assert {key[-1]: value for key, value in tokens.items()} == {
            kind: 36.0 * number for kind, number in CHAT.tokens.items()
        }
        cost = sum(samples(text, "llm_cost_usd_total").values())
        assert cost == pytest.approx(44 * COST, abs=1e-9)
        assert sum(samples(text, "llm_latency_seconds_count").values()) == 44
        assert sum(samples(text, "llm_latency_seconds_bucket", le="+Inf").values()) == 44
        assert set(samples(text, "llm_exporter_build_info").values()) == {1.0}
        assert samples(text, "llm_exporter_errors_total") == {}
        assert not re.search(r"\bpid=", text)


def test_calls_in_flight_are_those_of_running_workers(application: Application, server: Server) -> None:
    with application.in_flight("planner", 3) as calls:
        until(lambda: application.total("llm_calls_in_flight") == 3)
        killed = int(server.requests[-1].headers["x-worker"])
        os.kill(killed, signal.SIGKILL)
        until(lambda: application.total("llm_calls_in_flight") == 2)
    assert [type(call.exception()) for call in calls if call.exception()] == [RemoteDisconnected]
    until(lambda: application.total("llm_calls_total") == 2)
    assert application.total("llm_calls_in_flight") == 0


def test_a_new_series_is_shown_at_0_first_by_every_worker(application: Application) -> None:
    def scraped() -> float:
        (value,) = samples(application.get("/metrics", SCRAPES), "llm_calls_total", agent="planner").values()
        return value

    def seen_in_browser() -> float:
        return application.total("llm_calls_total", agent="planner")

    application.call("planner", 4)
    until(lambda: seen_in_browser() == 4)
    shown = [scraped()]
    while shown[-1] == 0:
        assert len(shown) < 10_000
        shown.append(scraped())
    assert len(shown) > 2
    assert shown[-1] == 4
    application.call_in_all("planner")
    until(lambda: seen_in_browser() == 8)
    assert {scraped() for _ in range(4 * WORKERS)} == {8}
    declared = samples(application.get("/metrics"), "llm_calls_total", model="o3")
    assert set(declared.values()) == {0}


def test_gunicorn_with_greenlets_is_metered_by_run(server: Server, tmp_path: Path) -> None:
    """Gunicorn patches the standard library in its worker, before or after llm-exporter is imported there."""
    port = free_port()
    command = [
        *(sys.executable, "-m", "llm_exporter.cli", "run", "--", sys.executable, "-m", "gunicorn"),
        *("-k", "gevent", "--bind", f"127.0.0.1:{port}", "--worker-tmp-dir", str(tmp_path)),
        *("--no-control-socket", "--chdir", str(Path(__file__).parent), "application"),
    ]
    environment = {**os.environ, "PROVIDER": server.url}
    with (
        (tmp_path / "log").open("wb") as log,
        subprocess.Popen(command, env=environment, stderr=log) as process,
    ):
        application = Application(port, server)
        until(lambda: process.poll() is not None or is_up(application))
        assert process.poll() is None, (tmp_path / "log").read_text()
        application.call("planner", 20)
        assert application.total("llm_calls_total") == 20
        assert application.total("llm_exporter_errors_total") == 0
        process.terminate()
