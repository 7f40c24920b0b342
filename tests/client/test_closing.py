"""Closing has one deadline, whatever the service does."""

from __future__ import annotations

import threading
import time
from pathlib import Path
from typing import Any

import pytest

from llm_exporter.client.lease_renewal import LeaseRenewal
from llm_exporter.client.pipeline import Pipeline
from llm_exporter.client.shipping import Shipper
from llm_exporter.client.worker import Worker
from support.calls import a_call
from support.scripted import Response, Server


def test_shipper_and_leases_share_one_deadline(
    pipeline: Pipeline, server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They are told to end before any of them is waited for, so they end side by side.

    Recording what waits comes first. It needs no service, and a busy machine must not make it lose calls.
    """
    may_answer = threading.Event()
    server.respond_with("/calls", Response([b"{}"], before={0: may_answer}))
    server.respond_with("/leases", Response([b"{}"], before={0: may_answer}))
    monkeypatch.setenv("LLM_EXPORTER_SPOOL", str(tmp_path))
    steps: list[tuple[Any, ...]] = []
    clock = Clock(100.0)
    monkeypatch.setattr("llm_exporter.client.pipeline.time", clock)
    close = Worker.close

    def close_worker(worker: Worker, timeout: float) -> bool:
        steps.append(("worker", timeout))
        clock.now += 20
        return close(worker, 60)

    monkeypatch.setattr(Worker, "close", close_worker)
    for part in (Shipper, LeaseRenewal):
        name = part.__name__
        monkeypatch.setattr(part, "end", lambda _, deadline, name=name: steps.append((name, "end", deadline)))
        monkeypatch.setattr(part, "join", lambda _, name=name: steps.append((name, "join")))
    pipeline.ship_to(server.url)
    pipeline.record(a_call())
    shipper_and_renewal: list[Any] = []
    pipeline.flush()
    shipper_and_renewal += [pipeline._shipper, pipeline._renewal]
    pipeline.close()
    assert steps == [
        ("worker", 30.0),
        ("Shipper", "end", 125.0),
        ("LeaseRenewal", "end", 125.0),
        ("Shipper", "join"),
        ("LeaseRenewal", "join"),
    ]
    may_answer.set()
    monkeypatch.undo()
    for each in shipper_and_renewal:
        each.end(time.monotonic() + 60)
        each.join()


class Clock:
    """Takes the place of the module `time`."""

    def __init__(self, now: float) -> None:
        self.now = now

    def monotonic(self) -> float:
        """Return the time that the test has set."""
        return self.now
