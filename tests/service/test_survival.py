"""No exception ends a thread or task of the service: it is counted, logged, and the work goes on."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from prometheus_client.parser import text_string_to_metric_families
from starlette.testclient import TestClient

from llm_exporter.client.spool import Spool
from llm_exporter.config.model import Config, Prices
from llm_exporter.metrics.collector import Metrics
from llm_exporter.pricing.updates import PriceUpdates
from llm_exporter.service import app as app_module
from llm_exporter.service.app import make_app
from llm_exporter.service.intake import Intake
from llm_exporter.service.ledger.base import LedgerError
from llm_exporter.service.ledger.sqlite import SqliteLedger
from llm_exporter.service.live import Live, Subscription
from llm_exporter.service.openapi import description
from llm_exporter.service.reloading import Reloading
from llm_exporter.service.schemas import Receipt
from support.awaiting import until
from support.calls import a_call

ERRORS = (ValueError, SystemExit, KeyboardInterrupt, asyncio.CancelledError)


class Once:
    """Takes the place of a method, and raises an error the first time."""

    def __init__(self, function: Callable[..., Any], error: type[BaseException]) -> None:
        self._function = function
        self._error = error
        self.raised = threading.Event()
        self.went_on = threading.Event()

    def __get__(self, instance: object, owner: type) -> Callable[..., Any]:
        return lambda *args, **kwargs: self(instance, *args, **kwargs)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if not self.raised.is_set():
            self.raised.set()
            raise self._error
        result = self._function(*args, **kwargs)
        self.went_on.set()
        return result


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[SqliteLedger]:
    ledger = SqliteLedger(tmp_path / "ledger.db")
    yield ledger
    ledger.close()


@pytest.fixture(autouse=True)
def _soon(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("intake", "repeating"):
        monkeypatch.setattr(f"llm_exporter.service.{module}._RESTART_SECONDS", 0.01)
    monkeypatch.setattr("llm_exporter.service.app._SWEEP_SECONDS", 0.01)
    monkeypatch.setattr("llm_exporter.service.reloading._POLL_SECONDS", 0.01)


def errors(text: str) -> dict[str, float]:
    return {
        sample.labels["where"]: sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.name == "llm_exporter_errors_total"
    }


def errors_of(intake: Intake) -> dict[str, float]:
    return errors(b"".join(intake.metrics.text(scrape=False, openmetrics=False)).decode())


@pytest.mark.parametrize("error", ERRORS)
def test_the_intake_goes_on_after_the_ledger_raises(
    ledger: SqliteLedger, error: type[BaseException], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ledger, "add", Once(ledger.add, error))
    intake = Intake(Config(), ledger)
    call = a_call()
    with pytest.raises((ValueError, LedgerError)):  # so the client sends it again
        intake.submit([call]).result(60)
    assert intake.submit([call]).result(60) == Receipt(accepted=1, duplicates=0)
    assert errors_of(intake) == {"ledger": 1}
    intake.close()


@pytest.mark.parametrize("error", ERRORS)
@pytest.mark.parametrize("step", ["_queued", "_acknowledge"])
def test_the_intake_goes_on_after_its_own_code_raises(
    ledger: SqliteLedger, step: str, error: type[BaseException], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Intake, step, Once(getattr(Intake, step), error))
    intake = Intake(Config(), ledger)
    call = a_call()
    if step == "_acknowledge":
        with pytest.raises(LedgerError):
            intake.submit([call]).result(60)
    receipt = intake.submit([call]).result(60)
    assert receipt.accepted + receipt.duplicates == 1
    assert errors_of(intake) == {"intake": 1}
    intake.close()


@pytest.mark.parametrize("error", ERRORS)
def test_the_upkeep_of_the_ledger_goes_on_after_an_error(
    ledger: SqliteLedger, error: type[BaseException], monkeypatch: pytest.MonkeyPatch
) -> None:
    pruned = Once(ledger.prune, error)
    monkeypatch.setattr(ledger, "prune", pruned)
    intake = Intake(Config(), ledger)
    intake.reconfigure(Config())
    assert pruned.raised.wait(60)
    until(lambda: errors_of(intake) == {"prune": 1})
    intake.reconfigure(Config())
    assert pruned.went_on.wait(60)
    intake.close()


@pytest.mark.parametrize("error", ERRORS)
def test_the_sweep_of_spools_goes_on_after_an_error(
    ledger: SqliteLedger, tmp_path: Path, error: type[BaseException], monkeypatch: pytest.MonkeyPatch
) -> None:
    file = Spool(tmp_path / "spool").new_file()
    file.append([msgspec.json.encode(a_call())])
    file.close()
    monkeypatch.setattr(app_module, "_empty", Once(app_module._empty, error))
    with TestClient(make_app(Config(), ledger, [tmp_path / "spool"]), base_url="http://127.0.0.1") as client:
        until(lambda: len(client.get("/api/v1/calls").json()["calls"]) == 1)
        assert errors(client.get("/metrics").text) == {"sweep": 1}


@pytest.mark.parametrize("error", ERRORS)
def test_the_watch_on_the_configuration_goes_on_after_an_error(
    ledger: SqliteLedger, tmp_path: Path, error: type[BaseException], monkeypatch: pytest.MonkeyPatch
) -> None:
    watched = Once(Reloading._fingerprint, error)
    file = tmp_path / "llm-exporter.yml"
    file.write_text("")
    app = make_app(Config(), ledger, file=file, load=Config)
    monkeypatch.setattr(Reloading, "_fingerprint", watched)
    with TestClient(app, base_url="http://127.0.0.1") as client:
        assert watched.raised.wait(60)
        assert watched.went_on.wait(60)
        assert errors(client.get("/metrics").text) == {"reloading": 1}


@pytest.mark.parametrize("error", ERRORS)
def test_a_failed_request_is_counted_and_logged_and_ends_nothing(
    ledger: SqliteLedger,
    error: type[BaseException],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Whether the handler fails, or the thread that it waits for."""
    monkeypatch.setattr(ledger, "session", Once(ledger.session, error))
    monkeypatch.setattr("llm_exporter.service.app.description", Once(description, error))
    with TestClient(make_app(Config(), ledger), base_url="http://127.0.0.1") as client:
        for path in ("/api/v1/cost", "/api/v1/openapi.json"):
            response = client.get(path)
            assert response.status_code == 500
            assert response.json()["detail"] == "internal error: the log of the service says more"
            assert response.headers["x-frame-options"] == "DENY"
            assert client.get(path).status_code == 200
        assert errors(client.get("/metrics").text) == {"request": 2}
    assert [record.getMessage() for record in caplog.records] == ["llm-exporter failed in a request"] * 2


