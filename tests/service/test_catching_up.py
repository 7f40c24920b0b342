"""A new budget includes the calls from before it, each of them once, and nothing waits until it does."""

from __future__ import annotations

import json
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from decimal import Decimal
from pathlib import Path
from random import Random
from typing import Any

import pytest

from llm_exporter import Call
from llm_exporter.budgets.events import BudgetReached, Event
from llm_exporter.config.model import Budget, Config
from llm_exporter.periods import span_of
from llm_exporter.service.accounts import Accounts
from llm_exporter.service.intake import Intake
from llm_exporter.service.ledger.base import Ledger
from llm_exporter.service.ledger.redis import RedisLedger
from llm_exporter.service.ledger.sqlite import SqliteLedger
from support.awaiting import until
from support.budgets import budget
from support.calls import a_call
from support.redis_server import RedisServer

Open = Callable[[], Ledger]
MODULES = ("sqlite_backlog", "redis")


@pytest.fixture(scope="module")
def redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    with RedisServer(tmp_path_factory.mktemp("redis"), appendonly="no") as server:
        yield server


@pytest.fixture(params=["sqlite", "redis"])
def reopen(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Open]:
    """Open the test's ledger, after closing it if it is open."""
    opened: list[Ledger] = []
    if request.param == "redis":
        server = request.getfixturevalue("redis")
        server.execute("FLUSHALL")

    def reopen() -> Ledger:
        if opened:
            opened.pop().close()
        if request.param == "redis":
            opened.append(RedisLedger(server.url, "host:9847"))
        else:
            opened.append(SqliteLedger(tmp_path / "ledger.db"))
        return opened[0]

    yield reopen
    opened[0].close()


