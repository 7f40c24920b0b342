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
    help="Where Grafana reaches Prometheus, for its provisioning.",
)
@click.option("--grafana-url", help="A Grafana to put the dashboards into.")
@click.option(
    "--grafana-token-file",
    type=click.Path(path_type=Path, dir_okay=False),
    help="The file with the token of a service account of it, instead of LLM_EXPORTER_GRAFANA_TOKEN.",
)
def bundle(
    *, directory: Path, prometheus_url: str, grafana_url: str | None, grafana_token_file: Path | None
) -> None:
    """Write dashboards, rules and provisioning for a Grafana and a Prometheus that are there already.

    With --grafana-url, put the dashboards into that Grafana as well. The token is read from a file or the
    environment, because everyone on a machine sees its command lines.
    """
    token = _grafana_token(grafana_token_file) if grafana_url else ""
    try:
        write(directory, prometheus_url)
    except OSError as error:
        raise Usage(f"cannot write to {directory}: {error.strerror or error}") from None
    click.echo(f"{directory}/prometheus/rules       add to rule_files of prometheus.yml: rules/*.yml")
    click.echo(f"{directory}/grafana/provisioning   copy into Grafana's provisioning directory")
    click.echo(f"{directory}/grafana/dashboards     where that provisioning finds them; or import them")
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
        raise Usage("--grafana-url needs a token: in LLM_EXPORTER_GRAFANA_TOKEN, or --grafana-token-file")
    try:
        token = file.read_text(encoding="utf-8").strip()
    except (OSError, ValueError) as error:
        raise Usage(f"cannot read {file}: {getattr(error, 'strerror', None) or error}") from None
    if not token or not token.isprintable() or not token.isascii():
        raise Usage(f"{file} has no token in it")
    return token
