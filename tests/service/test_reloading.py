"""The service follows its configuration file, and a mistake in it changes nothing."""

from __future__ import annotations

import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest
from prometheus_client.parser import text_string_to_metric_families

from support.awaiting import until
from support.calls import a_call
from support.served import Served

BUDGET = "budgets: [{name: all, period: total, usd: %s}]\n"


def metrics(service: Served) -> dict[str, float]:
    families = text_string_to_metric_families(service.get_text("/metrics"))
    return {sample.name: sample.value for family in families for sample in family.samples}


def post(service: Served, path: str, body: Any = None) -> httpx.Response:
    return httpx.post(service.url + path, content=msgspec.json.encode(body), timeout=30)


def ask(service: Served) -> None:
    assert post(service, "/-/reload").text == "reloaded\n"


def signals(service: Served) -> None:
    assert service._process is not None
    service._process.send_signal(signal.SIGHUP)


def waits(service: Served) -> None:
    """The file is looked at by itself."""


@pytest.mark.parametrize("tell", [ask, signals, waits])
def test_a_changed_file_is_followed_and_what_is_spent_stays(
    tell: Callable[[Served], None], tmp_path: Path
) -> None:
    file = tmp_path / "llm-exporter.yml"
    file.write_text(BUDGET % 1)
    with Served(tmp_path, "--config", str(file)) as service:
        assert post(service, "/api/v1/calls", [a_call()]).json()["accepted"] == 1
        assert metrics(service)["llm_budget_limit_usd"] == 1
        file.write_text(BUDGET % 25 + "prices: {fallback: {input: 10, output: 10}}\n")
        tell(service)
        until(lambda: metrics(service)["llm_budget_limit_usd"] == 25)
        assert metrics(service)["llm_budget_spent_usd"] == 0.75
        unknown = a_call(model="house-model", cost={}, tokens={"output": 1_000_000})
        assert post(service, "/api/v1/calls", [unknown]).json()["accepted"] == 1
        assert metrics(service)["llm_budget_spent_usd"] == 10.75


def test_a_mistake_is_told_of_and_changes_nothing(tmp_path: Path) -> None:
    file = tmp_path / "llm-exporter.yml"
    file.write_text(BUDGET % 1)
    with Served(tmp_path, "--config", str(file)) as service:
        before = metrics(service)
        assert before["llm_exporter_config_last_reload_successful"] == 1
        for text, message in [
            (BUDGET % -1, f"{file}:1: budgets.0.usd: must be greater than or equal to 0"),
            ("labels: [team]\n", "labels: cannot change while the service runs: restart it"),
        ]:
            file.write_text(text)
            answer = post(service, "/-/reload")
            assert (answer.status_code, answer.json()["detail"]) == (422, message)
            assert metrics(service) == {**before, "llm_exporter_config_last_reload_successful": 0}
        file.write_text(BUDGET % 2)
        ask(service)
        after = metrics(service)
        assert after["llm_exporter_config_last_reload_successful"] == 1
        at = "llm_exporter_config_last_reload_success_timestamp_seconds"
        assert after[at] > before[at]


def test_without_a_file_there_is_nothing_to_follow(tmp_path: Path) -> None:
    with Served(tmp_path) as service:
        answer = post(service, "/-/reload")
    assert answer.status_code == 409
    assert answer.json()["detail"] == "the service was started with no configuration file"
