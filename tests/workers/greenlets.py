"""What test_greenlets.py runs: calls in greenlets of gevent or eventlet, which is patched at a given time."""

from __future__ import annotations

import importlib
import json
import os
import sys
import warnings
from typing import Any

LIBRARY, ORDER = sys.argv[1:3]


def patch() -> None:
    """Replace the standard library's threads, locks, queues and sockets."""
    warnings.simplefilter("ignore")  # both warn of being late
    if LIBRARY == "gevent":
        importlib.import_module("gevent.monkey").patch_all()
    else:
        importlib.import_module("eventlet").monkey_patch()


if ORDER == "before":
    patch()

import llm_exporter  # noqa: E402
from llm_exporter.client.default import pipeline  # noqa: E402

seen: list[llm_exporter.Call] = []
llm_exporter.subscribe(seen.append)
llm_exporter.instrument()

if ORDER == "after":
    patch()

import openai  # noqa: E402


def call(agent: str) -> str:
    """Make a call, and return what became of it."""
    with llm_exporter.labels(agent=agent):
        try:
            client.chat.completions.create(model="gpt-4o", messages=[{"role": "user", "content": "Hi"}])
        except llm_exporter.BudgetExceeded:
            return "refused"
    return "made"


def in_greenlets(agents: list[str]) -> list[str]:
    """Make a call for each agent at the same time."""
    if LIBRARY == "gevent":
        spawn = importlib.import_module("gevent").spawn
        jobs = [spawn(call, agent) for agent in agents]
        return [job.get() for job in jobs]
    pool: Any = importlib.import_module("eventlet").GreenPool()
    return list(pool.imap(call, agents))


client = openai.OpenAI(base_url=os.environ["PROVIDER"] + "/v1", api_key="k", max_retries=0)
if ORDER == "late":
    call("planner")
    patch()
    client = openai.OpenAI(base_url=os.environ["PROVIDER"] + "/v1", api_key="k", max_retries=0)
outcomes = in_greenlets(["planner"] * (9 if ORDER == "late" else 10))
flushed = pipeline().flush(60)
refused = "LLM_EXPORTER_URL" in os.environ and call("broke")
pipeline().flush(60)
errors = [
    sample.labels
    for family in pipeline().registry.collect()
    for sample in family.samples
    if sample.name == "llm_exporter_errors_total"
]
result = {"outcomes": outcomes, "flushed": flushed, "refused": refused, "seen": len(seen), "errors": errors}
sys.stdout.write(json.dumps(result) + "\n")
