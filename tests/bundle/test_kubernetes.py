"""The manifests match our Prometheus files. The tests of the chart check that they are up to date."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from llm_exporter.config.loading import load
from support.bundle import PROMETHEUS, REPOSITORY, run

KUBERNETES = REPOSITORY / "kubernetes"
SERVICE: dict[str, Any] = {
    each["kind"]: each for each in yaml.safe_load_all((KUBERNETES / "llm-exporter.yml").read_text())
}
"""The objects of the service, by kind."""


def committed(file: str) -> dict[str, Any]:
    content: dict[str, Any] = yaml.safe_load((KUBERNETES / file).read_text())
    return content


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
    assert (
        monitor["spec"]["selector"]["matchLabels"].items() <= SERVICE["Service"]["metadata"]["labels"].items()
    )


def test_the_service_runs_without_privileges_and_with_the_image_of_the_dockerfile() -> None:
    service, workload = SERVICE["Service"], SERVICE["StatefulSet"]["spec"]["template"]
    (container,) = workload["spec"]["containers"]
    dockerfile = (REPOSITORY / "Dockerfile").read_text()

    assert workload["spec"]["securityContext"] == {
        "runAsNonRoot": True,
        "runAsUser": 9847,
        "runAsGroup": 9847,
        "fsGroup": 9847,
        "seccompProfile": {"type": "RuntimeDefault"},
    }
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    mounts = {mount["mountPath"] for mount in container["volumeMounts"]}
    assert mounts >= {"/etc/llm-exporter", "/var/lib/llm-exporter", "/tmp"}
    assert "\nUSER 9847\n" in dockerfile
    assert "\nVOLUME /var/lib/llm-exporter\n" in dockerfile
    assert '"--config", "/etc/llm-exporter/llm-exporter.yml"]' in dockerfile
    (port,) = service["spec"]["ports"]
    assert (port["name"], port["port"]) == ("metrics", 9847)
    assert service["spec"]["selector"].items() <= workload["metadata"]["labels"].items()


def test_the_service_reads_its_tokens_from_the_secret_that_the_service_monitor_uses(tmp_path: Path) -> None:
    config = SERVICE["ConfigMap"]["data"]["llm-exporter.yml"]
    (tmp_path / "llm-exporter.yml").write_text(config)
    tokens = load(tmp_path / "llm-exporter.yml").auth.tokens
    (volume,) = [
        each for each in SERVICE["StatefulSet"]["spec"]["template"]["spec"]["volumes"] if "secret" in each
    ]
    (endpoint,) = committed("service-monitor.yml")["spec"]["endpoints"]

    assert volume["secret"]["secretName"] == "llm-exporter"
    by_file = {Path(token.file).name: {*token.rights} for token in tokens}
    assert by_file == {
        "ingest-token": {"ingest"},
        "read-token": {"read"},
        "admin-token": {"ingest", "read", "admin"},
    }
    assert {str(Path(token.file).parent) for token in tokens} == {"/run/secrets/llm-exporter"}
    header = (KUBERNETES / "llm-exporter.yml").read_text().partition("\napiVersion")[0]
    assert all(f"--from-literal={name}=" in header for name in by_file)
    assert endpoint["authorization"] == {"credentials": {"name": "llm-exporter", "key": "read-token"}}
