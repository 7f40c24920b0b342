"""What the service counts is what its ledger holds, whenever it was stopped."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from llm_exporter import Call
from llm_exporter.config.model import Config, Prices
from llm_exporter.errors import ConfigError
from llm_exporter.metrics.specs import BASE_LABELS
from llm_exporter.service.intake import Intake, Receipt
from llm_exporter.service.ledger.base import LedgerError, Query
from llm_exporter.service.ledger.sqlite import SqliteLedger
from support.calls import a_call


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[SqliteLedger]:
    ledger = SqliteLedger(tmp_path / "ledger.db")
    yield ledger
    ledger.close()


ORDER = (*BASE_LABELS, "team", "tier", "operation", "token_type", "error", "where", "le")
"""Of labels, as in the specifications: the text has them by name."""


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


def test_calls_are_acknowledged_kept_and_counted_once(ledger: SqliteLedger) -> None:
    intake = Intake(Config(), ledger)
    calls = [a_call(), a_call()]
    assert intake.take(calls).result() == Receipt(accepted=2, duplicates=0)
    assert intake.take([*calls, a_call()]).result() == Receipt(accepted=1, duplicates=2)
    twice = a_call()
    assert intake.take([twice, twice]).result() == Receipt(accepted=1, duplicates=1)
    intake.close()
    assert ledger.totals(Query())[()].calls == 4
    assert total(intake, "llm_calls_total") == 4
    assert total(intake, "llm_cost_usd_total") == 3.0
    assert total(intake, "llm_exporter_received_calls_total") == 4
    assert total(intake, "llm_exporter_duplicate_calls_total") == 3


def test_calls_that_come_without_a_price_are_priced_here(ledger: SqliteLedger) -> None:
    """At 10 dollars a million tokens, 100 cost a tenth of a cent; a price that came along stays."""
    intake = Intake(Config(prices=Prices(fallback={"input": Decimal(10)})), ledger)
    intake.take([a_call(model="zebra-9", tokens={"input": 100}, cost={}), a_call()]).result()
    intake.close()
    assert ledger.totals(Query(), ["model"])["zebra-9",].cost_usd == 0.001
    assert ledger.totals(Query(), ["model"])["gpt-5",].cost_usd == 0.75


class Killed(Intake):
    """A service that is killed: nothing is written at its end."""

    def _checkpoint(self) -> None:
        """Write nothing."""


@pytest.mark.parametrize("first", [Intake, Killed])
@pytest.mark.parametrize("second", [Intake, Killed])
def test_counters_go_on_after_restarts(
    ledger: SqliteLedger, first: type[Intake], second: type[Intake]
) -> None:
    """Ended or killed: every counter and histogram is what it was, and rises from there."""
    for kind in (first, second):
        intake = kind(Config(), ledger)
        intake.take([a_call(), a_call(duration=3.0)]).result()
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
    intake.take([a_call()]).result()
    intake.close()
    assert values(intake, "llm_calls_total") == {(*base, "chat"): 5}


def test_only_what_a_prometheus_has_seen_is_shown_at_once_after_a_restart(ledger: SqliteLedger) -> None:
    """The planner's series was scraped twice, long enough apart; the reviewer's came after that."""
    intake = Intake(Config(scrape_interval=1e-9), ledger)
    intake.take([a_call()]).result()
    scrape(intake)
    scrape(intake)
    intake.take([a_call(labels={"agent": "reviewer"})]).result()
    intake.close()
    intake = Intake(Config(scrape_interval=3600), ledger)
    shown = values(intake, "llm_calls_total", scraped=True)
    intake.close()
    assert {labels[2]: value for labels, value in shown.items()} == {"planner": 1, "reviewer": 0}


def test_a_label_declared_later_goes_on_from_what_was_counted_without_it(ledger: SqliteLedger) -> None:
    intake = Intake(Config(), ledger)
    intake.take([a_call(labels={"tier": "gold"})]).result()
    intake.close()
    intake = Intake(Config(labels=("tier",)), ledger)
    intake.take([a_call(labels={"tier": "gold"})]).result()
    intake.close()
    by_tier = {labels[4]: value for labels, value in values(intake, "llm_calls_total").items()}
    assert by_tier == {"unattributed": 1, "gold": 1}


def test_a_listener_hears_of_each_new_call_and_harms_nothing(ledger: SqliteLedger) -> None:
    intake = Intake(Config(), ledger)
    heard: list[str] = []

    def listen(calls: Sequence[Call]) -> None:
        heard.extend(call.id for call in calls)
        raise RuntimeError("a listener of ours is broken")

    intake.listen(listen)
    call = a_call()
    intake.take([call]).result()
    intake.take([call]).result()
    intake.close()
    assert heard == [call.id]
    assert values(intake, "llm_exporter_errors_total") == {("listener",): 1}


def test_what_the_ledger_cannot_keep_is_neither_acknowledged_nor_counted(
    ledger: SqliteLedger, monkeypatch: pytest.MonkeyPatch
) -> None:
    intake = Intake(Config(), ledger)

    def full(calls: Sequence[Call]) -> Any:
        raise LedgerError("ledger.db: database or disk is full")

    call = a_call()
    with monkeypatch.context() as patch:
        patch.setattr(ledger, "add", full)
        with pytest.raises(LedgerError, match="disk is full"):
            intake.take([call]).result()
    assert total(intake, "llm_calls_total") == 0
    assert values(intake, "llm_exporter_errors_total") == {("ledger",): 1}
    assert intake.take([call]).result() == Receipt(accepted=1, duplicates=0)
    intake.close()


def test_calls_older_than_the_retention_are_forgotten_and_stay_counted(ledger: SqliteLedger) -> None:
    intake = Intake(Config(retention=1e-9), ledger)
    intake.take([a_call(), a_call(), a_call()]).result()
    intake.close()
    assert ledger.totals(Query())[()].calls == 1  # the newest one marks the place
    intake = Intake(Config(), ledger)
    intake.close()
    assert total(intake, "llm_calls_total") == 3


def test_the_store_cannot_change_while_it_is_in_use(ledger: SqliteLedger) -> None:
    intake = Intake(Config(), ledger)
    with pytest.raises(ConfigError, match=r"^store: cannot change while the service runs: restart it$"):
        intake.follow(Config(store="other.db"))
    intake.close()
