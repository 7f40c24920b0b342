"""`llm-exporter serve` in a process of its own, on a port that stays the same over restarts."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any
from urllib.request import Request, urlopen

from tools.stack import free_port


class Served:
    """A service, its ledger and its spool in a directory; started by entering it."""

    def __init__(self, directory: Path, *options: str, environment: Mapping[str, str] | None = None) -> None:
        self.directory = directory
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.ledger = directory / "ledger.db"
        self._options = options
        self.environment = {
            **os.environ,
            "LLM_EXPORTER_SPOOL": str(directory / "spool"),
            **(environment or {}),
        }
        self._process: subprocess.Popen[str] | None = None

    @property
    def clients(self) -> dict[str, str]:
        """The environment of processes that ship to it."""
        return {**self.environment, "LLM_EXPORTER_URL": self.url}

    def start(self) -> None:
        """Start it, and return when it serves."""
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
        assert self._process.stdout.readline() == f"llm-exporter serves {self.url}\n"
        assert self.get_text("/-/ready") == "ready\n"  # listening already, so this waits for it

    def kill(self) -> None:
        """End it with SIGKILL."""
        self._end(subprocess.Popen.kill)

    def stop(self) -> None:
        """End it with SIGTERM."""
        self._end(subprocess.Popen.terminate)

    def _end(self, end: Any) -> None:
        if self._process is not None:
            end(self._process)
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
        """The body of a GET."""
        with urlopen(Request(self.url + path, headers=dict(headers or {})), timeout=60) as answer:
            return str(answer.read().decode())

    def get(self, path: str) -> Any:
        """The JSON of a GET."""
        return json.loads(self.get_text(path))
