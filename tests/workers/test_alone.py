"""One of several workers, which nobody adds up with the others, says so in the log; nobody else does."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from urllib.request import urlopen

import pytest

from support.awaiting import until
from tools.stack import free_port

HERE = Path(__file__).parent
WARNING = "/metrics shows only the calls of this process, which is one of several workers"
UVICORN = ("uvicorn", "--app-dir", str(HERE), "measured:over_asgi")
GUNICORN = ("gunicorn", "--no-control-socket", "--chdir", str(HERE))
WSGI = (*GUNICORN, "measured:over_wsgi")
ASGI = (*GUNICORN, "--worker-class", "asgi", "measured:over_asgi")
TWO = ("--workers", "2")


class Server:
    """A server that is up."""

    def __init__(self, process: subprocess.Popen[bytes], port: int, log: Path) -> None:
        self.process = process
        self._url = f"http://127.0.0.1:{port}/metrics"
        self._log = log

    def scrape(self) -> bool:
        """Scrape it once, and return whether it answers."""
        assert self.process.poll() is None, self.log
        try:
            with urlopen(self._url, timeout=60) as response:
                return b"llm_exporter_build_info" in response.read()
        except OSError:
            return False

    @property
    def log(self) -> str:
        return self._log.read_text()

    @property
    def warnings(self) -> int:
        return self.log.count(WARNING)

    def warns(self) -> bool:
        """Scrape it once, and return whether a worker has warned."""
        self.scrape()
        return self.warnings > 0


@contextmanager
def served(directory: Path, *command: str, environment: Mapping[str, str] | None = None) -> Iterator[Server]:
    port = free_port()
    bind = ("--port", str(port)) if command[0] == "uvicorn" else ("--bind", f"127.0.0.1:{port}")
    log = directory / "log"
    with (
        log.open("wb") as output,
        subprocess.Popen(
            [sys.executable, "-m", *command, *bind],
            stdout=output,
            stderr=output,
            env={**os.environ, "LLM_EXPORTER_SPOOL": str(directory / "spool"), **(environment or {})},
        ) as process,
    ):
        server = Server(process, port, log)
        try:
            until(server.scrape)
            yield server
        finally:
            process.terminate()


@pytest.mark.parametrize("command", [UVICORN, WSGI, ASGI], ids=["uvicorn", "gunicorn", "gunicorn asgi"])
def test_each_of_several_workers_says_once_that_it_counts_alone(
    command: tuple[str, ...], tmp_path: Path
) -> None:
    with served(tmp_path, *command, environment={"WEB_CONCURRENCY": "2"}) as server:
        until(server.warns)
        for _ in range(40):
            assert server.scrape()
        assert server.warnings <= 2
        assert "as docs/multiprocess.md says" in server.log


@pytest.mark.parametrize(
    ("command", "variable", "value"),
    [
        pytest.param(UVICORN, "PROMETHEUS_MULTIPROC_DIR", "{}", id="uvicorn and a directory"),
        pytest.param(WSGI, "LLM_EXPORTER_URL", "http://127.0.0.1:1", id="gunicorn and a service"),
    ],
)
def test_workers_that_are_added_up_say_nothing(
    command: tuple[str, ...], variable: str, value: str, tmp_path: Path
) -> None:
    environment = {variable: value.format(tmp_path)}
    with served(tmp_path, *command, *TWO, environment=environment) as server:
        assert all(server.scrape() for _ in range(20))
        assert server.warnings == 0


def test_the_only_worker_of_uvicorn_says_nothing_although_it_is_a_child(tmp_path: Path) -> None:
    """With `--reload`, uvicorn ignores the number of workers."""
    with served(tmp_path, *UVICORN, *TWO, "--reload") as server:
        assert all(server.scrape() for _ in range(20))
        assert server.warnings == 0


def test_the_only_worker_of_gunicorn_says_nothing_although_it_replaces_another(
    tmp_path: Path,
) -> None:
    with served(tmp_path, *WSGI) as server:
        server.process.send_signal(signal.SIGHUP)
        until(lambda: server.log.count("Booting worker") == 2)
        assert all(until(server.scrape) for _ in range(20))
        assert server.warnings == 0
