"""The metrics of the service agree with its ledger, however it was stopped."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from llm_exporter import Call
from llm_exporter.budgets.events import BudgetReached, Event
from llm_exporter.config.model import Budget, Config, Prices
from llm_exporter.errors import ConfigError
from llm_exporter.metrics.specs import BASE_LABELS
from llm_exporter.service.intake import Intake, Listener
from llm_exporter.service.ledger.base import LedgerError, Query
from llm_exporter.service.ledger.sqlite import SqliteLedger
from llm_exporter.service.schemas import BudgetRow, Receipt
from support.calls import a_call
from support.protobuf_messages import delimited, fields


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[SqliteLedger]:
    ledger = SqliteLedger(tmp_path / "ledger.db")
    yield ledger
    ledger.close()


ORDER = (*BASE_LABELS, "team", "tier", "operation", "token_type", "error", "where", "le")
"""The order of labels in the specifications; the text format sorts them by name."""


def values(intake: Intake, name: str, *, scraped: bool = False) -> dict[tuple[str, ...], float]:
    text = b"".join(intake.metrics.text(scrape=scraped, openmetrics=False)).decode()
    return {
        tuple(sample.labels[label] for label in sorted(sample.labels, key=ORDER.index)): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.name == name
    }


def scrape(intake: Intake) -> None:
    for _ in intake.metrics.text(scrape=True, openmetrics=False):
        pass


def total(intake: Intake, name: str) -> float:
    return sum(values(intake, name).values())


def test_calls_are_stored_and_counted_once(ledger: SqliteLedger) -> None:
    intake = Intake(Config(), ledger)
    calls = [a_call(), a_call()]
    assert intake.submit(calls).result() == Receipt(accepted=2, duplicates=0)
    assert intake.submit([*calls, a_call()]).result() == Receipt(accepted=1, duplicates=2)
    twice = a_call()
    assert intake.submit([twice, twice]).result() == Receipt(accepted=1, duplicates=1)
    intake.close()
    assert ledger.totals(Query())[()].calls == 4
    assert total(intake, "llm_calls_total") == 4
    assert total(intake, "llm_cost_usd_total") == 3.0
    assert total(intake, "llm_exporter_received_calls_total") == 4
    assert total(intake, "llm_exporter_duplicate_calls_total") == 3


def test_calls_without_a_cost_are_priced(ledger: SqliteLedger) -> None:
    """At $10 per million tokens, 100 tokens cost $0.001. A cost that was sent is kept."""
    intake = Intake(Config(prices=Prices(fallback={"input": Decimal(10)})), ledger)
    intake.submit([a_call(model="zebra-9", tokens={"input": 100}, cost={}), a_call()]).result()
    intake.close()
    assert ledger.totals(Query(), ["model"])["zebra-9",].cost_usd == 0.001
    assert ledger.totals(Query(), ["model"])["gpt-5",].cost_usd == 0.75


def test_the_cost_of_a_local_call_stays_0(ledger: SqliteLedger) -> None:
    """The service cannot know that the model ran on a server of the user."""
    intake = Intake(Config(prices=Prices(fallback={"input": Decimal(10)})), ledger)
    intake.submit([a_call(model="gpt-oss-120b", cost={}, cost_source="local")]).result()
    intake.close()
    assert ledger.totals(Query())[()].cost_usd == 0
    assert ledger.totals(Query())[()].unpriced_tokens == 0
    (logged,) = ledger.calls(Query(), limit=1)
    assert logged.call.cost_source == "local"


class Killed(Intake):
    """A service that is killed: it writes no checkpoint at its end."""

    def _checkpoint(self) -> None:
        """Write nothing."""


@pytest.mark.parametrize("first", [Intake, Killed])
@pytest.mark.parametrize("second", [Intake, Killed])
def test_counters_continue_after_restarts(
    ledger: SqliteLedger, first: type[Intake], second: type[Intake]
) -> None:
    """Stopped or killed: each counter and histogram keeps its value and increases from there."""
    for kind in (first, second):
        intake = kind(Config(), ledger)
        intake.submit([a_call(), a_call(duration=3.0)]).result()
        intake.close()
    intake = Intake(Config(), ledger)
    base = ("openai", "gpt-5", "planner", "plan")
    assert values(intake, "llm_calls_total") == {(*base, "chat"): 4}
    assert values(intake, "llm_tokens_total") == {(*base, "input"): 400, (*base, "output"): 80}
    assert values(intake, "llm_cost_usd_total") == {(*base, "input"): 1.0, (*base, "output"): 2.0}
    assert values(intake, "llm_latency_seconds_sum") == {(*base, "chat"): 9.0}
    assert values(intake, "llm_latency_seconds_bucket")[*base, "chat", "2.0"] == 2
    assert values(intake, "llm_latency_seconds_bucket")[*base, "chat", "+Inf"] == 4
    assert total(intake, "llm_exporter_received_calls_total") == 4
    intake.submit([a_call()]).result()
    intake.close()
    assert values(intake, "llm_calls_total") == {(*base, "chat"): 5}


def test_only_series_that_were_scraped_at_zero_have_their_value_after_a_restart(ledger: SqliteLedger) -> None:
    """The planner's series was scraped twice, far enough apart. The reviewer's is newer."""
    intake = Intake(Config(scrape_interval=1e-9), ledger)
    intake.submit([a_call()]).result()
    scrape(intake)
    scrape(intake)
    intake.submit([a_call(labels={"agent": "reviewer"})]).result()
    intake.close()
    intake = Intake(Config(scrape_interval=3600), ledger)
    shown = values(intake, "llm_calls_total", scraped=True)
    intake.close()
    assert {labels[2]: value for labels, value in shown.items()} == {"planner": 1, "reviewer": 0}


def test_a_label_that_is_declared_later_keeps_the_earlier_counts(ledger: SqliteLedger) -> None:
    intake = Intake(Config(), ledger)
    intake.submit([a_call(labels={"tier": "gold"})]).result()
    intake.close()
    intake = Intake(Config(labels=("tier",)), ledger)
    intake.submit([a_call(labels={"tier": "gold"})]).result()
    intake.close()
    by_tier = {labels[4]: value for labels, value in values(intake, "llm_calls_total").items()}
    assert by_tier == {"unattributed": 1, "gold": 1}


class _Broken(Listener):
    """Notes what it is notified of, and raises."""

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.budgets: list[float] = []
        self.events: list[Event] = []

    def calls_added(self, calls: Sequence[Call]) -> None:
        self.calls.extend(call.id for call in calls)
        raise RuntimeError("cannot handle calls")

    def budgets_changed(self, budgets: Sequence[BudgetRow]) -> None:
        self.budgets.extend(budget.spent for budget in budgets)
        raise RuntimeError("cannot handle budgets")

    def event_occurred(self, event: Event) -> None:
        self.events.append(event)
        raise RuntimeError("cannot handle events")


def test_a_broken_listener_is_notified_and_stops_nothing(ledger: SqliteLedger) -> None:
    listener = _Broken()
    config = Config(budgets=(Budget(name="all", period="day", usd=Decimal("0.5")),))
    intake = Intake(config, ledger, [listener])
    call = a_call()
    intake.submit([call]).result()
    intake.submit([call]).result()
    intake.close()
    assert listener.calls == [call.id]
    assert listener.budgets == [0.75]
    (event,) = listener.events
    assert isinstance(event, BudgetReached)
    assert values(intake, "llm_exporter_errors_total") == {("listener",): 3}


def test_listeners_are_told_of_the_budgets_that_calls_were_charged_to(ledger: SqliteLedger) -> None:
    told: list[list[tuple[dict[str, str], float]]] = []

    class Budgets(Listener):
        def calls_added(self, calls: Sequence[Call]) -> None:
            """Do nothing."""

        def budgets_changed(self, budgets: Sequence[BudgetRow]) -> None:
            told.append([(budget.labels, budget.spent) for budget in budgets])

        def event_occurred(self, event: Event) -> None:
            """Do nothing."""

    config = Config(budgets=(Budget(name="each", period="day", usd=Decimal(5), per=("agent",)),))
    intake = Intake(config, ledger, [Budgets()])
    planner, reviewer = a_call(), a_call(labels={"agent": "reviewer"})
    for calls in ([planner], [reviewer], [a_call(), a_call(), a_call(labels={"agent": "reviewer"})]):
        intake.submit(calls).result()
    intake.close()
    assert told == [
        [({"agent": "planner"}, 0.75)],
        [({"agent": "reviewer"}, 0.75)],
        [({"agent": "planner"}, 2.25), ({"agent": "reviewer"}, 1.5)],
    ]


def test_a_failed_reconfiguration_keeps_charging_the_old_budgets(
    ledger: SqliteLedger, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = Config(budgets=(Budget(name="all", period="day", usd=Decimal(5)),))
    intake = Intake(config, ledger)

    def fail(*_: object) -> Any:
        raise LedgerError("ledger.db: disk I/O error")

    with monkeypatch.context() as patch:
        patch.setattr(ledger, "accounts", fail)
        with pytest.raises(LedgerError, match="I/O error"):
            intake.reconfigure(Config(budgets=(Budget(name="other", period="day", usd=Decimal(5)),)))
    intake.submit([a_call()]).result()
    intake.close()
    (budget,) = intake.accounts.rows()
    assert budget.spent == 0.75


def test_calls_that_cannot_be_stored_are_neither_acknowledged_nor_counted(
    ledger: SqliteLedger, monkeypatch: pytest.MonkeyPatch
) -> None:
    intake = Intake(Config(), ledger)

    def full(*_: object) -> Any:
        raise LedgerError("ledger.db: database or disk is full")

    call = a_call()
    with monkeypatch.context() as patch:
        patch.setattr(ledger, "add", full)
        with pytest.raises(LedgerError, match="disk is full"):
            intake.submit([call]).result()
    assert total(intake, "llm_calls_total") == 0
    assert values(intake, "llm_exporter_errors_total") == {("ledger",): 1}
    assert intake.submit([call]).result() == Receipt(accepted=1, duplicates=0)
    intake.close()


def test_calls_beyond_the_retention_are_deleted_but_stay_counted(
    ledger: SqliteLedger, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("llm_exporter.service.intake._CHECKPOINT_SECONDS", 0.02)
    monkeypatch.setattr("llm_exporter.service.upkeep._EVERY_SECONDS", 0.02)
    intake = Intake(Config(retention=1e-9), ledger)
    intake.submit([a_call(), a_call(), a_call()]).result()
    while ledger.totals(Query())[()].calls != 1:  # the newest one stays
        time.sleep(0.01)
    intake.close()
    intake = Intake(Config(), ledger)
    intake.close()
    assert total(intake, "llm_calls_total") == 3


def test_the_store_cannot_be_reconfigured(ledger: SqliteLedger) -> None:
    intake = Intake(Config(), ledger)
    with pytest.raises(ConfigError, match=r"^store: cannot change while the service runs: restart it$"):
        intake.reconfigure(Config(store="other.db"))
    intake.close()


def test_only_series_that_are_new_after_a_restart_have_a_start(ledger: SqliteLedger) -> None:
    """Prometheus would insert a 0 at the start of the process, and count the whole value again."""
    intake = Intake(Config(scrape_interval=0.001), ledger)
    intake.submit([a_call(model="checkpointed")]).result()
    intake.close()
    intake = Intake(Config(scrape_interval=0.001), ledger)
    intake.submit([a_call(model="replayed")]).result()
    while any(value == 0 for value in values(intake, "llm_calls_total", scraped=True).values()):
        time.sleep(0.01)
    after = Intake(Config(), ledger)  # as after a crash: the other one made no checkpoint
    after.submit([a_call(model="new")]).result()
    (family,) = delimited(b"".join(after.metrics.protobuf(scrape=True, names={"llm_calls_total"})))
    assert {
        fields(fields(message)[1][1])[2][0]: bool(fields(fields(message)[3][0])[3]) for message in family[4]
    } == {b"checkpointed": False, b"replayed": False, b"new": True}
    intake.close()
    after.close()
