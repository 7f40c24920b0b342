"""What the processes of test_shared_budgets.py run: fifty calls at a time, through the OpenAI SDK."""

from __future__ import annotations

import sys
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import openai

import llm_exporter

# 1,600 tokens at $2.50 and 600 at $10 a million are $0.01, and so is the estimate, at 4 characters a token.
ASKED: dict[str, Any] = {
    "model": "gpt-4o",
    "messages": [{"role": "user", "content": "four" * 1597}],
    "max_tokens": 600,
}


def ask(client: openai.OpenAI, patience: float) -> str:
    """Make a call; when it is refused, try again until the patience is at its end."""
    end = time.monotonic() + patience
    while True:
        try:
            client.chat.completions.create(**ASKED)
        except llm_exporter.BudgetExceeded as refused:
            if refused.away or time.monotonic() > end:
                return "away" if refused.away else "refused"
            time.sleep(0.05)
        else:
            return "sent"


def main(url: str, calls: int, patience: float) -> None:
    """Print what became of each call."""
    client = openai.OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0)
    llm_exporter.instrument(client)
    with ThreadPoolExecutor(calls) as pool:
        fates = list(pool.map(lambda _: ask(client, patience), range(calls)))
    print(*(fates.count(fate) for fate in ("sent", "refused", "away")))  # noqa: T201


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), float(sys.argv[3]))
