"""The Prometheus Operator objects match our Prometheus files."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import yaml

from support.bundle import PROMETHEUS, REPOSITORY, run

KUBERNETES = REPOSITORY / "kubernetes"


def committed(file: str) -> dict[str, Any]:
    content: dict[str, Any] = yaml.safe_load((KUBERNETES / file).read_text())
    return content


def test_the_committed_objects_are_up_to_date() -> None:
    command = [sys.executable, "-m", "kubernetes.manifests", "--check"]
    done = subprocess.run(command, check=False, capture_output=True, text=True, cwd=REPOSITORY)

    assert (done.returncode, done.stderr) == (0, "")


def test_the_prometheus_rule_has_every_group_under_a_unique_name() -> None:
    rule = committed("prometheus-rule.yml")
    files = sorted((PROMETHEUS / "rules").glob("*.yml"))
    groups = [group for file in files for group in yaml.safe_load(file.read_text())["groups"]]

    assert (rule["apiVersion"], rule["kind"]) == ("monitoring.coreos.com/v1", "PrometheusRule")
    assert rule["spec"]["groups"] == groups
    names = [group["name"] for group in groups]
    assert len(set(names)) == len(names), "group names are unique in an object"


def test_promtool_accepts_the_groups_of_the_prometheus_rule(tmp_path: Path) -> None:
    (tmp_path / "rules.yml").write_text(yaml.safe_dump(committed("prometheus-rule.yml")["spec"]))

    assert "SUCCESS" in run("promtool", "check", "rules", tmp_path / "rules.yml")


def test_the_service_monitor_has_the_configured_interval_and_the_job_of_the_alerts() -> None:
    monitor = committed("service-monitor.yml")
    (scrape,) = yaml.safe_load((PROMETHEUS / "prometheus.yml").read_text())["scrape_configs"]
    (endpoint,) = monitor["spec"]["endpoints"]

    assert (monitor["apiVersion"], monitor["kind"]) == ("monitoring.coreos.com/v1", "ServiceMonitor")
    assert (endpoint["interval"], endpoint["scrapeTimeout"]) == (
        scrape["scrape_interval"],
        scrape["scrape_timeout"],
    )
    assert monitor["spec"]["jobLabel"] == "app.kubernetes.io/name"
    assert monitor["spec"]["selector"]["matchLabels"] == {"app.kubernetes.io/name": "llm-exporter"}
