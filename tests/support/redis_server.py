"""A real Redis server for a test, on loopback, with its data in a directory of the test's."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from redis import Redis
from redis.exceptions import RedisError

from tools import binaries
from tools.stack import free_port

PATIENCE = 30.0


class RedisServer:
    """A Redis that runs until the `with` block ends; where there is none the test fails.

    Args:
        directory: of its data, which it has again when it is started again.
        options: as in its configuration file.
    """

    def __init__(self, directory: Path, **options: str) -> None:
        self._directory = directory
        self.port = free_port()
        self.url = f"redis://127.0.0.1:{self.port}/0"
        self.options = {
            "appendonly": "yes",
            "appendfsync": "always",
            "save": "",
            "repl-diskless-sync-delay": "0",  # else a replica waits 5 s for others
            **options,
        }
        self.start()

    def start(self) -> None:
        program = binaries.find("redis-server")
        options = [word for name, value in self.options.items() for word in (f"--{name}", value)]
        with (self._directory / "redis.log").open("ab") as output:
            self._process = subprocess.Popen(
                [
                    program,
                    "--port",
                    str(self.port),
                    "--bind",
                    "127.0.0.1",
                    "--dir",
                    self._directory,
                    *options,
                ],
                stdout=output,
                stderr=subprocess.STDOUT,
                env={**os.environ, **binaries.environment(program)},
            )
        deadline = time.monotonic() + PATIENCE
        while not self._answers():
            assert self._process.poll() is None, (self._directory / "redis.log").read_text()[-2000:]
            assert time.monotonic() < deadline
            time.sleep(0.01)

    def _answers(self) -> bool:
        try:
            with self.client() as client:
                return bool(client.ping())
        except RedisError as error:
            return "Authentication required" in str(error)

    def client(self) -> Redis:
        return Redis.from_url(self.url, decode_responses=True, protocol=2, socket_timeout=PATIENCE)

    def ask(self, *command: str | float) -> Any:
        """Return what the server answers to a command."""
        with self.client() as client:
            return client.execute_command(*command)

    def stop(self, how: signal.Signals = signal.SIGTERM) -> None:
        self._process.send_signal(how)
        self._process.wait(PATIENCE)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._process.poll() is None:
            self.stop(signal.SIGKILL)
