"""The program that the processes of test_shared_budgets.py run: concurrent calls through the OpenAI SDK."""

from __future__ import annotations

import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import openai

import llm_exporter
from llm_exporter.budgets import leases

# Costs $0.01, as does the estimate at 4 characters a token: 1,600 tokens at $2.50 and 600 at $10 per million.
REQUEST: dict[str, Any] = {
    "model": "gpt-4o",
    "messages": [{"role": "user", "content": "four" * 1597}],
    "max_tokens": 600,
}

RETRY_SECONDS = 0.5  # there are hundreds of threads


def call(client: openai.OpenAI, stopped: threading.Event) -> str:
    """Make a call, retry it while a budget refuses it until this is to stop, and return the outcome."""
    while True:
        try:
            client.chat.completions.create(**REQUEST)
        except llm_exporter.BudgetExceeded as error:
            if error.away:
                return "unavailable"
            if stopped.wait(RETRY_SECONDS):
                return "refused"
        else:
            return "sent"


def await_end(stopped: threading.Event) -> None:
    sys.stdin.read()
    stopped.set()


def main(url: str, calls: int, retry: str) -> None:
    """Print how many calls were sent, how many were refused, and how many found the service unavailable.

    With `retry`, a refused call is retried until the end of the standard input.
    """
    stopped = threading.Event()
    if retry == "retry":
        threading.Thread(target=await_end, args=(stopped,), daemon=True).start()
    else:
        stopped.set()
    leases.FIRST_SECONDS = 60  # type: ignore[misc]  # a busy machine may be slow to answer
    client = openai.OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0)
    llm_exporter.instrument(client)
    with ThreadPoolExecutor(calls) as pool:
        outcomes = list(pool.map(lambda _: call(client, stopped), range(calls)))
    print(*(outcomes.count(outcome) for outcome in ("sent", "refused", "unavailable")))  # noqa: T201


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), sys.argv[3])
