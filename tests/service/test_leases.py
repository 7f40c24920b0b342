"""All processes together stay within a shared budget, in whichever order requests and responses arrive.

The service and the budgets of each process are real. Hypothesis decides what happens next.
"""

from __future__ import annotations

import json
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from decimal import Decimal
from itertools import count
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from llm_exporter import BudgetExceeded, Call
from llm_exporter.budgets import leases
from llm_exporter.budgets.enforcement import Budgets
from llm_exporter.budgets.lease_messages import AccountUse, LeaseGrant, LeaseRequest, LeaseResponse
from llm_exporter.budgets.leases import ASK_SECONDS, FIRST_SECONDS, LEASE_SECONDS
from llm_exporter.config.model import Budget, Config, Prices
from llm_exporter.pricing.prices import PriceList
from llm_exporter.service.access.rights import ANYONE, Holder
from llm_exporter.service.accounts import Accounts
from llm_exporter.service.leases import grant_leases
from llm_exporter.service.ledger.sqlite import SqliteLedger
from support.budgets import Clock

LIMIT = 12
"""Calls: each is estimated at one cent, and costs one cent."""
CENT: dict[str, Any] = {"messages": [{"role": "user", "content": "four" * 1600}], "max_tokens": 600}
HOUR = 3600.0
KEPT_SECONDS = 2 * LEASE_SECONDS
SESSIONS = ("a", "b")


def config(limit: int, on_unavailable: str = "fail_closed") -> Config:
    each = {
        "name": "each",
        "period": "hour",
        "usd": Decimal(limit) / 100,
        "per": ("session",),
        "on_exceed": "block",
        "on_unavailable": on_unavailable,
    }
    return Config(budgets=(Budget.model_validate(each),))


PROCESSES = st.sampled_from(range(3))


def a_cent(clock: Clock, session: str = "a") -> Call:
    return Call(
        provider="openai",
        model="gpt-4o",
        requested_model="gpt-4o",
        operation="chat",
        labels={"session": session},
        started=clock.now,
        cost={"output": 0.01},
    )


class Process:
    """A process, and the messages in flight between it and the service."""

    def __init__(self, name: str, clock: Clock, monotonic: Clock) -> None:
        self.name = name
        self.monotonic = monotonic
        self.budgets = Budgets((), PriceList(Prices()), lambda _: None, clock, monotonic)
        self.request: LeaseRequest | None = None
        self.valid_until = 0.0
        self.response: LeaseResponse | None = None
        self.heard = monotonic.now
        """When the service received its last request."""
        self.waiting: list[tuple[Call, Iterator[float]]] = []
        self.in_flight: list[Call] = []
        self.unsent: list[Call] = []
        self.unacknowledged: list[Call] = []
        self.budgets.shared.begin()

    def ask(self) -> None:
        self.request = self.budgets.shared.request(self.name)
        self.valid_until = self.monotonic.now + LEASE_SECONDS

    def receive(self) -> None:
        if self.response is not None:
            self.budgets.shared.apply(self.response, self.valid_until)
            self.response = None

    def begin(self, call: Call) -> None:
        self.waiting.append((call, iter(self.budgets.holding(call, CENT))))
        self.go_on()

    def go_on(self) -> None:
        """Let each waiting call look whether it may be sent."""
        waiting, self.waiting = self.waiting, []
        for call, holding in waiting:
            try:
                next(holding)
            except StopIteration:
                self.in_flight.append(call)
            except BudgetExceeded:
                pass
            else:
                self.waiting.append((call, holding))


