"""Processes that make calls, and what the service has of them."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from support.scripted import Server
from support.served import Served

PROGRAM = Path(__file__).with_name("program.py")


class Agent:
    """A context manager that runs program.py, whose calls are shipped to a service.

    Args:
        service: need not be running.
        provider: responds to the calls.
        name: the agent that the calls are of.
        environment: further environment variables.
    """

    def __init__(
        self,
        service: Served,
        provider: Server,
        name: str = "agent",
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self.made: list[str] = []
        """The sessions of the calls that returned to their caller: one each."""
        self._log = service.directory / f"{name}.log"
        with self._log.open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, str(PROGRAM), provider.url, name],
                env={**service.client_environment, **(environment or {})},
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if kind:
            self.process.kill()
        self.end()

    def begin(self, command: str, *arguments: object) -> None:
        """Let it run a command."""
        assert self.process.stdin is not None
        self.process.stdin.write(" ".join(map(str, (command, *arguments))) + "\n")
        self.process.stdin.flush()

    def result(self) -> Any:
        """Return the result of the command that it began; fails if it raised."""
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line, self.log
        return json.loads(line)

    def do(self, command: str, *arguments: object) -> Any:
        """Let it run a command, and return the result."""
        self.begin(command, *arguments)
        return self.result()

    def call(self, calls: int, how: str = "call") -> None:
        """Let it make calls, all of which must return to their caller."""
        self.begin(how, calls)
        self.returned()

    def returned(self) -> None:
        """Wait until the calls that it began have returned to their caller."""
        self.made += self.result()

    def end(self) -> int:
        """Let it end, if it has not, and return its exit status."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        if not self.process.stdin.closed:
            self.process.stdin.close()
        status = self.process.wait()
        self.process.stdout.close()
        return status

    @property
    def log(self) -> str:
        """What it has logged."""
        return self._log.read_text("utf-8", "replace")


def kept(service: Served, headers: Mapping[str, str] | None = None) -> list[str]:
    """Return the session of each call in the ledger."""
    sessions: list[str] = []
    before = ""
    while True:
        page = json.loads(service.get_text(f"/api/v1/calls?limit=10000{before}", headers))
        sessions += [call["labels"].get("session", "") for call in page["calls"]]
        if page["next"] is None:
            return sessions
        before = f"&before={page['next']}"
