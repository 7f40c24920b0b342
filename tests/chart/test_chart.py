"""The chart renders what Kubernetes and the Prometheus Operator accept, with our rules and dashboards."""

from __future__ import annotations

import base64
import json
import os
import shlex
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any, Final

import pytest
import yaml

from llm_exporter.config.loading import load

ROOT: Final = Path(__file__).parents[2]
CHART: Final = ROOT / "charts/llm-exporter"
TOOLS: Final = Path(os.environ.get("CHART_TOOLS", ROOT / ".venv-go/bin"))
"""Where `make test-chart` builds `helm` and `decode`."""
EVERYTHING: Final = {
    "replicas": 2,
    "config": {"store": "redis://redis:6379/0", "labels": ["team"], "retention": "30d"},
    "serviceAccount": {"annotations": {"a": "b"}},
    "service": {"annotations": {"a": "b"}},
    "ingress": {
        "enabled": True,
        "className": "nginx",
        "annotations": {"a": "b"},
        "hosts": ["llm.example.com"],
        "tls": [{"hosts": ["llm.example.com"], "secretName": "tls"}],
    },
    "persistence": {"storageClass": "fast"},
    "env": [{"name": "LLM_EXPORTER_SPOOL", "value": "/tmp/spool"}],
    "imagePullSecrets": [{"name": "registry"}],
    "podAnnotations": {"a": "b"},
    "podLabels": {"a": "b"},
    "priorityClassName": "high",
    "nodeSelector": {"a": "b"},
    "tolerations": [{"operator": "Exists"}],
    "affinity": {"podAntiAffinity": {}},
    "serviceMonitor": {"enabled": True, "labels": {"release": "prometheus"}},
    "prometheusRule": {"enabled": True, "labels": {"release": "prometheus"}},
    "dashboards": {"enabled": True, "annotations": {"folder": "LLM"}},
}


def helm(*arguments: str | Path, values: Any = None) -> subprocess.CompletedProcess[str]:
    command = [TOOLS / "helm", *arguments, "--kube-version=1.34", "--values", "-"]
    return subprocess.run(
        command, input=json.dumps(values or {}), capture_output=True, text=True, check=False
    )


def rendered(values: Any = None) -> str:
    done = helm("template", "llm-exporter", CHART, values=values)
    assert done.returncode == 0, done.stderr
    return done.stdout


def objects(values: Any = None) -> list[Any]:
    return [each for each in yaml.safe_load_all(rendered(values)) if each]


def the(kind: str, values: Any = None) -> Any:
    (only,) = [each for each in objects(values) if each["kind"] == kind]
    return only


@pytest.mark.parametrize("values", [{}, EVERYTHING], ids=["defaults", "everything"])
def test_helm_finds_nothing_to_complain_about(values: Any) -> None:
    done = helm("lint", "--strict", CHART, values=values)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize(
    ("values", "kinds"),
    [
        ({}, "NetworkPolicy ServiceAccount Secret ConfigMap Service StatefulSet"),
        (
            EVERYTHING,
            "NetworkPolicy PodDisruptionBudget ServiceAccount Secret Service StatefulSet Ingress"
            " PrometheusRule ServiceMonitor" + 6 * " ConfigMap",
        ),
    ],
    ids=["defaults", "everything"],
)
def test_every_object_has_only_fields_that_its_type_has(values: Any, kinds: str) -> None:
    text = rendered(values)
    done = subprocess.run([TOOLS / "decode"], input=text, capture_output=True, text=True, check=False)
    assert (done.stderr, sorted(done.stdout.split())) == ("", sorted(kinds.split()))


