"""The default pipeline is made once, and nobody waits for the service while it is."""

from __future__ import annotations

import threading

import pytest

from llm_exporter.client import default
from llm_exporter.client.lease_renewal import LeaseRenewal
from llm_exporter.client.pipeline import Pipeline
from llm_exporter.forking import late_import

PATIENCE = 60.0


@pytest.mark.usefixtures("pipeline")
def test_nothing_is_locked_while_the_first_lease_is_awaited(monkeypatch: pytest.MonkeyPatch) -> None:
    """The lock is the one that forks and other threads' first calls wait for."""
    waiting, answered = threading.Event(), threading.Event()

    def wait_for_first(_: LeaseRenewal) -> None:
        waiting.set()
        answered.wait(PATIENCE)

    monkeypatch.setattr(LeaseRenewal, "wait_for_first", wait_for_first)
    monkeypatch.setattr(default, "_service", "http://127.0.0.1:9")
    default.replace(None)
    first = threading.Thread(target=default.pipeline)
    first.start()
    assert waiting.wait(PATIENCE)
    try:
        assert late_import.acquire(blocking=False)
        late_import.release()
    finally:
        answered.set()
        first.join(PATIENCE)
    default.pipeline().close()


def test_threads_share_one_pipeline(pipeline: Pipeline) -> None:
    made: list[Pipeline] = []
    default.replace(None)
    threads = [threading.Thread(target=lambda: made.append(default.pipeline())) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE)
    assert len(made) == 8
    assert {id(one) for one in made} == {id(default.pipeline())} != {id(pipeline)}
    default.pipeline().close()