class Leasing(RuleBasedStateMachine):
    """Calls cost what they were estimated at. The budget fails closed, and has one account per session.

    The bound is exact: only calls that the service cannot know of exceed the limit. These are calls that were
    in flight or not yet sent to the service when their process was killed, was not heard for ten seconds, or
    saw its clock step back to an earlier period.
    """

    def __init__(self) -> None:
        super().__init__()
        self.limit = LIMIT
        # The ledger drops accounts by the real time.
        now = time.time() // HOUR * HOUR + HOUR - 2
        self.clock, self.monotonic, self.service_clock = Clock(now), Clock(1000.0), Clock(now)
        self.began = now
        self.directory = tempfile.TemporaryDirectory()
        self.start_service()
        self.unknown: set[str] = set()
        self.sent: dict[str, Call] = {}
        self.names = count()
        self.processes: list[Process] = []
        for _ in range(3):
            self.processes.append(self.new_process())

    def start_service(self) -> None:
        self.ledger = SqliteLedger(Path(self.directory.name) / "ledger.db")
        self.configure()

    def configure(self) -> None:
        self.accounts = Accounts(config(self.limit), self.ledger, lambda _: None, self.service_clock)
        self.accounts.register()

    def new_process(self) -> Process:
        process = Process(str(next(self.names)), self.clock, self.monotonic)
        for _ in range(2):  # the first response names the budgets to ask for
            process.ask()
            self.answer(process)
            process.receive()
        return process

    def teardown(self) -> None:
        self.ledger.close()
        self.directory.cleanup()

    @rule()
    def restart_service(self) -> None:
        self.ledger.close()
        self.start_service()

    @rule()
    def raise_limit(self) -> None:
        """Reload a configuration with a higher limit, which each process receives with its next response."""
        self.limit += 1
        self.configure()

    @rule()
    def almost_end_the_hour(self) -> None:
        self.pass_time((-self.clock.now - 2) % HOUR)

    @rule(seconds=st.sampled_from([0.1, 0.9, 3.0, 6.0, 11.0, 61.0]))
    def pass_time(self, seconds: float) -> None:
        for clock in (self.clock, self.monotonic, self.service_clock):
            clock.now += seconds
        for process in self.processes:
            if self.monotonic.now - process.heard > KEPT_SECONDS:
                self.lose_sight_of(process)
        self.go_on()

    @rule(seconds=st.sampled_from([-HOUR, -2.0, 2.0, HOUR, 24 * 365 * HOUR]))
    def step_clock(self, seconds: float) -> None:
        """Step the clock of the processes."""
        self.clock.now += seconds
        for process in self.processes:
            self.lose_sight_of(process)
        self.go_on()

    @precondition(lambda self: self.clock.now > self.began + 24 * 100 * HOUR)
    @rule()
    def step_a_year_back(self) -> None:
        self.step_clock(-24 * 365 * HOUR)

    @rule()
    def step_service_clock_back(self) -> None:
        self.service_clock.now -= HOUR / 3

    def lose_sight_of(self, process: Process) -> None:
        self.unknown |= {call.id for call in (*process.in_flight, *process.unsent)}

    @rule(number=PROCESSES, session=st.sampled_from(SESSIONS), most=st.integers(1, LIMIT))
    def call(self, number: int, session: str, most: int) -> None:
        process = self.processes[number]
        for _ in range(most):
            process.begin(a_cent(self.clock, session))
        self.go_on()

    def go_on(self) -> None:
        for process in self.processes:
            process.go_on()
            self.sent |= {call.id: call for call in process.in_flight}

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
        sent = -1
        while sent < len(self.sent):
            sent = len(self.sent)
            self.call(number, SESSIONS[0], LIMIT)
            self.renew(number)

    @rule(number=PROCESSES, session=st.sampled_from(SESSIONS), begins=st.booleans())
    def spend_while_asking(self, number: int, session: str, begins: bool) -> None:
        """Spend a lease before the response to a request that was made before; maybe in a new hour."""
        self.request(number)
        self.call(number, session, LIMIT)
        self.respond(number)
        if begins:
            self.pass_time(3.0)
        self.receive(number)
        self.call(number, session, LIMIT)

    @rule(number=PROCESSES)
    def request(self, number: int) -> None:
        """Send a request; an earlier one gets no response any more."""
        self.processes[number].response = None
        self.processes[number].ask()

    @rule(number=PROCESSES)
    def respond(self, number: int) -> None:
        self.answer(self.processes[number])

    def answer(self, process: Process) -> None:
        if process.request is not None:
            process.response = grant_leases(
                process.request, ANYONE, self.accounts, self.ledger, self.service_clock
            )
            process.request = None
            process.heard = self.monotonic.now

    @rule(number=PROCESSES)
    def receive(self, number: int) -> None:
        self.processes[number].receive()
        self.go_on()

    @rule(number=PROCESSES)
    def fail(self, number: int) -> None:
        """Let a request or its response be lost, which the process notices."""
        process = self.processes[number]
        process.request = process.response = None
        process.budgets.shared.failed()
        self.go_on()

    @rule(number=PROCESSES)
    def end(self, number: int) -> None:
        """Ship what is left, return the leases, and start over as another process."""
        self.finish(number)
        self.ship(number)
        self.acknowledge(number)
        process = self.processes[number]
        request = process.budgets.shared.request(process.name, ends=True)
        grant_leases(request, ANYONE, self.accounts, self.ledger, self.service_clock)
        self.processes[number] = self.new_process()

    @rule(number=PROCESSES)
    def kill(self, number: int) -> None:
        """Kill a process. Another one ships what it has left on disk."""
        self.lose_sight_of(self.processes[number])
        self.ledger.add(self.processes[number].unsent, self.accounts.charges)
        self.processes[number] = self.new_process()

    @invariant()
    def the_limit_is_never_exceeded(self) -> None:
        known = Counter(
            (call.labels["session"], call.started // HOUR)
            for call in self.sent.values()
            if call.id not in self.unknown
        )
        assert max(known.values(), default=0) <= self.limit


TestLeasing = Leasing.TestCase
TestLeasing.settings = settings(max_examples=200, stateful_step_count=30, deadline=None)


def test_a_shrunken_lease_is_not_free_for_others_before_the_process_knows() -> None:
    leasing = Leasing()
    for number in (0, 1):
        leasing.call(number, "a", 1)
        leasing.renew(number)
    leasing.request(0)
    leasing.call(0, "a", LIMIT)
    assert len(leasing.sent) == 1 + LIMIT // 2
    leasing.respond(0)  # with a smaller lease, because another process has one, too
    leasing.spend_everything(1)
    leasing.spend_everything(2)
    assert len(leasing.sent) in (LIMIT - 1, LIMIT)
    leasing.teardown()


def test_the_lease_of_an_hour_is_none_of_the_next(ledger: SqliteLedger) -> None:
    service = Service(ledger, 12)
    process = service.started()
    process.begin(a_cent(service.clock))
    service.answer(process)
    process.ask()
    assert process.request is not None
    process.response = grant_leases(process.request, ANYONE, service.accounts, ledger, service.clock)
    service.clock.now += HOUR / 2
    service.spend(12)  # by another process
    process.begin(a_cent(service.clock))
    process.receive()
    process.go_on()
    assert len(process.waiting) == 1
    service.answer(process)
    assert (len(process.waiting), len(process.in_flight)) == (0, 1)


def test_a_call_that_waits_into_the_next_period_belongs_to_that(ledger: SqliteLedger) -> None:
    service = Service(ledger, 12)
    process = service.started()
    call = a_cent(service.clock)
    process.begin(call)
    service.clock.now += HOUR / 2
    service.answer(process)
    service.answer(process)
    assert process.in_flight == [call]
    assert call.started == service.clock.now


def test_what_was_spent_before_the_clock_stepped_counts_again_when_it_steps_back(
    ledger: SqliteLedger,
) -> None:
    service = Service(ledger, 4)  # a call is estimated at 1.4 cents once one has ended
    process = service.started()
    for _ in range(2):
        process.begin(a_cent(service.clock))
        service.answer(process)
        process.budgets.settle(process.in_flight[-1])
    for step in (HOUR, -HOUR):
        service.clock.now += step
        process.begin(a_cent(service.clock))
        service.answer(process)
        process.budgets.settle(process.in_flight[-1])
    assert len(process.in_flight) == 4
    process.begin(a_cent(service.clock))
    service.answer(process)
    assert len(process.in_flight) == 4


class Service:
    """A service with a budget of `limit` cents per session, an hour long, and its clocks."""

    def __init__(
        self,
        ledger: SqliteLedger,
        limit: int,
        on_unavailable: str = "fail_closed",
        prices: Prices = Prices(),  # noqa: B008  # it is immutable
    ) -> None:
        self.clock, self.monotonic = Clock(time.time() // HOUR * HOUR + HOUR / 2), Clock(1000.0)
        self.ledger = ledger
        self.holder = ANYONE
        configured = config(limit, on_unavailable).model_copy(update={"prices": prices})
        self.accounts = Accounts(configured, ledger, lambda _: None, self.clock)
        self.accounts.register()

    def started(self, name: str = "a") -> Process:
        """Return a process that knows the budget, and has not made a call."""
        process = Process(name, self.clock, self.monotonic)
        self.answer(process)
        return process

    def answer(self, process: Process) -> None:
        process.budgets.shared.renewal_due.clear()
        process.ask()
        assert process.request is not None
        process.response = grant_leases(process.request, self.holder, self.accounts, self.ledger, self.clock)
        process.receive()
        process.go_on()

    def spend(self, cents: int) -> None:
        """Spend from the account of session "a" in another process."""
        self.ledger.add([a_cent(self.clock) for _ in range(cents)], self.accounts.charges)


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[SqliteLedger]:
    with closing(SqliteLedger(tmp_path / "ledger.db")) as ledger:
        yield ledger


@pytest.mark.parametrize("on_unavailable", ["fail_open", "fail_closed"])
def test_the_first_call_of_a_process_is_refused_when_its_account_is_used_up(
    on_unavailable: str, ledger: SqliteLedger
) -> None:
    service = Service(ledger, 3, on_unavailable)
    service.spend(3)
    for name in "xyz":
        process = service.started(name)
        process.begin(a_cent(service.clock))
        assert (len(process.waiting), len(process.in_flight)) == (1, 0)
        assert process.budgets.shared.renewal_due.is_set()
        service.answer(process)
        assert (process.waiting, process.in_flight) == ([], [])


@pytest.mark.parametrize("on_unavailable", ["fail_open", "fail_closed"])
def test_a_call_after_an_idle_minute_waits_for_the_service_only(
    on_unavailable: str, ledger: SqliteLedger
) -> None:
    service = Service(ledger, 3, on_unavailable)
    process = service.started()
    process.begin(a_cent(service.clock))
    service.answer(process)
    assert len(process.in_flight) == 1
    process.budgets.settle(process.in_flight[0])
    process.budgets.acknowledge([process.in_flight[0].id])
    service.ledger.add(process.in_flight, service.accounts.charges)
    service.monotonic.now += 70
    process.ask()
    assert process.request is not None
    assert process.request.accounts == []  # the lease is not renewed
    process.begin(a_cent(service.clock))
    assert len(process.waiting) == 1
    service.answer(process)
    assert len(process.in_flight) == 2


def test_the_lease_of_a_long_call_is_renewed(ledger: SqliteLedger) -> None:
    service = Service(ledger, 3)
    process = service.started()
    process.begin(a_cent(service.clock))
    service.answer(process)
    service.monotonic.now += 600
    process.ask()
    assert process.request is not None
    assert [use.used for use in process.request.accounts] == [10**10]


@pytest.mark.parametrize(("spent", "sent"), [(3, 0), (1, 2)])
def test_without_the_service_fail_open_goes_by_its_last_word(
    spent: int, sent: int, ledger: SqliteLedger
) -> None:
    service = Service(ledger, 3, "fail_open")
    service.spend(spent)
    process = service.started()
    process.begin(a_cent(service.clock))
    service.answer(process)
    for _ in range(5):
        service.monotonic.now += 70
        process.budgets.shared.failed()
        process.begin(a_cent(service.clock))
        assert process.waiting == []
    assert len(process.in_flight) == sent


def test_a_call_waits_a_second_at_most_and_the_next_one_not_at_all(ledger: SqliteLedger) -> None:
    service = Service(ledger, 3)
    process = service.started()
    process.begin(a_cent(service.clock))
    service.monotonic.now += ASK_SECONDS
    process.go_on()
    assert len(process.waiting) == 1
    service.monotonic.now += 0.001
    with pytest.raises(BudgetExceeded, match="the service that shares it is unavailable"):
        next(process.waiting.pop()[1])
    with pytest.raises(BudgetExceeded, match="the service that shares it is unavailable"):
        process.budgets.hold(a_cent(service.clock), CENT)
    service.answer(process)
    process.begin(a_cent(service.clock))
    service.answer(process)
    assert len(process.in_flight) == 1


def test_the_first_call_of_a_process_waits_a_quarter_of_a_second_to_learn_the_budgets() -> None:
    clock, monotonic = Clock(), Clock()
    process = Process("a", clock, monotonic)
    process.begin(a_cent(clock))
    process.go_on()
    monotonic.now += FIRST_SECONDS - 0.001
    process.go_on()
    assert len(process.waiting) == 1
    monotonic.now += 0.001
    process.go_on()
    assert (len(process.waiting), len(process.in_flight)) == (0, 1)
    assert not process.budgets.may_refuse


def test_a_call_that_does_not_fit_into_the_lease_waits_for_a_larger_one(ledger: SqliteLedger) -> None:
    service = Service(ledger, 12)
    process = service.started()
    process.begin(a_cent(service.clock))
    service.answer(process)
    for _ in range(12):
        process.begin(a_cent(service.clock))
    assert (len(process.in_flight), len(process.waiting)) == (6, 7)
    service.answer(process)
    assert (len(process.in_flight), len(process.waiting)) == (12, 0)


def test_a_forked_process_knows_the_budgets_and_has_no_lease(ledger: SqliteLedger) -> None:
    service = Service(ledger, 3)
    process = service.started()
    process.begin(a_cent(service.clock))
    service.answer(process)
    process.budgets.after_fork()
    with pytest.raises(BudgetExceeded, match="the service that shares it is unavailable"):
        process.budgets.hold(a_cent(service.clock), CENT)


def test_a_request_has_a_limited_number_of_accounts_and_those_first_that_calls_wait_for(
    ledger: SqliteLedger, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(leases, "MAX_ACCOUNTS", 10)
    service = Service(ledger, 3)
    process = service.started()
    for number in range(11):
        process.begin(a_cent(service.clock, f"s-{number}"))
    process.ask()
    assert process.request is not None
    assert len(process.request.accounts) == 10
    assert process.budgets.shared.renewal_due.is_set()
    (rest,) = {f"s-{number}" for number in range(11)} - {use.values[0] for use in process.request.accounts}
    process.ask()
    assert process.request.accounts[0].values == (rest,)


def test_the_labels_of_a_token_decide_which_accounts_a_process_leases(ledger: SqliteLedger) -> None:
    """The service charges them for its calls, whatever the process says. It has its session's budget, too."""
    service = Service(ledger, 3)
    service.holder = Holder("token a", labels={"session": "a"})
    process = service.started()
    for session in ("b", "a", "", "b"):
        call = a_cent(service.clock, session)
        process.begin(call)
        service.answer(process)
    assert process.request is not None
    assert [use.values for use in process.request.accounts] == [("a",)]
    assert len(process.in_flight) == 3
    for call in process.in_flight:
        process.budgets.settle(call)
    service.answer(process)
    assert [(use.values, use.used) for use in process.request.accounts] == [(("a",), 3 * 10**10)]
    with pytest.raises(BudgetExceeded):
        process.budgets.hold(a_cent(service.clock, "b"), CENT)
    (status,) = process.budgets.accounts_for({"session": "b"})
    assert status[1].labels == {"session": "a"}
    child = process.budgets.shared.in_child()
    assert [key for spending, _ in child.matching({}, ()) for key, _ in spending.items()] == [("a",)]


# ---- prices that only the service has

OVERRIDE = {
    "provider": "acme",
    "model": "in-house",
    "usd_per_million_tokens": {"input": "2.5", "output": "10"},
}


@pytest.mark.parametrize(
    "prices", [{"overrides": [OVERRIDE]}, {"fallback": {"input": "2.5", "output": "10"}}], ids=str
)
def test_a_price_that_only_the_service_has_counts_in_estimates_and_in_what_is_spent(
    prices: dict[str, Any], ledger: SqliteLedger
) -> None:
    service = Service(ledger, 5, prices=Prices.model_validate(prices))
    process = service.started()

    def a_call() -> Call:
        return msgspec.structs.replace(
            a_cent(service.clock), provider="acme", model="in-house", requested_model="in-house", cost={}
        )

    first = a_call()
    process.begin(first)
    service.answer(process)
    assert [use.used for use in process.budgets.shared.request("a").accounts] == [10**10]
    first.tokens = {"input": 1600, "output": 1600}
    process.budgets.settle(first)
    assert first.cost == {}  # in the metrics of the process
    assert [use.used for use in process.budgets.shared.request("a").accounts] == [2 * 10**10]
    first.id = "another"
    process.begin(first)  # is estimated at the output of the first, up to its maximum
    service.answer(process)
    assert [use.used for use in process.budgets.shared.request("a").accounts] == [3 * 10**10]
    for _ in range(3):
        process.begin(msgspec.structs.replace(a_call(), id=str(len(process.in_flight))))
        service.answer(process)
    assert len(process.in_flight) == 4  # of five cents, one was twice as expensive


def test_a_price_of_the_process_comes_before_that_of_the_service(ledger: SqliteLedger) -> None:
    service = Service(ledger, 5, prices=Prices.model_validate({"fallback": {"input": 100, "output": 100}}))
    process = service.started()
    process.begin(a_cent(service.clock))
    service.answer(process)
    assert [use.used for use in process.budgets.shared.request("a").accounts] == [10**10]


# ---- what a process may claim


def grant(service: Service, process: str, **claims: int) -> int:
    """Let a process claim something, and return the amount of its lease in cents."""
    (rule,) = service.accounts.budgets
    use = AccountUse(json.dumps(rule.identity), ("a",), **{"used": 0, **claims})
    response = grant_leases(
        LeaseRequest(process, [use]), ANYONE, service.accounts, service.ledger, service.clock
    )
    (granted,) = response.granted
    assert isinstance(granted, LeaseGrant)
    return granted.amount // 10**10


@pytest.mark.parametrize(
    "claims", [{"used": -(10**15)}, {"keeps": -(10**15)}, {"wanted": -(10**15)}], ids=str
)
def test_a_negative_claim_frees_nothing(claims: dict[str, int], ledger: SqliteLedger) -> None:
    service = Service(ledger, 12)
    service.spend(12)
    assert grant(service, "x", **claims) == 0


def test_a_process_keeps_no_more_than_it_had(ledger: SqliteLedger) -> None:
    service = Service(ledger, 12)
    assert grant(service, "hoarder", keeps=10**15) == 6
    assert grant(service, "other", wanted=10**15) == 6


def test_nobody_gets_more_than_is_left_and_leases_end_by_themselves(ledger: SqliteLedger) -> None:
    service = Service(ledger, 12)
    assert grant(service, "greedy", wanted=10**30) == 12
    assert grant(service, "liar", used=10**30, keeps=10**30) == 12  # which it says that it has spent
    assert grant(service, "other") == 0
    service.clock.now += KEPT_SECONDS
    assert grant(service, "other") == 6


def test_a_lease_does_not_outlast_a_step_back_of_the_clock(ledger: SqliteLedger) -> None:
    service = Service(ledger, 12)
    assert grant(service, "killed", wanted=12 * 10**10) == 12
    service.clock.now -= 600
    assert grant(service, "other") == 0
    service.clock.now += KEPT_SECONDS
    assert grant(service, "other") == 6
