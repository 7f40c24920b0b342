"""The service reloads its configuration file. An invalid file changes nothing."""

from __future__ import annotations

import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest
from prometheus_client.parser import text_string_to_metric_families

from support.awaiting import DEADLINE, until
from support.calls import a_call
from support.served import Served

BUDGET = "budgets: [{name: all, period: total, usd: %s}]\n"


def metrics(service: Served) -> dict[str, float]:
    families = text_string_to_metric_families(service.get_text("/metrics"))
    return {sample.name: sample.value for family in families for sample in family.samples}


def post(service: Served, path: str, body: Any = None) -> httpx.Response:
    return httpx.post(service.url + path, json=msgspec.to_builtins(body), timeout=DEADLINE)


def post_reload(service: Served) -> None:
    assert post(service, "/-/reload").text == "reloaded\n"


def send_sighup(service: Served) -> None:
    assert service._process is not None
    service._process.send_signal(signal.SIGHUP)


def wait(service: Served) -> None:
    """Do nothing: the service polls the file."""


@pytest.mark.parametrize("trigger", [post_reload, send_sighup, wait])
def test_a_changed_file_is_reloaded_and_the_spent_amounts_stay(
    trigger: Callable[[Served], None], tmp_path: Path
) -> None:
    file = tmp_path / "llm-exporter.yml"
    file.write_text(BUDGET % 1)
    with Served(tmp_path, "--config", str(file)) as service:
        assert post(service, "/api/v1/calls", [a_call()]).json()["accepted"] == 1
        assert metrics(service)["llm_budget_limit_usd"] == 1
        file.write_text(BUDGET % 25 + "prices: {fallback: {input: 10, output: 10}}\n")
        trigger(service)
        until(lambda: metrics(service)["llm_budget_limit_usd"] == 25)
        assert metrics(service)["llm_budget_spent_usd"] == 0.75
        unknown = a_call(model="house-model", cost={}, tokens={"output": 1_000_000})
        assert post(service, "/api/v1/calls", [unknown]).json()["accepted"] == 1
        assert metrics(service)["llm_budget_spent_usd"] == 10.75


def test_an_invalid_file_is_reported_and_changes_nothing(tmp_path: Path) -> None:
    file = tmp_path / "llm-exporter.yml"
    file.write_text(BUDGET % 1)
    with Served(tmp_path, "--config", str(file)) as service:
        before = metrics(service)
        assert before["llm_exporter_config_last_reload_successful"] == 1
        for text, message in [
            (BUDGET % -1, f"{file}:1: budgets.0.usd: must be greater than or equal to 0"),
            ("labels: [team]\n", "labels: cannot change while the service runs: restart it"),
            (
                "native_histograms: true\n",
                "native_histograms: cannot change while the service runs: restart it",
            ),
        ]:
            file.write_text(text)
            response = post(service, "/-/reload")
            assert (response.status_code, response.json()["detail"]) == (422, message)
            assert metrics(service) == {**before, "llm_exporter_config_last_reload_successful": 0}
        file.write_text(BUDGET % 2)
        post_reload(service)
        after = metrics(service)
        assert after["llm_exporter_config_last_reload_successful"] == 1
        at = "llm_exporter_config_last_reload_success_timestamp_seconds"
        assert after[at] > before[at]


def test_reloading_without_a_file_is_a_conflict(tmp_path: Path) -> None:
    with Served(tmp_path) as service:
        response = post(service, "/-/reload")
    assert response.status_code == 409
    assert response.json()["detail"] == "no configuration file to reload"
