"""Generate the Prometheus Operator objects for our rules and scrape configuration.

    python -m kubernetes.manifests            # or `make kubernetes`
    python -m kubernetes.manifests --check    # exit 1 if a committed file is out of date

https://prometheus-operator.dev/docs/api-reference/api/
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

import yaml

DIRECTORY = Path(__file__).parent
PROMETHEUS = DIRECTORY.parent / "prometheus"
NAME = "llm-exporter"
PORT = "metrics"

Json = dict[str, Any]

HEADERS = {
    "prometheus-rule.yml": """\
# Generated from prometheus/rules; to change it, edit those files and run `make kubernetes`.
#
# Prometheus loads it if its `ruleSelector` matches these labels. Links in alerts start with the external
# labels (`spec.externalLabels`) grafana_url and runbooks_url. In a Helm template, escape the braces.
""",
    "service-monitor.yml": """\
# Generated from prometheus/prometheus.yml; to change it, edit that file and run `make kubernetes`.
#
# Scrapes every Service with the label `app.kubernetes.io/name: llm-exporter` and a port named `metrics`. The
# value of that label becomes the job name, by which the alerts recognize the exporter. The token is that of
# llm-exporter.yml; remove `authorization` for programs that serve /metrics without one.
""",
}


class _Dumper(yaml.SafeDumper):
    """Writes multi-line strings as block scalars, and no anchors."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


def _text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style="|" if "\n" in text else None)


_Dumper.add_representer(str, _text)


def _object(kind: str, spec: Json) -> Json:
    return {
        "apiVersion": "monitoring.coreos.com/v1",
        "kind": kind,
        "metadata": {"name": NAME, "labels": {"app.kubernetes.io/name": NAME}},
        "spec": spec,
    }


def prometheus_rule() -> Json:
    """Return a PrometheusRule with the groups of all rule files."""
    files = sorted((PROMETHEUS / "rules").glob("*.yml"))
    groups = [group for file in files for group in yaml.safe_load(file.read_text(encoding="utf-8"))["groups"]]
    return _object("PrometheusRule", {"groups": groups})


def service_monitor() -> Json:
    """Return a ServiceMonitor with the scrape interval and timeout of prometheus.yml."""
    config = yaml.safe_load((PROMETHEUS / "prometheus.yml").read_text(encoding="utf-8"))
    (scrape,) = config["scrape_configs"]
    endpoint = {
        "port": PORT,
        "interval": scrape["scrape_interval"],
        "scrapeTimeout": scrape["scrape_timeout"],
        "authorization": {"credentials": {"name": NAME, "key": "read-token"}},
    }
    return _object(
        "ServiceMonitor",
        {
            "jobLabel": "app.kubernetes.io/name",
            "selector": {"matchLabels": {"app.kubernetes.io/name": NAME}},
            "endpoints": [endpoint],
        },
    )


def render(file: str, content: Json) -> str:
    """Return the content of an object's file."""
    dumped: str = yaml.dump(content, Dumper=_Dumper, sort_keys=False, width=110, allow_unicode=True)
    return f"{HEADERS[file]}\n{dumped}"


def main() -> int:
    """Write the objects, or with `--check` return 1 if a committed file is out of date."""
    parser = argparse.ArgumentParser(description="Generate kubernetes/*.yml.")
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 if a file is out of date")
    check = parser.parse_args().check
    wanted = {
        DIRECTORY / file: render(file, content)
        for file, content in (
            ("prometheus-rule.yml", prometheus_rule()),
            ("service-monitor.yml", service_monitor()),
        )
    }
    drifted = [path for path, text in wanted.items() if not path.exists() or path.read_text("utf-8") != text]
    for path in drifted:
        if check:
            sys.stderr.write(f"out of date: {path.name} (make kubernetes)\n")
        else:
            path.write_text(wanted[path], encoding="utf-8")
    return int(check and bool(drifted))


if __name__ == "__main__":
    sys.exit(main())
