"""The program of these tests: it calls an LLM through the OpenAI SDK as the commands on its input say.

Each command is a line with the name of a function below and its arguments. Its result is printed as JSON.
"""

from __future__ import annotations

import asyncio
import builtins
import json
import multiprocessing.pool
import os
import signal
import sys
import time
from datetime import UTC, datetime
from typing import Any, NoReturn

_now = time.time
_stopped_at: list[float] = []
time.time = lambda: _stopped_at[-1] if _stopped_at else _now()  # before anyone imports it

import openai  # noqa: E402

import llm_exporter  # noqa: E402
from llm_exporter.client.default import pipeline  # noqa: E402

PROVIDER, NAME = sys.argv[1:3]
REQUEST: dict[str, Any] = {
    "model": "gpt-4o",
    "messages": [{"role": "user", "content": "Hello"}],
    "max_tokens": 300,  # $0.003
}
client = openai.OpenAI(base_url=f"{PROVIDER}/v1", api_key="none", max_retries=0)
made = 0
pool: list[multiprocessing.pool.Pool] = []
"""Makes the calls, if there is one."""


def one_call(session: str) -> str:
    """Make a call, and return what became of it."""
    with llm_exporter.labels(agent=NAME, session=session):
        try:
            client.chat.completions.create(**REQUEST)
        except llm_exporter.BudgetExceeded:
            return "refused"
    return "made"


def call(calls: str) -> list[str]:
    """Make calls, each in a session of its own, and return these sessions."""
    global made  # noqa: PLW0603
    sessions = [f"{NAME}-{number}" for number in range(made, made + int(calls))]
    made += int(calls)
    one_by_one = pool[-1].map if pool else map
    assert set(one_by_one(one_call, sessions)) <= {"made"}
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


def call_as(*agent: str) -> list[str]:
    """Make a call as an agent whose name is given as JSON, and return its session."""
    global made  # noqa: PLW0603
    made += 1
    with llm_exporter.labels(agent=json.loads(" ".join(agent)), session=f"{NAME}-as-{made}"):
        client.chat.completions.create(**REQUEST)
    return [f"{NAME}-as-{made}"]


def clock(moment: str) -> None:
    """Let the clock stand at a moment."""
    _stopped_at.append(datetime.fromisoformat(moment).replace(tzinfo=UTC).timestamp())


def serve() -> int:
    """Serve `/metrics`, and return the port."""
    return int(llm_exporter.start_http_server(0).port)


def flush() -> bool:
    """Wait until every call has gone through the pipeline."""
    return pipeline().flush(60)


def start_pool() -> None:
    """Make the next calls in a process of a pool."""
    pool.append(multiprocessing.get_context("fork").Pool(1))


def fork() -> int | None:
    """Run the next commands in a forked process until it ends. Then return its exit status."""
    child = os.fork()
    return os.waitpid(child, 0)[1] if child else None


def call_and_end(how: str) -> None:
    """Make a call, and end at once."""
    sessions = call("1")
    if how == "terminate":
        pool[-1].terminate()
    sys.stdout.write(json.dumps(sessions) + "\n")
    sys.stdout.flush()
    if how == "os._exit":
        os._exit(0)
    if how != "terminate":
        os.kill(os.getpid(), getattr(signal, how))
    sys.exit()


def main() -> None:
    """Run the commands."""
    llm_exporter.instrument()
    for line in sys.stdin:
        name, *arguments = line.split()
        sys.stdout.write(json.dumps(globals()[name](*arguments)) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
