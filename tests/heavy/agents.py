"""The program of test_many_processes.py: an agent that calls an LLM through the OpenAI SDK."""

from __future__ import annotations

import multiprocessing
import sys
import time

import openai

import llm_exporter


def call(url: str, agent: str, calls: int) -> None:
    """Make calls, and exit with an error if one fails."""
    client = openai.OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0)
    with llm_exporter.labels(agent=agent):
        for _ in range(calls):
            client.chat.completions.create(model="gpt-4o", messages=[{"role": "user", "content": "Hello"}])


def call_in_short_processes(url: str, agent: str, calls: int, calls_per_process: int) -> None:
    """Make calls in a sequence of short-lived processes."""
    longest = 0.0
    for _ in range(calls // calls_per_process):
        began = time.monotonic()
        process = multiprocessing.get_context("fork").Process(
            target=call, args=(url, agent, calls_per_process)
        )
        process.start()
        process.join()
        longest = max(longest, time.monotonic() - began)
        if process.exitcode:
            sys.exit(f"{agent}: exit status {process.exitcode}")
    print(f"{agent}: the longest-lived of {calls // calls_per_process} processes took {longest:.2f} s")  # noqa: T201


if __name__ == "__main__":
    _, url, agent, calls, calls_per_process = sys.argv
    llm_exporter.instrument()
    if int(calls_per_process):
        call_in_short_processes(url, agent, int(calls), int(calls_per_process))
    else:
        call(url, agent, int(calls))
