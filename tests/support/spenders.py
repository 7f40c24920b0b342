"""The program that the processes of test_shared_budgets.py run: concurrent calls through the OpenAI SDK."""

from __future__ import annotations

import sys
import time
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


def call(client: openai.OpenAI, retry_seconds: float) -> str:
    """Make a call, retry it for some time while a budget refuses it, and return the outcome."""
    end = time.monotonic() + retry_seconds
    while True:
        try:
            client.chat.completions.create(**REQUEST)
        except llm_exporter.BudgetExceeded as error:
            if error.away or time.monotonic() > end:
                return "unavailable" if error.away else "refused"
            time.sleep(0.05)
        else:
            return "sent"


def main(url: str, calls: int, retry_seconds: float) -> None:
    """Print how many calls were sent, how many were refused, and how many found the service unavailable."""
    leases.FIRST_SECONDS = 60  # type: ignore[misc]  # a busy machine may be slow to answer
    client = openai.OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0)
    llm_exporter.instrument(client)
    with ThreadPoolExecutor(calls) as pool:
        outcomes = list(pool.map(lambda _: call(client, retry_seconds), range(calls)))
    print(*(outcomes.count(outcome) for outcome in ("sent", "refused", "unavailable")))  # noqa: T201


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), float(sys.argv[3]))