def in_slices_of(calls: int, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in MODULES:
        monkeypatch.setattr(f"llm_exporter.service.ledger.{module}._SLICE_CALLS", calls)


def accounts_of(ledger: Ledger, *budgets: Budget, emit: Callable[[Event], object] = str) -> Accounts:
    accounts = Accounts(Config(labels=("team", "tier"), budgets=budgets), ledger, emit)
    accounts.register()
    return accounts


def spent(accounts: Accounts) -> dict[tuple[str, ...], float]:
    """Return what is spent in USD by the name of the budget and the values of its labels."""
    return {(row.budget, *row.labels.values()): round(row.spent, 9) for row in accounts.rows() if row.spent}


def quarters(number: int, **more: Any) -> list[Call]:
    """Return calls of $0.25 and 10 tokens, which started at different times or at the same."""
    now = time.time()
    return [
        a_call(started=now - at // 3, tokens={"output": 10}, cost={"output": 0.25}, **more)
        for at in range(number)
    ]


BUDGETS = (
    budget("100", name="all", period="total"),  # read from sums
    budget("100", name="each", period="total", per=("session",)),  # read from calls
    budget(None, name="tokens", period="month", tokens=1000, match={"model": "gpt-5"}),
)


@pytest.mark.parametrize("size", [1, 4, 500])
def test_each_call_is_charged_once_although_the_service_is_killed_in_the_middle(
    reopen: Open, size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    in_slices_of(size, monkeypatch)
    ledger = reopen()
    earlier = quarters(14, labels={"session": "s"})
    ledger.add(earlier)
    later = 0
    while True:
        accounts = accounts_of(ledger, *BUDGETS)
        assert ledger.add([*quarters(1, labels={"session": "s"}), *earlier[:2]], accounts.charges)
        later += 1
        if not accounts.catch_up():
            break
        if later % 2:
            ledger = reopen()
    number = 14 + later
    expected = {("all",): number / 4, ("each", "s"): number / 4, ("tokens", "gpt-5"): number * 10.0}

    assert spent(accounts) == expected
    accounts = accounts_of(reopen(), *BUDGETS)
    assert not accounts.behind
    assert spent(accounts) == expected


def test_two_services_that_catch_up_at_the_same_time_charge_each_call_once(
    redis: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    in_slices_of(3, monkeypatch)
    redis.execute("FLUSHALL")
    one, two = RedisLedger(redis.url, "a:1"), RedisLedger(redis.url, "b:1")
    one.add(quarters(20, labels={"session": "s"}))
    accounts = [accounts_of(ledger, *BUDGETS) for ledger in (one, two)]
    run = RedisLedger._run

    def overtaken(ledger: RedisLedger, script: str, *arguments: Any) -> Any:
        """Let the other service do the same part before this one."""
        if ledger is one and len(arguments) == 5 and isinstance(arguments[4], bytes):
            accounts[1].catch_up()
        return run(ledger, script, *arguments)

    monkeypatch.setattr(RedisLedger, "_run", overtaken)
    while accounts[0].catch_up():
        pass
    assert spent(accounts[0]) == {("all",): 5.0, ("each", "s"): 5.0, ("tokens", "gpt-5"): 200.0}
    one.close()
    two.close()


def test_calls_of_a_service_that_does_not_know_the_budget_yet_are_charged_by_one_that_does(
    redis: RedisServer,
) -> None:
    redis.execute("FLUSHALL")
    one, two = RedisLedger(redis.url, "a:1"), RedisLedger(redis.url, "b:1")
    outdated = accounts_of(two)
    accounts = accounts_of(one, *BUDGETS)
    two.add(quarters(3, labels={"session": "s"}), outdated.charges)
    one.add(quarters(1, labels={"session": "s"}), accounts.charges)

    assert not accounts.catch_up()

    expected = {("all",): 1.0, ("each", "s"): 1.0, ("tokens", "gpt-5"): 40.0}
    assert spent(accounts) == expected
    up_to_date = accounts_of(two, *BUDGETS)
    two.add(quarters(1, labels={"session": "s"}), up_to_date.charges)
    assert not accounts.catch_up()
    accounts.refresh()
    assert spent(accounts) == {("all",): 1.25, ("each", "s"): 1.25, ("tokens", "gpt-5"): 50.0}
    one.close()
    two.close()


def test_a_budget_that_was_dropped_and_added_again_starts_from_the_calls(reopen: Open) -> None:
    ledger = reopen()
    accounts = accounts_of(ledger, *BUDGETS)
    ledger.add(quarters(2, labels={"session": "s"}), accounts.charges)
    ledger.add(quarters(2, labels={"session": "s"}), accounts_of(ledger).charges)
    accounts = accounts_of(ledger, *BUDGETS)
    while accounts.catch_up():
        pass
    assert spent(accounts) == {("all",): 1.0, ("each", "s"): 1.0, ("tokens", "gpt-5"): 40.0}


RULES: Sequence[dict[str, Any]] = [
    {},
    {"period": "hour"},
    {"period": "month", "match": {"team": "red"}},
    {"per": ("agent", "team")},
    {"per": ("project",)},
    {"match": {"project": "default"}},
    {"match": {"project": "acme"}, "per": ("tier",)},
    {"match": {"model": "gpt-5"}},
    {"per": ("model",)},
    {"per": ("user",), "match": {"phase": "unattributed"}},
    {"match": {"provider": "openai", "tier": "unattributed"}},
]


@pytest.mark.parametrize("rule", RULES, ids=str)
@pytest.mark.parametrize("groups", [1000, 3])
def test_sums_and_calls_charge_the_same(
    rule: dict[str, Any], groups: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also if the sums leave out labels, calls have defaults as labels, and models are aliases."""
    monkeypatch.setattr("llm_exporter.service.ledger.sqlite_groups._MAX_GROUPS", groups)
    chance = Random(json.dumps(rule))  # noqa: S311
    names = {
        "agent": ("", "a", "b"),
        "team": ("", "red", "blue"),
        "tier": ("", "unattributed", "gold"),
        "project": ("", "default", "acme"),
        "user": ("", "u1", "u2"),
        "session": ("", "s"),
    }
    now = time.time()
    calls = [
        a_call(
            started=now - chance.choice([0, 1000, 3600, 90_000, -90_000]),
            model=chance.choice(["gpt-5", "gpt-5-2025", "o9"]),
            requested_model=chance.choice(["gpt-5", "o9"]),
            labels={name: value for name, some in names.items() if (value := chance.choice(some))},
            tokens={"input": 1, "output": 2},
            cost={"output": chance.randrange(8) / 4},
        )
        for _ in range(80)
    ]
    configured = budget("1000", **{"period": "day", **rule})
    ledger = SqliteLedger(tmp_path / "ledger.db")
    ledger.add(calls[:60])
    accounts = accounts_of(ledger, configured)
    ledger.add(calls[60:], accounts.charges)
    while accounts.catch_up():
        pass
    expected: defaultdict[str, list[float]] = defaultdict(lambda: [0.0, 0])
    since = span_of(configured.period, now).start
    for call in [*(call for call in calls[:60] if call.started >= since), *calls[60:]]:
        for charge in accounts.charges(call):
            expected[charge.account][0] += call.total_cost
            expected[charge.account][1] += call.total_tokens
    found = {account: ledger.spent([account])[0] for account in ledger.accounts()}

    assert {account: [*amounts] for account, amounts in found.items()} == dict(expected)
    ledger.close()


class Gate:
    """Holds up the work of catching up."""

    def __init__(self, ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
        self.open = threading.Event()
        charge = ledger.charge_earlier

        def held_up(rule: Any) -> bool:
            self.open.wait(60)
            return charge(rule)

        monkeypatch.setattr(ledger, "charge_earlier", held_up)
        monkeypatch.setattr("llm_exporter.service.intake._CATCH_UP_SECONDS", 0.0)


def shown(intake: Intake) -> float:
    samples = (sample for family in intake.metrics.collect() for sample in family.samples)
    return next(each.value for each in samples if each.name == "llm_exporter_budgets_catching_up")


def test_calls_are_added_and_budgets_are_shown_meanwhile(
    reopen: Open, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    events: list[Event] = []
    ledger = reopen()
    intake = Intake(Config(), ledger)
    intake.submit(quarters(4)).result(60)
    assert shown(intake) == 0
    gate = Gate(ledger, monkeypatch)
    monkeypatch.setattr(intake, "_emit", events.append)

    intake.reconfigure(Config(budgets=(budget("1.5", period="total"), budget("9", name="b", period="total"))))
    intake.submit(quarters(1)).result(60)

    until(lambda: all(row.spent == 0.25 for row in intake.accounts.rows()))
    assert [(row.spent, row.catching_up) for row in intake.accounts.rows()] == [(0.25, True), (0.25, True)]
    assert shown(intake) == 2
    assert "all does not include all earlier calls yet" in caplog.text
    assert events == []
    gate.open.set()
    assert intake.accounts.complete.wait(60)
    assert [(row.spent, row.catching_up) for row in intake.accounts.rows()] == [(1.25, False), (1.25, False)]
    assert shown(intake) == 0
    # The call that was added meanwhile has reached 80% of one of them.
    assert [(event.budget, event.ratio) for event in events if isinstance(event, BudgetReached)] == [
        ("all", 0.8)
    ]
    intake.close()


def test_no_event_is_emitted_for_what_was_spent_before_the_budget(
    reopen: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    events: list[Event] = []
    ledger = reopen()
    ledger.add(quarters(4))
    intake = Intake(Config(), ledger)
    monkeypatch.setattr(intake, "_emit", events.append)
    intake.reconfigure(Config(budgets=(budget("1", period="total"),)))
    assert intake.accounts.complete.wait(60)
    assert [row.spent for row in intake.accounts.rows()] == [1.0]
    assert events == []
    intake.close()


def test_calls_are_judged_by_what_is_known_while_a_budget_catches_up(
    reopen: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    in_slices_of(2, monkeypatch)
    ledger = reopen()
    ledger.add(quarters(6, labels={"session": "s"}))
    accounts = accounts_of(ledger, Budget(name="each", period="total", usd=Decimal(2), per=("session",)))
    known = []
    more = True
    while more:
        more = accounts.catch_up()
        (name,) = ledger.accounts()
        known.append(ledger.spent([name])[0].usd)
    assert known[-1] == 1.5
    assert known == sorted(known)
    assert len(known) > 2
