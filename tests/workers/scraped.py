"""What test_greenlets.py scrapes: servers for `/metrics` in a program of gevent or eventlet.

It blocks its main thread, and so its event loop, while it waits for a line of its standard input.
"""

from __future__ import annotations

import importlib
import sys
import warnings
from typing import Any

LIBRARY, ORDER, WEB_CONFIG = sys.argv[1:]


def patch() -> None:
    """Replace the standard library's threads, locks, queues and sockets."""
    warnings.simplefilter("ignore")  # both warn of being late
    if LIBRARY == "gevent":
        importlib.import_module("gevent.monkey").patch_all()
    else:
        importlib.import_module("eventlet").monkey_patch()


def event_loop() -> Any:
    """Return the event loop of the current thread; None if it has not started one."""
    if LIBRARY == "gevent":
        return importlib.import_module("gevent._hub_local").get_hub_if_exists()
    return getattr(importlib.import_module("eventlet.hubs")._threadlocal, "hub", None)


def work(number: int) -> None:
    """Make calls in as many greenlets, and wait for them."""
    if LIBRARY == "gevent":
        gevent = importlib.import_module("gevent")
        gevent.joinall([gevent.spawn(call) for _ in range(number)], raise_error=True)
        return
    pool: Any = importlib.import_module("eventlet").GreenPool()
    for _ in range(number):
        pool.spawn(call)
    pool.waitall()


def call() -> None:
    """Record a call."""
    llm_exporter.record(provider="openai", model="gpt-4o", tokens={"input": 1})


def say(*words: object) -> None:
    """Write a line to the standard output."""
    sys.stdout.write(" ".join(map(str, words)) + "\n")
    sys.stdout.flush()


if ORDER == "before":
    patch()

import llm_exporter  # noqa: E402
from llm_exporter.client import http  # noqa: E402

if ORDER == "after":
    patch()

loops: list[Any] = []
flushed = http._flushed


def observed() -> Any:
    """Note the event loop of a thread that serves a scrape."""
    metrics = flushed()
    loops.append(event_loop())
    return metrics


http._flushed = observed
plain = llm_exporter.start_http_server(0)
secure = llm_exporter.start_http_server(0, web_config_file=WEB_CONFIG)
if ORDER == "late":
    patch()
call()
say(plain.port, secure.port)
sys.stdin.readline()
work(9)
say("worked")
sys.stdin.readline()
plain.close()
secure.close()
say(len(loops), loops.count(None))
