"""`llm-exporter bundle DIR`."""

from __future__ import annotations

import os
from pathlib import Path

import click

from .bundle import PushFailed, push, write
from .errors import Usage


@click.command()
@click.argument("directory", type=click.Path(path_type=Path, file_okay=False))
@click.option(
    "--prometheus-url",
    default="http://localhost:9090",
    help="The Prometheus URL to provision in Grafana.",
)
@click.option("--grafana-url", help="The URL of a Grafana to push the dashboards to.")
@click.option(
    "--grafana-token-file",
    type=click.Path(path_type=Path, dir_okay=False),
    help="A file with a Grafana service account token, instead of LLM_EXPORTER_GRAFANA_TOKEN.",
)
def bundle(
    *, directory: Path, prometheus_url: str, grafana_url: str | None, grafana_token_file: Path | None
) -> None:
    """Write dashboards, rules and provisioning for an existing Grafana and Prometheus.

    With --grafana-url, also push the dashboards to that Grafana. The token comes from a file or the
    environment, because command lines are visible to every user of the machine.
    """
    token = _grafana_token(grafana_token_file) if grafana_url else ""
    try:
        write(directory, prometheus_url)
    except OSError as error:
        raise Usage(f"cannot write to {directory}: {error.strerror or error}") from None
    click.echo(f"{directory}/prometheus/rules       add these rules to rule_files in prometheus.yml")
    click.echo(f"{directory}/grafana/provisioning   copy this into Grafana's provisioning directory")
    click.echo(f"{directory}/grafana/dashboards     keep these where they are, or import them")
    if grafana_url:
        try:
            for url in push(grafana_url, token):
                click.echo(f"pushed {url}")
        except PushFailed as error:
            raise Usage(str(error)) from None


def _grafana_token(file: Path | None) -> str:
    if not file:
        if token := os.environ.get("LLM_EXPORTER_GRAFANA_TOKEN", "").strip():
            return token
        raise Usage("--grafana-url needs a token: set LLM_EXPORTER_GRAFANA_TOKEN or --grafana-token-file")
    try:
        token = file.read_text(encoding="utf-8").strip()
    except (OSError, ValueError) as error:
        raise Usage(f"cannot read {file}: {getattr(error, 'strerror', None) or error}") from None
    if not token or not token.isprintable() or not token.isascii():
        raise Usage(f"{file} does not contain a token")
    return token
