"""Render the chart into plain manifests, for clusters without Helm.

python -m kubernetes.manifests HELM            # or `make kubernetes`
python -m kubernetes.manifests HELM --check    # exit 1 if a committed file is out of date
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
from pathlib import Path
from typing import Final

DIRECTORY: Final = Path(__file__).parent
CHART: Final = DIRECTORY.parent / "charts/llm-exporter"
NAME: Final = "llm-exporter"
_HELMS_OWN: Final = re.compile(
    r"^ +(?:app\.kubernetes\.io/(?:managed-by|version)|helm\.sh/chart): .*\n|^# Source: .*\n", re.MULTILINE
)

GENERATED: Final = (
    "# Generated from charts/llm-exporter; to change it, edit that and run `make kubernetes`.\n"
)
FILES: Final = {
    "llm-exporter.yml": (
        f"""\
{GENERATED}#
# The llm-exporter service in a cluster, with the default ledger on a volume. It asks for tokens. Build the
# image from the Dockerfile, push it to your registry, set `image`, and create the tokens:
#
#   kubectl create secret generic llm-exporter \\
#     --from-literal=ingest-token="$(openssl rand -hex 32)" \\
#     --from-literal=read-token="$(openssl rand -hex 32)" \\
#     --from-literal=admin-token="$(openssl rand -hex 32)"
#   kubectl apply -f llm-exporter.yml
#
# Programs get LLM_EXPORTER_URL=http://llm-exporter:9847 and, from the secret,
# LLM_EXPORTER_TOKEN=<ingest-token>.
# Prometheus reads with the read-token (service-monitor.yml), Alertmanager posts alerts with the admin-token.
# See docs/security.md for TLS.
""",
        ("serviceaccount", "configmap", "service", "statefulset", "networkpolicy"),
    ),
    "prometheus-rule.yml": (
        f"""\
{GENERATED}#
# Prometheus loads it if its `ruleSelector` matches these labels. Links in alerts start with the external
# labels (`spec.externalLabels`) grafana_url and runbooks_url.
""",
        ("prometheusrule",),
    ),
    "service-monitor.yml": (
        f"""\
{GENERATED}#
# Scrapes the Service of llm-exporter.yml. The value of its label `app.kubernetes.io/name` becomes the job
# name.
""",
        ("servicemonitor",),
    ),
}
"""The header of each file, and the templates of the chart that it holds."""
VALUES: Final = (
    "auth.existingSecret=llm-exporter",
    "image.tag=local",
    "prometheusRule.enabled=true",
    "serviceMonitor.enabled=true",
)


def render(helm: str, file: str) -> str:
    """Return the content of a file.

    Raises:
        OSError: if Helm cannot render the chart.
    """
    header, templates = FILES[file]
    command = [helm, "template", NAME, str(CHART), "--kube-version=1.34", "--set", ",".join(VALUES)]
    command += [f"--show-only=templates/{template}.yaml" for template in templates]
    done = subprocess.run(command, check=False, capture_output=True, text=True)  # noqa: S603
    if done.returncode:
        raise OSError(done.stderr)
    return f"{header}\n{_HELMS_OWN.sub('', done.stdout).removeprefix('---' + chr(10))}"


def main() -> int:
    """Write the files, or with `--check` return 1 if a committed one is out of date."""
    parser = argparse.ArgumentParser(description="Generate kubernetes/*.yml.")
    parser.add_argument("helm", help="the program")
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 if a file is out of date")
    options = parser.parse_args()
    wanted = {DIRECTORY / file: render(options.helm, file) for file in FILES}
    drifted = [path for path, text in wanted.items() if not path.exists() or path.read_text("utf-8") != text]
    for path in drifted:
        if options.check:
            sys.stderr.write(f"out of date: {path.name} (make kubernetes)\n")
        else:
            path.write_text(wanted[path], encoding="utf-8")
    return int(options.check and bool(drifted))


if __name__ == "__main__":
    sys.exit(main())
