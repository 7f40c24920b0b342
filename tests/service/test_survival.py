"""No exception ends a thread or task of the service: it is counted, logged, and the work goes on."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families
from starlette.testclient import TestClient

from llm_exporter.client.spool import Spool
from llm_exporter.config.model import Config
from llm_exporter.service import app as app_module
from llm_exporter.service.app import make_app
from llm_exporter.service.intake import Intake
from llm_exporter.service.ledger.base import LedgerError
from llm_exporter.service.ledger.sqlite import SqliteLedger
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
    spool = Spool(tmp_path / "spool")
    spool.add([a_call()])
    spool.release()
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
