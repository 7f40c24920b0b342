"""All processes together stay within a shared budget, in whichever order requests and responses arrive.

The service and the budgets of each process are real. Hypothesis decides what happens next.
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
from llm_exporter.budgets.leases import LeaseRequest, LeaseResponse
from llm_exporter.config.model import Budget, Config, Prices
from llm_exporter.pricing.prices import PriceList
from llm_exporter.service.accounts import Accounts
from llm_exporter.service.leases import grant_leases
from llm_exporter.service.ledger.sqlite import SqliteLedger

LIMIT = 12
"""Calls: each is estimated at one cent, and costs one cent."""
CENT: dict[str, Any] = {"messages": [{"role": "user", "content": "four" * 1597}], "max_tokens": 600}


def config(limit: int) -> Config:
    budget = Budget(name="all", period="total", usd=Decimal(limit) / 100, on_exceed="block")
    return Config(budgets=(budget,))


PROCESSES = st.sampled_from(range(3))


class Process:
    """A process, and the messages in flight between it and the service."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.budgets = Budgets((), PriceList(Prices()), lambda _: None)
        self.request: LeaseRequest | None = None
        self.response: LeaseResponse | None = None
        self.in_flight: list[Call] = []
        self.unsent: list[Call] = []
        self.unacknowledged: list[Call] = []


class Leasing(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.limit = LIMIT
        self.directory = tempfile.TemporaryDirectory()
        self.start_service()
        self.spent = 0
        self.names = count()
        self.processes: list[Process] = []
        for number in range(3):
            self.processes.append(Process(str(next(self.names))))
            self.begin(number)

    def start_service(self) -> None:
        self.ledger = SqliteLedger(Path(self.directory.name) / "ledger.db")
        self.accounts = Accounts(config(self.limit), self.ledger, lambda _: None)

    @rule()
    def restart_service(self) -> None:
        self.ledger.close()
        self.start_service()

    @rule()
    def raise_limit(self) -> None:
        """Reload a configuration with a higher limit, which each process receives with its next response."""
        self.limit += 1
        self.accounts = Accounts(config(self.limit), self.ledger, lambda _: None)

    def begin(self, number: int) -> None:
        self.renew(number)
        self.renew(number)  # the first response names the budgets to ask for

    def teardown(self) -> None:
        self.ledger.close()
        self.directory.cleanup()

    @rule(number=PROCESSES, most=st.integers(1, LIMIT))
    def call(self, number: int, most: int) -> None:
        """Start calls until one is refused, but no more than `most`."""
        process = self.processes[number]
        for _ in range(most):
            call = Call(
                provider="openai",
                model="gpt-4o",
                requested_model="gpt-4o",
                operation="chat",
                cost={"output": 0.01},
            )
            try:
                process.budgets.hold(call, CENT)
            except BudgetExceeded:
                break
            process.in_flight.append(call)
            self.spent += 1

    @rule(number=PROCESSES)
    def finish(self, number: int) -> None:
        process = self.processes[number]
        for call in process.in_flight:
            process.budgets.settle(call)
        process.unsent += process.in_flight
        process.in_flight = []

    @rule(number=PROCESSES)
    def ship(self, number: int) -> None:
        process = self.processes[number]
        self.ledger.add(process.unsent, self.accounts.charges)
        process.unacknowledged += process.unsent
        process.unsent = []

    @rule(number=PROCESSES)
    def acknowledge(self, number: int) -> None:
        process = self.processes[number]
        process.budgets.acknowledge([call.id for call in process.unacknowledged])
        process.unacknowledged = []

    @rule(number=PROCESSES)
    def renew(self, number: int) -> None:
        self.request(number)
        self.respond(number)
        self.receive(number)

    @rule(number=PROCESSES)
    def spend_everything(self, number: int) -> None:
        spent = -1
        while spent < self.spent:
            spent = self.spent
            self.call(number, LIMIT)
            self.renew(number)

    @rule(number=PROCESSES)
    def request(self, number: int) -> None:
        """Send a request; an earlier one gets no response any more."""
        process = self.processes[number]
        process.request, process.response = process.budgets.shared.request(process.name), None

    @rule(number=PROCESSES)
    def respond(self, number: int) -> None:
        process = self.processes[number]
        if process.request is not None:
            process.response, process.request = (
                grant_leases(process.request, self.accounts, self.ledger),
                None,
            )

    @rule(number=PROCESSES)
    def receive(self, number: int) -> None:
        process = self.processes[number]
        if process.response is not None:
            process.budgets.shared.apply(process.response, time.monotonic() + 60)
            process.response = None

    @rule(number=PROCESSES)
    def end(self, number: int) -> None:
        """Ship what is left, return the leases, and start over as another process."""
        self.finish(number)
        self.ship(number)
        self.acknowledge(number)
        grant_leases(
            self.processes[number].budgets.shared.request(self.processes[number].name, ends=True),
            self.accounts,
            self.ledger,
        )
        self.processes[number] = Process(str(next(self.names)))
        self.begin(number)

    @invariant()
    def the_limit_is_never_exceeded(self) -> None:
        assert self.spent <= self.limit


TestLeasing = Leasing.TestCase
TestLeasing.settings = settings(max_examples=200, stateful_step_count=20, deadline=None)


def test_a_shrunken_lease_is_not_free_for_others_before_the_process_knows() -> None:
    leasing = Leasing()
    leasing.request(0)
    leasing.call(0, LIMIT)
    assert leasing.spent == LIMIT // 2  # the other half is left for the next process
    leasing.respond(0)
    leasing.spend_everything(1)
    leasing.spend_everything(2)
    assert leasing.spent == LIMIT
    leasing.teardown()


def test_a_new_account_and_a_refusal_make_the_renewal_due(tmp_path: Path) -> None:
    budget = Budget(name="each", period="total", usd=Decimal("0.02"), per=("session",), on_exceed="block")
    process = Process("a")
    shared = process.budgets.shared

    def hold() -> None:
        process.budgets.hold(
            Call(
                provider="openai",
                model="gpt-4o",
                requested_model="gpt-4o",
                operation="chat",
                labels={"session": "s"},
            ),
            CENT,
        )

    with closing(SqliteLedger(tmp_path / "ledger.db")) as ledger:
        accounts = Accounts(Config(budgets=(budget,)), ledger, lambda _: None)

        def renew() -> None:
            shared.renewal_due.clear()
            shared.apply(grant_leases(shared.request("a"), accounts, ledger), time.monotonic() + 60)

        renew()
        assert not shared.renewal_due.is_set()
        hold()
        assert shared.renewal_due.is_set()
        renew()
        with pytest.raises(BudgetExceeded):
            hold()
        assert shared.renewal_due.is_set()
        renew()
        hold()
        assert not shared.renewal_due.is_set()
