"""Whatever calls are in a request, a spool or the ledger: the service counts the others, and starts again."""

from __future__ import annotations

import json
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, get_args

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families
from starlette.testclient import TestClient

from llm_exporter.call import ApproximationReason, ErrorKind, TokenType
from llm_exporter.config.model import Budget, Config
from llm_exporter.service.app import make_app
from llm_exporter.service.intake import Intake
from llm_exporter.service.ledger.base import Query
from llm_exporter.service.ledger.sqlite import SqliteLedger
from llm_exporter.service.schemas import Receipt
from support.awaiting import until
from support.calls import a_call

BUDGETS = (
    Budget(name="usd", period="month", usd=Decimal(100), per=("session",)),
    Budget(name="tokens", period="total", tokens=1000, on_exceed="block"),
)
JSON = {"content-type": "application/json"}
CONFIG = Config(budgets=BUDGETS, labels=("team",))


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[SqliteLedger]:
    ledger = SqliteLedger(tmp_path / "ledger.db")
    yield ledger
    ledger.close()


def total(intake: Intake, name: str, **labels: str) -> float:
    text = b"".join(intake.metrics.text(scrape=False, openmetrics=False)).decode()
    return sum(
        sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.name == name and labels.items() <= sample.labels.items()
    )


def test_a_stream_that_ended_at_once_has_the_largest_output_rate(ledger: SqliteLedger) -> None:
    """99 tokens in 1e-300 seconds would be an infinite rate."""
    call = a_call(tokens={"output": 100}, time_to_first_token=0.0, duration=1e-300)
    intake = Intake(CONFIG, ledger)
    assert intake.submit([call, a_call()]).result() == Receipt(accepted=2, duplicates=0)
    intake.close()
    intake = Intake(CONFIG, ledger)
    assert intake.submit([a_call()]).result() == Receipt(accepted=1, duplicates=0)
    intake.close()
    assert total(intake, "llm_calls_total") == 3
    assert total(intake, "llm_output_tokens_per_second_sum") == 1e6
    assert total(intake, "llm_exporter_errors_total") == 0


def test_the_texts_of_a_call_are_clean_in_the_ledger(ledger: SqliteLedger) -> None:
    call = a_call(model="gpt\n5", labels={"agent": "a" * 10**6, "team": "\x1b[31m"})
    with TestClient(make_app(CONFIG, ledger)) as client:
        client.post("/api/v1/calls", content=msgspec.json.encode([call]), headers=JSON).raise_for_status()
        (logged,) = ledger.calls(Query(), limit=1)
    assert logged.call.model == "gpt?5"
    assert logged.call.labels == {"agent": "a" * 256, "team": "?[31m"}


def test_a_call_in_the_ledger_that_cannot_be_counted_keeps_no_service_from_starting(
    ledger: SqliteLedger,
) -> None:
    """It may be from a release that let it in."""
    ledger.add([a_call(), a_call(tokens={"input": -1}), a_call(time_to_first_token=1e300)])
    intake = Intake(CONFIG, ledger)
    intake.submit([a_call()]).result()
    intake.close()
    assert total(intake, "llm_calls_total") == 2
    assert total(intake, "llm_exporter_errors_total", where="ledger") == 2


