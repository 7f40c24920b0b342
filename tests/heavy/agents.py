"""What the processes of test_many_processes.py run: agents that call an LLM through the OpenAI SDK."""

from __future__ import annotations

import multiprocessing
import sys
import time

import openai

import llm_exporter


def call(url: str, agent: str, calls: int) -> None:
    """Make calls; any error of one ends the process with an error."""
    client = openai.OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0)
    with llm_exporter.labels(agent=agent):
        for _ in range(calls):
            client.chat.completions.create(model="gpt-4o", messages=[{"role": "user", "content": "Hello"}])


def short_lives(url: str, agent: str, calls: int, each: int) -> None:
    """Make calls in processes one after the other, none of which lives long."""
    longest = 0.0
    for _ in range(calls // each):
        began = time.monotonic()
        process = multiprocessing.get_context("fork").Process(target=call, args=(url, agent, each))
        process.start()
        process.join()
        longest = max(longest, time.monotonic() - began)
        if process.exitcode:
            sys.exit(f"{agent}: exit status {process.exitcode}")
    print(f"{agent}: the longest of its {calls // each} processes lived {longest:.2f} s")  # noqa: T201


if __name__ == "__main__":
    _, url, agent, calls, each = sys.argv
    llm_exporter.instrument()
    if int(each):
        short_lives(url, agent, int(calls), int(each))
    else:
        call(url, agent, int(calls))
