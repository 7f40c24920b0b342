"""The worker runs actions in order: the first at once, those that follow it together."""

from __future__ import annotations

from functools import partial

import pytest

from llm_exporter.client import worker as module
from llm_exporter.client.worker import Worker
from llm_exporter.threads import Event
from support.awaiting import DEADLINE

NEVER = 3600.0


def failed(error: BaseException) -> None:
    raise AssertionError from error


class Counted(Worker):
    """Counts how often the thread looks for actions."""

    looks = 0

    def _run_actions(self) -> bool:
        self.looks += 1
        return super()._run_actions()


@pytest.fixture
def worker(monkeypatch: pytest.MonkeyPatch) -> Counted:
    """A worker that lets actions gather for longer than any test lasts, and that has just run one."""
    monkeypatch.setattr(module, "_GATHER_SECONDS", NEVER)
    worker = Counted(started=lambda: None, failed=failed)
    ran = Event()
    worker.put(ran.set)
    assert ran.wait(DEADLINE)
    return worker


def test_actions_gather_after_one_has_run_and_a_flush_runs_them_at_once(worker: Counted) -> None:
    ran: list[int] = []
    for number in range(1000):
        worker.put(partial(ran.append, number))
    assert worker.flush(DEADLINE)
    assert ran == list(range(1000))
    assert worker.looks <= 2


def test_closing_runs_what_gathers_at_once(worker: Counted) -> None:
    ran = Event()
    worker.put(ran.set)
    assert worker.close(DEADLINE)
    assert ran.is_set()


def test_an_action_after_a_pause_runs_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_GATHER_SECONDS", 0)
    worker = Worker(started=lambda: None, failed=failed)
    for _ in range(100):
        ran = Event()
        worker.put(ran.set)
        assert ran.wait(DEADLINE)
