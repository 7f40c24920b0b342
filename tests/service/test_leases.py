"""However questions for leases and the answers to them cross, all processes stay within the budget.

The service and the budgets of each process are real; what happens next is up to chance.
"""

from __future__ import annotations

import tempfile
import time
from contextlib import closing
from decimal import Decimal
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from llm_exporter import BudgetExceeded, Call
from llm_exporter.budgets.enforcement import Budgets
from llm_exporter.budgets.leases import Answer, Question
from llm_exporter.config.model import Budget, Config, Prices
from llm_exporter.pricing.prices import PriceList
from llm_exporter.service.accounts import Accounts
from llm_exporter.service.leases import answer_to
from llm_exporter.service.ledger.sqlite import SqliteLedger

LIMIT = 12
"""Calls: each may cost a cent, and does."""
CENT: dict[str, Any] = {"messages": [{"role": "user", "content": "four" * 1597}], "max_tokens": 600}


def config(limit: int) -> Config:
    budget = Budget(name="all", period="total", usd=Decimal(limit) / 100, on_exceed="block")
    return Config(budgets=(budget,))


PROCESSES = st.sampled_from(range(3))


class Process:
    """What a process knows, and what is under way between it and the service."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.budgets = Budgets((), PriceList(Prices()), lambda _: None)
        self.question: Question | None = None
        self.answer: Answer | None = None
        self.under_way: list[Call] = []
        self.unsent: list[Call] = []
        self.unconfirmed: list[Call] = []


class Leasing(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.limit = LIMIT
        self.directory = tempfile.TemporaryDirectory()
        self.start_service()
        self.spent = 0
        self.names = count()
        self.processes: list[Process] = []
        for process in range(3):
            self.processes.append(Process(str(next(self.names))))
            self.begin(process)

    def start_service(self) -> None:
        self.ledger = SqliteLedger(Path(self.directory.name) / "ledger.db")
        self.accounts = Accounts(config(self.limit), self.ledger, lambda _: None)

    @rule()
    def restart_service(self) -> None:
        self.ledger.close()
        self.start_service()

    @rule()
    def raise_limit(self) -> None:
        """Reload a configuration with a higher limit, which each process hears of with its next answer."""
        self.limit += 1
        self.accounts = Accounts(config(self.limit), self.ledger, lambda _: None)

    def begin(self, process: int) -> None:
        self.renew(process)
        self.renew(process)  # what there is to ask for is known from the first answer

    def teardown(self) -> None:
        self.ledger.close()
        self.directory.cleanup()

    @rule(process=PROCESSES, most=st.integers(1, LIMIT))
    def call(self, process: int, most: int) -> None:
        """Begin as many calls as there may be, and so many at most."""
        its = self.processes[process]
        for _ in range(most):
            call = Call(
                provider="openai",
                model="gpt-4o",
                requested_model="gpt-4o",
                operation="chat",
                cost={"output": 0.01},
            )
            try:
                its.budgets.hold(call, CENT)
            except BudgetExceeded:
                break
            its.under_way.append(call)
            self.spent += 1

    @rule(process=PROCESSES)
    def finish(self, process: int) -> None:
        its = self.processes[process]
        for call in its.under_way:
            its.budgets.settle(call)
        its.unsent += its.under_way
        its.under_way = []

    @rule(process=PROCESSES)
    def ship(self, process: int) -> None:
        its = self.processes[process]
        self.ledger.add(its.unsent)
        its.unconfirmed += its.unsent
        its.unsent = []

    @rule(process=PROCESSES)
    def confirm(self, process: int) -> None:
        its = self.processes[process]
        its.budgets.shipped([call.id for call in its.unconfirmed])
        its.unconfirmed = []

    @rule(process=PROCESSES)
    def renew(self, process: int) -> None:
        self.ask(process)
        self.decide(process)
        self.hear(process)

    @rule(process=PROCESSES)
    def spend_all_there_is(self, process: int) -> None:
        spent = -1
        while spent < self.spent:
            spent = self.spent
            self.call(process, LIMIT)
            self.renew(process)

    @rule(process=PROCESSES)
    def ask(self, process: int) -> None:
        """Ask; what was asked before is not answered any more."""
        its = self.processes[process]
        its.question, its.answer = its.budgets.shared.ask(its.name), None

    @rule(process=PROCESSES)
    def decide(self, process: int) -> None:
        its = self.processes[process]
        if its.question is not None:
            its.answer, its.question = answer_to(its.question, self.accounts, self.ledger), None

    @rule(process=PROCESSES)
    def hear(self, process: int) -> None:
        its = self.processes[process]
        if its.answer is not None:
            its.budgets.shared.take(its.answer, time.monotonic() + 60)
            its.answer = None

    @rule(process=PROCESSES)
    def end(self, process: int) -> None:
        """Ship what is left, tell that this is the end, and begin anew as another process."""
        self.finish(process)
        self.ship(process)
        self.confirm(process)
        answer_to(
            self.processes[process].budgets.shared.ask(self.processes[process].name, ends=True),
            self.accounts,
            self.ledger,
        )
        self.processes[process] = Process(str(next(self.names)))
        self.begin(process)

    @invariant()
    def no_more_is_spent_than_there_is(self) -> None:
        assert self.spent <= self.limit


TestLeasing = Leasing.TestCase
TestLeasing.settings = settings(max_examples=200, stateful_step_count=20, deadline=None)


def test_what_a_process_spends_before_it_hears_of_a_smaller_lease_is_not_for_others() -> None:
    leasing = Leasing()
    leasing.ask(0)
    leasing.call(0, LIMIT)
    assert leasing.spent == LIMIT // 2  # the other half is for who asks next
    leasing.decide(0)
    leasing.spend_all_there_is(1)
    leasing.spend_all_there_is(2)
    assert leasing.spent == LIMIT
    leasing.teardown()


def test_a_process_asks_soon_for_an_account_that_is_new_and_for_more_than_it_has(tmp_path: Path) -> None:
    budget = Budget(name="each", period="total", usd=Decimal("0.02"), per=("session",), on_exceed="block")
    its = Process("a")
    asked: list[None] = []
    its.budgets.shared.wants_more = lambda: asked.append(None)

    def hold() -> None:
        labels = {"session": "s"}
        its.budgets.hold(
            Call(
                provider="openai",
                model="gpt-4o",
                requested_model="gpt-4o",
                operation="chat",
                labels=labels,
            ),
            CENT,
        )

    with closing(SqliteLedger(tmp_path / "ledger.db")) as ledger:
        accounts = Accounts(Config(budgets=(budget,)), ledger, lambda _: None)

        def renew() -> None:
            answer = answer_to(its.budgets.shared.ask("a"), accounts, ledger)
            its.budgets.shared.take(answer, time.monotonic() + 60)

        renew()
        assert asked == []
        hold()
        assert len(asked) == 1
        renew()
        with pytest.raises(BudgetExceeded):
            hold()
        assert len(asked) == 2
        renew()
        hold()
        assert len(asked) == 2