def test_a_report_that_the_ledger_cannot_make_is_counted(
    ledger: SqliteLedger, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ledger, "session", Once(ledger.session, LedgerError))
    with TestClient(make_app(Config(), ledger), base_url="http://127.0.0.1") as client:
        assert [client.get("/api/v1/cost").status_code for _ in range(2)] == [503, 200]
        assert errors(client.get("/metrics").text) == {"ledger": 1}


@pytest.mark.parametrize("error", ERRORS)
def test_the_live_page_goes_on_after_an_error(
    error: type[BaseException], monkeypatch: pytest.MonkeyPatch
) -> None:
    metrics = Metrics()
    monkeypatch.setattr(Subscription, "put", Once(Subscription.put, error))

    async def scenario() -> None:
        live = Live(lambda: metrics)
        events = live.subscribe().events()
        assert await anext(events) == b": listening\n\n"
        live.calls_added([a_call(id="lost")])
        live.calls_added([a_call(id="next")])
        assert b'"id":"next"' in await anext(events)

    asyncio.run(scenario())
    assert errors(b"".join(metrics.text(scrape=False, openmetrics=False)).decode()) == {"live": 1}


@pytest.mark.parametrize("error", ERRORS)
def test_fetching_prices_goes_on_after_an_error(
    error: type[BaseException], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    fetch = Once(lambda _: None, error)
    monkeypatch.setattr("llm_exporter.pricing.updates._INTERVAL_SECONDS", 0.01)
    monkeypatch.setattr("llm_exporter.pricing.genai.fetch_table", fetch)
    counted = threading.Event()
    updates = PriceUpdates(counted.set)
    updates.configure(Prices(update=True))
    assert counted.wait(60)
    assert fetch.went_on.wait(60)
    updates.stop()
    assert caplog.messages == [
        f"llm-exporter: cannot fetch prices from the URL of genai-prices: {error.__name__}"
    ]