def test_a_field_that_a_type_does_not_have_is_found() -> None:
    text = rendered(EVERYTHING).replace("scrapeTimeout:", "scrape_timeout:")
    done = subprocess.run([TOOLS / "decode"], input=text, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "monitoring.coreos.com/v1 ServiceMonitor" in done.stderr
    assert "scrape_timeout" in done.stderr


@pytest.mark.parametrize(
    ("values", "complaint"),
    [
        ({"replicas": "two"}, "replicas"),
        ({"replica": 2}, "replica"),
        ({"config": {"auth": {"tokens": []}}}, "config"),
        ({"serviceMonitor": {"interval": "15"}}, "interval"),
        ({"ingress": {"enabled": True}}, "ingress.hosts: name at least one host"),
        (
            {"replicas": 2},
            "replicas: an SQLite ledger has one service: set config.store to the URL of a Redis",
        ),
    ],
)
def test_wrong_values_are_refused_by_name(values: Any, complaint: str) -> None:
    done = helm("template", "llm-exporter", CHART, values=values)
    assert done.returncode != 0
    assert complaint in done.stderr


def test_the_service_reads_its_configuration_and_tokens_where_they_are_mounted(tmp_path: Path) -> None:
    (tmp_path / "llm-exporter.yml").write_text(
        next(
            each["data"]["llm-exporter.yml"]
            for each in objects(EVERYTHING)
            if "llm-exporter.yml" in each.get("data", {})
        )
    )
    config = load(tmp_path / "llm-exporter.yml")
    assert (config.labels, config.store) == (("team",), "redis://redis:6379/0")
    tokens = the("Secret", EVERYTHING)["data"]
    assert {Path(token.file).name: set(token.rights) for token in config.auth.tokens} == {
        "ingest-token": {"ingest"},
        "read-token": {"read"},
        "admin-token": {"ingest", "read", "admin"},
    }
    assert {len(base64.b64decode(tokens[Path(token.file).name])) for token in config.auth.tokens} == {48}
    pod = the("StatefulSet", EVERYTHING)["spec"]["template"]["spec"]
    mounts = {mount["mountPath"]: mount["name"] for mount in pod["containers"][0]["volumeMounts"]}
    volumes = {volume["name"]: volume for volume in pod["volumes"]}
    assert {str(Path(token.file).parent) for token in config.auth.tokens} <= mounts.keys()
    assert volumes[mounts["/run/secrets/llm-exporter"]]["secret"]["secretName"] == "llm-exporter"
    assert volumes[mounts["/etc/llm-exporter"]]["configMap"]["name"] == "llm-exporter"


def test_an_existing_secret_is_used_everywhere() -> None:
    values = {"auth": {"existingSecret": "ours"}, "serviceMonitor": {"enabled": True}}
    assert not [each for each in objects(values) if each["kind"] == "Secret"]
    (endpoint,) = the("ServiceMonitor", values)["spec"]["endpoints"]
    assert endpoint["authorization"]["credentials"] == {"name": "ours", "key": "read-token"}
    volumes = the("StatefulSet", values)["spec"]["template"]["spec"]["volumes"]
    assert [volume["secret"]["secretName"] for volume in volumes if "secret" in volume] == ["ours"]


def test_a_configuration_with_passwords_comes_from_a_secret() -> None:
    values = {"existingConfigSecret": "config", "replicas": 2}
    assert not [each for each in objects(values) if each["kind"] == "ConfigMap"]
    volumes = the("StatefulSet", values)["spec"]["template"]["spec"]["volumes"]
    assert [volume["secret"]["secretName"] for volume in volumes if volume["name"] == "config"] == ["config"]


def test_the_rules_and_dashboards_are_those_of_the_project() -> None:
    files = sorted((ROOT / "prometheus/rules").glob("*.yml"))
    groups = [group for file in files for group in yaml.safe_load(file.read_text())["groups"]]
    rule = the("PrometheusRule", EVERYTHING)
    assert rule["spec"]["groups"] == groups
    assert rule["metadata"]["labels"]["release"] == "prometheus"

    shown = [each for each in objects(EVERYTHING) if "grafana_dashboard" in each["metadata"]["labels"]]
    assert {name: json.loads(text) for each in shown for name, text in each["data"].items()} == {
        file.name: json.loads(file.read_text()) for file in (ROOT / "grafana/dashboards").glob("*.json")
    }


def test_prometheus_scrapes_the_service_as_often_as_without_kubernetes() -> None:
    (scrape,) = yaml.safe_load((ROOT / "prometheus/prometheus.yml").read_text())["scrape_configs"]
    monitor, service = the("ServiceMonitor", EVERYTHING), the("Service", EVERYTHING)
    (endpoint,) = monitor["spec"]["endpoints"]
    assert (endpoint["interval"], endpoint["scrapeTimeout"]) == (
        scrape["scrape_interval"],
        scrape["scrape_timeout"],
    )
    assert monitor["spec"]["selector"]["matchLabels"].items() <= service["metadata"]["labels"].items()
    assert service["metadata"]["labels"][monitor["spec"]["jobLabel"]] == "llm-exporter"


def test_selectors_find_the_pods() -> None:
    labels = the("StatefulSet", EVERYTHING)["spec"]["template"]["metadata"]["labels"].items()
    assert the("Service", EVERYTHING)["spec"]["selector"].items() <= labels
    assert the("NetworkPolicy", EVERYTHING)["spec"]["podSelector"]["matchLabels"].items() <= labels
    assert the("PodDisruptionBudget", EVERYTHING)["spec"]["selector"]["matchLabels"].items() <= labels
    assert the("StatefulSet", EVERYTHING)["spec"]["selector"]["matchLabels"].items() <= labels


def test_two_releases_in_one_namespace_have_nothing_in_common() -> None:
    def names(release: str) -> set[tuple[str, str]]:
        done = helm("template", release, CHART, values=EVERYTHING)
        return {(each["kind"], each["metadata"]["name"]) for each in yaml.safe_load_all(done.stdout) if each}

    assert not names("llm-exporter") & names("search")


def test_the_versions_are_those_of_the_package() -> None:
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text())
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    assert (chart["version"], chart["appVersion"]) == (version, version)


def test_the_documented_installation_renders() -> None:
    page = (ROOT / "docs/deployment.md").read_text(encoding="utf-8")
    _, _, command = page.partition("```sh\nhelm install ")
    words = shlex.split(command.partition("```")[0].replace("\\\n", " "))
    words.remove("--create-namespace")
    done = subprocess.run(
        [TOOLS / "helm", "template", "--kube-version=1.34", *words],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert 'image: "registry.example.com/llm-exporter:' in done.stdout


def test_the_plain_manifests_are_up_to_date() -> None:
    """Run `make kubernetes` to write them."""
    command = [sys.executable, "-m", "kubernetes.manifests", str(TOOLS / "helm"), "--check"]
    done = subprocess.run(command, check=False, capture_output=True, text=True, cwd=ROOT)
    assert (done.returncode, done.stderr) == (0, "")