@pytest.mark.parametrize(
    ("where", "name"),
    [
        ("metrics", "metrics.add"),
        ("metrics", "metrics.count_received"),
        ("prices", "_prices.price"),
        ("accounts", "accounts.charges"),
        ("accounts", "accounts.settle"),
    ],
)
def test_a_call_that_breaks_a_sink_stops_nothing(
    where: str, name: str, ledger: SqliteLedger, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        raise OverflowError("too large")

    intake = Intake(CONFIG, ledger)
    with monkeypatch.context() as patch:
        part, _, method = name.partition(".")
        patch.setattr(getattr(intake, part), method, broken)
        assert intake.submit([a_call(cost={})]).result() == Receipt(accepted=1, duplicates=0)
        assert intake.submit([a_call(cost={})]).result() == Receipt(accepted=1, duplicates=0)
    assert intake.submit([a_call()]).result() == Receipt(accepted=1, duplicates=0)
    intake.close()
    assert total(intake, "llm_exporter_errors_total", where=where) == 2
    assert ledger.totals(Query())[()].calls == 3


def test_a_failed_checkpoint_stops_nothing(ledger: SqliteLedger, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise OverflowError("too large")

    monkeypatch.setattr("llm_exporter.service.intake._CHECKPOINT_SECONDS", 0.02)
    monkeypatch.setattr("llm_exporter.service.upkeep._EVERY_SECONDS", 0.02)
    monkeypatch.setattr(ledger, "prune", broken)
    intake = Intake(CONFIG, ledger)
    monkeypatch.setattr(intake.metrics, "snapshot", broken)
    until(lambda: total(intake, "llm_exporter_errors_total", where="checkpoint") > 1)
    until(lambda: total(intake, "llm_exporter_errors_total", where="prune") > 1)
    assert intake.submit([a_call()]).result() == Receipt(accepted=1, duplicates=0)
    intake.close()


def test_a_request_that_gives_up_stops_nothing(ledger: SqliteLedger) -> None:
    intake = Intake(CONFIG, ledger)
    receipt = intake.submit([a_call()])
    assert not receipt.cancel()
    assert receipt.result() == Receipt(accepted=1, duplicates=0)
    intake.close()


def test_gauges_that_fail_leave_the_scrape(ledger: SqliteLedger, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> Any:
        raise OverflowError("too large")

    intake = Intake(CONFIG, ledger)
    intake.submit([a_call()]).result()
    monkeypatch.setattr(intake.accounts, "samples", broken)
    assert total(intake, "llm_calls_total") == 1
    assert total(intake, "llm_exporter_errors_total", where="gauges") == 2  # each scrape's
    intake.close()


LARGE: Any = st.sampled_from([
    0, 1, -1, 0.1, 1e-300, 1e12, 10**12, 10**12 + 1, 10**14, 2**53, 2**63 - 1, 2**63, 10**30, 1e300, 1.7e308,
])  # fmt: skip
TEXTS: Any = st.one_of(
    st.sampled_from(["", "other", "input", "a" * 300, "\x00\x1b[31m\n", "=1+1", "\u2028", "\udcff"]),
    st.text(max_size=5),
)


def numbers(names: st.SearchStrategy[str]) -> Any:
    return st.dictionaries(names, LARGE, max_size=4)


FIELDS: Any = st.fixed_dictionaries(
    {"provider": TEXTS, "model": TEXTS, "operation": TEXTS},
    optional={
        "id": TEXTS,
        "started": st.one_of(LARGE, st.floats(-1e9, 253402300800)),
        "requested_model": TEXTS,
        "labels": st.dictionaries(st.sampled_from(["agent", "phase", "session", "team", "x"]), TEXTS),
        "tokens": numbers(st.sampled_from(get_args(TokenType))),
        "units": numbers(TEXTS),
        "cost": numbers(TEXTS),
        "cost_source": st.sampled_from(["list", "local", None]),
        "reported_cost": LARGE,
        "reported_costs": numbers(TEXTS),
        "unpriced_tokens": LARGE,
        "approximated": numbers(st.sampled_from(get_args(ApproximationReason))),
        "usage_reported": st.booleans(),
        "stream": st.booleans(),
        "service_tier": TEXTS,
        "speed": TEXTS,
        "region": TEXTS,
        "host": TEXTS,
        "batch": st.booleans(),
        "duration": LARGE,
        "time_to_first_token": LARGE,
        "error": st.sampled_from([*get_args(ErrorKind), None]),
        "budget": TEXTS,
        "route": TEXTS,
        "retries": st.lists(st.sampled_from(get_args(ErrorKind)), max_size=3),
    },
)
"""The JSON of a call with the right types, and texts and numbers that are hard to take."""


@settings(deadline=None, max_examples=40)
@given(st.lists(FIELDS, min_size=1, max_size=8))
def test_every_call_is_refused_or_counted_and_survives_a_restart(bodies: list[dict[str, Any]]) -> None:
    """A call that is refused changes nothing, and the next call goes in."""
    with TemporaryDirectory() as directory:
        path = Path(directory, "ledger.db")
        accepted = 0
        with TestClient(make_app(CONFIG, SqliteLedger(path))) as client:
            for body in bodies:
                response = client.post("/api/v1/calls", content=json.dumps([body]).encode(), headers=JSON)
                assert response.status_code in (200, 400)
                if response.status_code == 200:
                    accepted += response.json()["accepted"]
                assert calls_shown(client) == accepted
        with TestClient(make_app(CONFIG, SqliteLedger(path))) as client:
            assert calls_shown(client) == accepted
            assert (
                client.post(
                    "/api/v1/calls", content=msgspec.json.encode([a_call()]), headers=JSON
                ).status_code
                == 200
            )
            assert calls_shown(client) == accepted + 1
            report = client.get("/api/v1/report?by=model,provider,agent,session&period=month").json()["rows"]
            assert sum(row["calls"] for row in report) == accepted + 1
            assert len(client.get("/api/v1/calls").json()["calls"]) == accepted + 1
            assert client.get("/api/v1/calls?format=csv").status_code == 200
            assert client.get("/api/v1/budgets").status_code == 200


def calls_shown(client: TestClient) -> float:
    """Return the number of calls in the metrics, which are valid and without errors."""
    samples = [
        sample
        for family in text_string_to_metric_families(client.get("/metrics").text)
        for sample in family.samples
    ]
    assert not [sample for sample in samples if sample.name == "llm_exporter_errors_total"]
    return sum(sample.value for sample in samples if sample.name == "llm_calls_total")
