"""Run `llm-exporter serve` in a separate process."""

from __future__ import annotations

import json
import os
import ssl
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import msgspec

from llm_exporter import Call
from tools.stack import free_port


class Served:
    """A context manager that runs the service on the same port over restarts.

    Args:
        directory: where its ledger and its spool are.
        options: further options of `llm-exporter serve`.
        environment: further environment variables.
        tls: the context of the client, if the options make the service one with TLS.
    """

    def __init__(
        self,
        directory: Path,
        *options: str,
        environment: Mapping[str, str] | None = None,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self.directory = directory
        self.port = free_port()
        self.url = f"{'https' if tls else 'http'}://127.0.0.1:{self.port}"
        self.tls = tls
        self.ledger = directory / "ledger.db"
        self._options = options
        self.environment = {
            **os.environ,
            "LLM_EXPORTER_SPOOL": str(directory / "spool"),
            **(environment or {}),
        }
        self._process: subprocess.Popen[str] | None = None

    @property
    def client_environment(self) -> dict[str, str]:
        """The environment of processes that ship calls to this service."""
        return {**self.environment, "LLM_EXPORTER_URL": self.url}

    def start(self) -> None:
        """Start the service, and return when it is ready."""
        self._process = subprocess.Popen(
            [
                *(sys.executable, "-m", "llm_exporter.cli", "serve", "--port", str(self.port)),
                *("--store", str(self.ledger), *self._options),
            ],
            env=self.environment,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self._process.stdout is not None
        assert self._process.stdout.readline() == f"llm-exporter listening on {self.url}\n"
        assert self.get_text("/-/ready") == "ready\n"  # the port is open already, so this waits

    @property
    def pid(self) -> int:
        """The process, which must be running."""
        assert self._process is not None
        return self._process.pid

    def kill(self) -> None:
        """Stop the service with SIGKILL."""
        self._signal(subprocess.Popen.kill)

    def stop(self) -> None:
        """Stop the service with SIGTERM."""
        self._signal(subprocess.Popen.terminate)

    def _signal(self, send: Callable[[subprocess.Popen[str]], None]) -> None:
        if self._process is not None:
            send(self._process)
            self._process.wait()
            assert self._process.stdout is not None
            self._process.stdout.close()
            self._process = None

    def __enter__(self) -> Served:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()

    def get_text(self, path: str, headers: Mapping[str, str] | None = None) -> str:
        """Return the body of the response to a GET."""
        request = Request(self.url + path, headers=dict(headers or {}))
        with urlopen(request, timeout=60, context=self.tls) as response:
            return str(response.read().decode())

    def get(self, path: str) -> Any:
        """Return the parsed JSON response to a GET."""
        return json.loads(self.get_text(path))

    def status(self, path: str, headers: Mapping[str, str] | None = None, body: object = None) -> int:
        """Return the status of the response to a GET, or to a POST if there is a body."""
        data = None if body is None else json.dumps(body).encode()
        request = Request(self.url + path, data, {"content-type": "application/json", **(headers or {})})
        try:
            with urlopen(request, timeout=60, context=self.tls) as response:
                return int(response.status)
        except HTTPError as error:
            with error:
                return error.code


def post(served: Served, path: str, body: object) -> None:
    """Post JSON to the service, which must accept it."""
    request = Request(served.url + path, msgspec.json.encode(body), {"content-type": "application/json"})
    with urlopen(request) as answer:
        assert answer.status in (200, 204)


def send(served: Served, *calls: Call) -> None:
    """Send calls to the service."""
    post(served, "/api/v1/calls", calls)
