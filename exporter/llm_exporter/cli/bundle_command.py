"""`llm-exporter bundle DIR`."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import click

from .. import environment
from ..http_url import parse_http_url
from .bundle import PushFailed, Target, push, write
from .errors import Usage


@click.command()
@click.argument("directory", type=click.Path(path_type=Path, file_okay=False))
@click.option(
    "--prometheus-url",
    default="",
    help="Also provision a data source for Grafana: the URL at which Grafana reaches Prometheus.",
)
@click.option(
    "--dashboards-path",
    default="",
    help="Where the dashboards will be on Grafana's machine. Default: where they are written.",
)
@click.option(
    "--grafana-url-for-links",
    "links",
    default="",
    help="Write this URL of Grafana into the links of alerts, instead of the external label grafana_url.",
)
@click.option(
    "--runbooks-url",
    default="",
    help="Write the URL of the published runbooks into alerts, instead of the external label runbooks_url.",
)
@click.option(
    "--page-url",
    default="",
    help="Write the URL of the live page into links on dashboards, instead of the external label page_url.",
)
@click.option(
    "--prometheus",
    "version",
    type=click.Choice(["2", "3"]),
    default="2",
    help="Write rules for this major version: those for 3 read fewer samples, but need Prometheus 3.16.",
)
@click.option("--grafana-url", help="The URL of a Grafana to push the dashboards to.")
@click.option(
    "--grafana-token-file",
    type=click.Path(path_type=Path, dir_okay=False),
    help="A file with a Grafana service account token, instead of LLM_EXPORTER_GRAFANA_TOKEN.",
)
def bundle(
    *,
    directory: Path,
    prometheus_url: str,
    dashboards_path: str,
    links: str,
    runbooks_url: str,
    page_url: str,
    version: Literal["2", "3"],
    grafana_url: str | None,
    grafana_token_file: Path | None,
) -> None:
    """Write dashboards, rules, runbooks and provisioning for an existing Grafana and Prometheus.

    With --grafana-url, also push the dashboards to that Grafana. The token comes from a file or the
    environment, because command lines are visible to every user of the machine.
    """
    target = Target(
        prometheus_url,
        dashboards_path,
        _link("--grafana-url-for-links", links),
        _link("--runbooks-url", runbooks_url),
        _link("--page-url", page_url),
        version,
    )
    token = _grafana_token(grafana_token_file) if grafana_url else ""
    try:
        write(directory, target)
    except OSError as error:
        raise Usage(f"cannot write to {directory}: {error.strerror or error}") from None
    if version == "3":
        click.echo(
            "The rules need Prometheus 3.16, or an older 3.x with "
            "--enable-feature=promql-extended-range-selectors"
        )
    click.echo(f"{directory}/prometheus/rules       add these rules to rule_files in prometheus.yml")
    click.echo(f"{directory}/grafana/provisioning   copy this into Grafana's provisioning directory")
    click.echo(f"{directory}/grafana/dashboards     {_advice(dashboards_path)}")
    click.echo(f"{directory}/docs                   runbooks to publish, and an example configuration")
    for option, label, url in (
        ("--grafana-url-for-links", "grafana_url", links),
        ("--runbooks-url", "runbooks_url", runbooks_url),
        ("--page-url", "page_url", page_url),
    ):
        if not url:
            click.echo(f"Without {option}, set the external label {label} in prometheus.yml.")
    if grafana_url:
        try:
            for url in push(grafana_url, token):
                click.echo(f"pushed {url}")
        except PushFailed as error:
            raise Usage(str(error)) from None


def _advice(dashboards_path: str) -> str:
    if dashboards_path:
        return f"copy these to {dashboards_path} on Grafana's machine, or import them"
    return "keep these where they are, or import them"


def _link(option: str, url: str) -> str:
    """Return the beginning of links, without a trailing slash."""
    try:
        credentials = parse_http_url(url).credentials if url else ""
    except ValueError as error:
        raise Usage(f"{option}: {error}") from None
    if credentials:
        raise Usage(f"{option}: must have no user and password")
    if set(url) & set('"\\{}#?'):
        raise Usage(f"{option}: must be a URL without query, fragment, quotes and braces")
    return url.rstrip("/")


def _grafana_token(file: Path | None) -> str:
    if not file:
        if token := environment.GRAFANA_TOKEN.value.strip():
            return token
        raise Usage("--grafana-url needs a token: set LLM_EXPORTER_GRAFANA_TOKEN or --grafana-token-file")
    try:
        token = file.read_text(encoding="utf-8").strip()
    except (OSError, ValueError) as error:
        raise Usage(f"cannot read {file}: {getattr(error, 'strerror', None) or error}") from None
    if not token or not token.isprintable() or not token.isascii():
        raise Usage(f"{file} does not contain a token")
    return token
