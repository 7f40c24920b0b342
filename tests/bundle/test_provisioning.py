"""Grafana's provisioning: the data source, the dashboards' folder and the variables they need."""

from __future__ import annotations

import re
from pathlib import Path

import yaml

from support.bundle import COMPOSE, GRAFANA, PROMETHEUS
from tools import stack


def provisioning() -> dict[str, str]:
    files = (GRAFANA / "provisioning").glob("*/*.yml")
    return {str(file.relative_to(GRAFANA / "provisioning")): file.read_text() for file in files}


def test_the_data_source_has_a_fixed_uid_and_the_rules_interval() -> None:
    (source,) = yaml.safe_load(provisioning()["datasources/prometheus.yml"])["datasources"]
    prometheus = yaml.safe_load((PROMETHEUS / "prometheus.yml").read_text())

    assert source["uid"] == "llm-exporter-prometheus"
    assert source["jsonData"]["timeInterval"] == prometheus["global"]["evaluation_interval"] == "15s"


def test_dashboards_are_read_only_in_the_folder_llm() -> None:
    (provider,) = yaml.safe_load(provisioning()["dashboards/llm-exporter.yml"])["providers"]

    assert provider["folder"] == "LLM"
    assert provider["allowUiUpdates"] is False
    assert provider["disableDeletion"] is True


def test_compose_and_the_demo_set_every_variable_of_the_provisioning(tmp_path: Path) -> None:
    used = {name for text in provisioning().values() for name in re.findall(r"(?<!\$)\$\{?(\w+)", text)}

    assert used == {"LLM_EXPORTER_PROMETHEUS_URL", "LLM_EXPORTER_DASHBOARDS"}
    assert used <= set(COMPOSE["services"]["grafana"]["environment"])
    assert used <= set(stack.grafana_environment(prometheus="http://x", storage=tmp_path, port=1))
