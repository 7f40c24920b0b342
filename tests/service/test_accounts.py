"""The accounts of the service, whose amounts are in the ledger."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import pytest

from llm_exporter.budgets import spending
from llm_exporter.budgets.events import BudgetReached, Event
from llm_exporter.config.model import Config
from llm_exporter.service.accounts import Accounts
from llm_exporter.service.ledger.base import LedgerError, Spent
from llm_exporter.service.ledger.sqlite import SqliteLedger
from support.awaiting import DEADLINE
from support.budgets import Clock, budget
from support.calls import a_call


def test_a_session_that_fell_out_of_memory_is_read_from_the_ledger_and_notified_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(spending, "_MAX_ACCOUNTS", 2)
    events: list[Event] = []
    config = Config(budgets=(budget("1", period="total", per=("session",)),))
    with closing(SqliteLedger(tmp_path / "ledger.db")) as ledger:
        accounts = Accounts(config, ledger, events.append)
        for number, session in enumerate(["first", "b", "c", "d", "first"]):
            usd = 0.85 if number == 0 else 0.05
            call = a_call(id=str(number), labels={"session": session}, cost={"output": usd})
            accounts.settle(ledger.add([call], accounts.charges))
        assert {row.labels["session"]: row.spent for row in accounts.rows()} == {"d": 0.05, "first": 0.9}
    assert [event.ratio for event in events if isinstance(event, BudgetReached)] == [0.8]


def test_an_event_is_emitted_once_although_the_clock_steps_back(tmp_path: Path) -> None:
    midnight = time.time() // 86400 * 86400
    clock = Clock(midnight - 1)
    events: list[Event] = []
    with closing(SqliteLedger(tmp_path / "ledger.db")) as ledger:
        accounts = Accounts(Config(budgets=(budget("1"),)), ledger, events.append, clock)
        for number, step in enumerate((0, 2, -2, 2, -2)):
            clock.now += step
            call = a_call(id=str(number), started=clock.now, cost={"output": 0.3})
            accounts.settle(ledger.add([call], accounts.charges))
        (row,) = accounts.rows()
    assert row.spent == pytest.approx(0.9)
    assert [(event.ratio, event.since) for event in events if isinstance(event, BudgetReached)] == [
        (0.8, midnight - 86400)
    ]


def test_a_reading_that_hangs_keeps_no_calls_waiting_and_replaces_no_newer_amount(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    has_read, go_on = threading.Event(), threading.Event()
    with closing(SqliteLedger(tmp_path / "ledger.db")) as ledger, ThreadPoolExecutor() as pool:
        accounts = Accounts(Config(budgets=(budget("1"),)), ledger, lambda _: None)

        def hang(names: Sequence[str]) -> list[Spent]:
            amounts = SqliteLedger.spent(ledger, names)
            has_read.set()
            go_on.wait()
            return amounts

        monkeypatch.setattr(ledger, "shared", True)
        with monkeypatch.context() as patch:
            patch.setattr(ledger, "spent", hang)
            refreshed = pool.submit(accounts.refresh)
            has_read.wait()
        settled = pool.submit(accounts.settle, ledger.add([a_call(cost={"output": 0.3})], accounts.charges))
        try:
            (row,) = settled.result(DEADLINE)
            assert row.spent == 0.3
        finally:
            go_on.set()
        refreshed.result()
        (row,) = accounts.rows()
        assert row.spent == 0.3


def test_amounts_that_could_not_be_read_and_those_that_expire_are_read_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_: Sequence[str]) -> list[Spent]:
        raise LedgerError("ledger.db: disk I/O error")

    monkeypatch.setattr("llm_exporter.service.accounts._READ_SECONDS", 0)
    with closing(SqliteLedger(tmp_path / "ledger.db")) as ledger:
        accounts = Accounts(Config(budgets=(budget("1"),)), ledger, lambda _: None)
        calls = ledger.add([a_call(cost={"output": 0.3})], accounts.charges)
        with monkeypatch.context() as patch:
            patch.setattr(ledger, "spent", fail)
            with pytest.raises(LedgerError):
                accounts.settle(calls)
        assert [row.spent for row in accounts.rows()] == [0.0]
        accounts.refresh()
        assert [row.spent for row in accounts.rows()] == [0.3]
        ledger.delete_accounts(ledger.accounts())
        accounts.refresh()
        assert [row.spent for row in accounts.rows()] == [0.0]


def test_accounts_that_only_this_service_charges_are_not_read_by_each_scrape(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("llm_exporter.service.accounts._READ_SECONDS", 1e9)
    with closing(SqliteLedger(tmp_path / "ledger.db")) as ledger:
        accounts = Accounts(Config(budgets=(budget("1"),)), ledger, lambda _: None)
        accounts.settle(ledger.add([a_call(cost={"output": 0.3})], accounts.charges))
        ledger.delete_accounts(ledger.accounts())
        accounts.refresh()
        assert [row.spent for row in accounts.rows()] == [0.3]
        monkeypatch.setattr(ledger, "shared", True)
        accounts.refresh()
        assert [row.spent for row in accounts.rows()] == [0.0]
