"""The program of these tests: it calls an LLM through the OpenAI SDK as the commands on its input say.

Each command is a line with the name of a function below and its arguments. Its result is printed as JSON.
"""

from __future__ import annotations

import asyncio
import builtins
import json
import multiprocessing
import os
import signal
import sys
import time
from datetime import UTC, datetime
from typing import NoReturn

_now = time.time
_stopped_at: list[float] = []
time.time = lambda: _stopped_at[-1] if _stopped_at else _now()  # before anyone imports it

import openai  # noqa: E402

import llm_exporter  # noqa: E402

PROVIDER, NAME = sys.argv[1:3]
client = openai.OpenAI(base_url=f"{PROVIDER}/v1", api_key="none", max_retries=0)
made = 0


def one_call(session: str) -> str:
    """Make a call, and return what became of it."""
    with llm_exporter.labels(agent=NAME, session=session):
        try:
            client.chat.completions.create(model="gpt-4o", messages=[{"role": "user", "content": "Hello"}])
        except llm_exporter.BudgetExceeded:
            return "refused"
    return "made"


def call(calls: str) -> list[str]:
    """Make calls, each in a session of its own, and return these sessions."""
    global made  # noqa: PLW0603
    sessions = [f"{NAME}-{number}" for number in range(made, made + int(calls))]
    made += int(calls)
    assert {one_call(session) for session in sessions} <= {"made"}
    return sessions


def refused() -> bool:
    """Make a call, and return whether a budget refused it."""
    return one_call(f"{NAME}-refused") == "refused"


def subscribe(error: str) -> None:
    """Subscribe a function that raises this error for every call."""
    kind: type[BaseException] = getattr(builtins, error, asyncio.CancelledError)

    def fail(_: llm_exporter.Call) -> NoReturn:
        raise kind

    llm_exporter.subscribe(fail)


def label(text: str) -> list[str]:
    """Make a call whose agent is a text, given as JSON."""
    with llm_exporter.labels(agent=json.loads(text), session=f"{NAME}-label"):
        client.chat.completions.create(model="gpt-4o", messages=[{"role": "user", "content": "Hello"}])
    return [f"{NAME}-label"]


def clock(moment: str) -> None:
    """Let the clock stand at a moment."""
    _stopped_at.append(datetime.fromisoformat(moment).replace(tzinfo=UTC).timestamp())


def serve() -> int:
    """Serve `/metrics`, and return the port."""
    return int(llm_exporter.start_http_server(0).port)


def flush() -> bool:
    """Wait until every call has gone through the pipeline."""
    return bool(llm_exporter.flush())


def kill(name: str) -> None:
    """Send a signal to this process."""
    os.kill(os.getpid(), getattr(signal, name))


def leave() -> None:
    """End this process without any cleanup."""
    os._exit(0)


def pool(calls: str) -> list[str]:
    """Make calls in a pool of processes, which is terminated."""
    with multiprocessing.get_context("fork").Pool(2) as workers:  # terminates it at the end
        sessions = [f"{NAME}-pool-{number}" for number in range(int(calls))]
        assert set(workers.map(one_call, sessions)) == {"made"}
    return sessions


def main() -> None:
    """Run the commands."""
    llm_exporter.instrument()
    for line in sys.stdin:
        name, *arguments = line.split()
        sys.stdout.write(json.dumps(globals()[name](*arguments)) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
