"""Run a real Redis server on loopback."""

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

from support.awaiting import DEADLINE
from tools import binaries
from tools.stack import free_port


class RedisServer:
    """A context manager that runs Redis; the test fails if Redis is not installed.

    Args:
        directory: where its data is kept over restarts.
        options: settings, named as in `redis.conf`.
    """

    def __init__(self, directory: Path, **options: str) -> None:
        self._directory = directory
        self.port = free_port()
        self.url = f"redis://127.0.0.1:{self.port}/0"
        self.options = {
            "appendonly": "yes",
            "appendfsync": "always",
            "save": "",
            "repl-diskless-sync-delay": "0",  # otherwise a replica waits 5 s for others
            **options,
        }
        self.start()

    def start(self) -> None:
        """Start the server, and return when it responds."""
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
        deadline = time.monotonic() + DEADLINE
        while not self._responds():
            assert self._process.poll() is None, (self._directory / "redis.log").read_text()[-2000:]
            assert time.monotonic() < deadline
            time.sleep(0.01)

    def _responds(self) -> bool:
        try:
            with self.client() as client:
                return bool(client.ping())
        except RedisError as error:
            return "Authentication required" in str(error)

    def client(self) -> Redis:
        """Return a client of this server."""
        return Redis.from_url(self.url, decode_responses=True, protocol=2, socket_timeout=DEADLINE)

    def execute(self, *command: str | float) -> Any:
        """Execute a Redis command, and return its response."""
        with self.client() as client:
            return client.execute_command(*command)

    def stop(self, signal_: signal.Signals = signal.SIGTERM) -> None:
        """Send a signal, and wait until the server has exited."""
        self._process.send_signal(signal_)
        self._process.wait(DEADLINE)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._process.poll() is None:
            self.stop(signal.SIGKILL)
