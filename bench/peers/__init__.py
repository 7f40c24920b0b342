"""Compare ours with other instrumentations of OpenAI's SDK, each in an environment of its own.

Each instrumentation runs in a process, and beside it one without any in the same environment. All these
processes take turns.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory
from types import TracebackType
from typing import Final

from ..compared import Table, overhead
from ..sdks import CHAT, PROMPT, chat_events
from . import measured

CHUNKS: Final = 500
EVENTS: Final = 200
TURNS: Final = 12

PEERS: Final = {
    "llm-exporter": "",
    "opentelemetry": "opentelemetry-instrumentation-genai-openai",
    "openllmetry": "opentelemetry-instrumentation-openai",
    "openlit": "openlit",
}
"""The packages, by the names of their environments in `.venv-peers/`."""
MEASURED: Final = {"call": measured.CALLS, "chunks": CHUNKS, "piece": 5 * EVENTS}
"""How many operations a turn has."""


class Process:
    """A process that makes calls.

    Args:
        environment: the name of its environment.
        instrumentation: what it runs under.
        directory: for its files.
    """

    def __init__(self, environment: str, instrumentation: str, directory: str) -> None:
        self.caller: dict[str, list[float]] = {name: [] for name in MEASURED}
        self.everyone: dict[str, list[float]] = {name: [] for name in MEASURED}
        self._process = subprocess.Popen(  # noqa: S603
            [_python(environment), "-W", "ignore", measured.__file__, instrumentation],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env={**os.environ, "TMPDIR": directory, "PYTHONHASHSEED": "0"},
        )
        events = [event.decode() for event in chat_events(CHUNKS)]
        piece = "".join(event.decode() for event in chat_events(EVENTS))
        responses = {"whole": [json.dumps(CHAT)], "chunks": events, "piece": [piece], "prompt": PROMPT}
        self.cpu = self.ask(json.dumps(responses))["cpu"]
        """The CPU seconds of setting it up, once openai is imported."""

    def ask(self, line: str) -> dict[str, float]:
        """Return the answer to a line."""
        if self._process.stdin is None or self._process.stdout is None:
            raise ValueError("the process has no pipes")
        self._process.stdin.write(line + "\n")
        self._process.stdin.flush()
        answer: dict[str, float] = json.loads(self._process.stdout.readline())
        return answer

    def turn(self) -> None:
        """Measure everything once."""
        for name in MEASURED:
            answer = self.ask(name)
            self.caller[name].append(answer["caller"])
            self.everyone[name].append(answer["everyone"])

    def __enter__(self) -> Process:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._process.communicate()


def tables() -> Iterator[Table]:
    """Yield a table with a row for each instrumentation."""
    columns = (
        *("instrumentation", "a call, caller's thread: µs", "a call, all threads: µs"),
        *("a chunk: µs", "an event of a piece of 200: µs", "import and set up", "memory after all this"),
    )
    yield Table("OpenAI's SDK under instrumentations: what each adds", columns, list(_rows()))


def _rows() -> Iterator[list[str]]:
    with ExitStack() as stack:
        directory = stack.enter_context(TemporaryDirectory())
        pairs = {
            name: [stack.enter_context(Process(name, each, directory)) for each in ("none", name)]
            for name in PEERS
        }
        for turn in range(TURNS):
            for raw, instrumented in pairs.values():
                for process in (raw, instrumented) if turn % 2 else (instrumented, raw):
                    process.turn()
        for name, (raw, instrumented) in pairs.items():
            memory = instrumented.ask("memory")["memory"] - raw.ask("memory")["memory"]
            yield [
                f"{PEERS[name]} {_version(name)}" if PEERS[name] else f"{name}, this checkout",
                str(overhead(raw.caller["call"], instrumented.caller["call"], MEASURED["call"])),
                *(
                    str(overhead(raw.everyone[what], instrumented.everyone[what], MEASURED[what]))
                    for what in MEASURED
                ),
                f"{instrumented.cpu * 1e3:.0f} ms",
                f"{memory:.1f} MB",
            ]


def _python(environment: str) -> str:
    return f".venv-peers/{environment}/bin/python" if PEERS[environment] else sys.executable


def _version(name: str) -> str:
    """Return the version that the lock file of an environment pins."""
    lock = Path(__file__).with_name(f"{name}.lock").read_text()
    return lock.partition(f"\n{PEERS[name]}==")[2].partition(" ")[0]
