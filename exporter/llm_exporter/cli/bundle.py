"""`llm-exporter bundle DIR`."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Literal

import click

from .. import environment
from ..bundle.dashboards import boards
from ..bundle.declared import declared_labels
from ..bundle.pushing import PushFailed, push
from ..bundle.writing import Target, write
from ..config.loading import load
from ..errors import ConfigError
from ..http_url import HttpUrl, parse_http_url
from .errors import Usage


def _grafana(ctx: click.Context, param: click.Parameter, url: str | None) -> HttpUrl | None:  # noqa: ARG001
    """Return the URL of Grafana, or fail with a usage error."""
    if not url:
        return None
    try:
        parts = parse_http_url(url)
    except ValueError as error:
        raise Usage(f"--grafana-url: {error}") from None
    if parts.credentials:
        raise Usage("--grafana-url: must have no user and password, because the token is sent instead")
    return parts


def _beginning_of_links(ctx: click.Context, param: click.Parameter, url: str) -> str:  # noqa: ARG001
    """Return a URL without a trailing slash, or fail with a usage error."""
    option = param.opts[0]
    try:
        credentials = parse_http_url(url).credentials if url else ""
    except ValueError as error:
        raise Usage(f"{option}: {error}") from None
    if credentials:
        raise Usage(f"{option}: must have no user and password")
    if set(url) & set('"\\{}#?'):
        raise Usage(f"{option}: must be a URL without query, fragment, quotes and braces")
    return url.rstrip("/")


_link = partial(click.option, default="", show_default=False, metavar="URL", callback=_beginning_of_links)


@click.command()
@click.argument("directory", type=click.Path(path_type=Path, file_okay=False))
@click.option(
    "--config",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Take the custom labels from this configuration file.",
)
@click.option(
    "--labels",
    metavar="NAME,…",
    help="Custom labels for dashboards and sums, such as team,project. Default: those of --config.",
)
@click.option(
    "--prometheus-url",
    default="",
    show_default=False,
    metavar="URL",
    help="Also provision a data source for Grafana: the URL at which Grafana reaches Prometheus.",
)
@click.option(
    "--dashboards-path",
    default="",
    show_default=False,
    metavar="DIRECTORY",
    help="Where the dashboards will be on Grafana's machine. Default: where they are written.",
)
@_link(
    "--grafana-url-for-links",
    help="Write this URL of Grafana into the links of alerts, instead of the external label grafana_url.",
)
@_link(
    "--runbooks-url",
    help="Write the URL of the published runbooks into alerts, instead of the external label runbooks_url.",
)
@_link(
    "--page-url",
    help="Write the URL of the live page into links on dashboards, instead of the external label page_url.",
)
@click.option(
    "--prometheus",
    "version",
    type=click.Choice(["2", "3"]),
    default="2",
    help="Write rules for this major version: those for 3 read fewer samples, but need Prometheus 3.16.",
)
@click.option(
    "--grafana-url", metavar="URL", callback=_grafana, help="The URL of a Grafana to push the dashboards to."
)
@click.option(
    "--grafana-token-file",
    type=click.Path(path_type=Path, dir_okay=False),
    help="A file with a Grafana service account token, instead of LLM_EXPORTER_GRAFANA_TOKEN.",
)
def bundle(
    *,
    directory: Path,
    config: Path | None,
    labels: str | None,
    prometheus_url: str,
    dashboards_path: str,
    grafana_url_for_links: str,
    runbooks_url: str,
    page_url: str,
    version: Literal["2", "3"],
    grafana_url: HttpUrl | None,
    grafana_token_file: Path | None,
) -> None:
    """Write dashboards, rules, runbooks and provisioning for an existing Grafana and Prometheus.

    With --config or --labels, the recorded sums have the custom labels, and the dashboards have filters and
    rows for them.

    With --grafana-url, also push the dashboards to that Grafana. The token comes from a file or the
    environment, because command lines are visible to every user of the machine.
    """
    target = Target(
        prometheus=prometheus_url,
        dashboards=dashboards_path,
        grafana=grafana_url_for_links,
        runbooks=runbooks_url,
        page=page_url,
        version=version,
        labels=_labels(config, labels),
    )
    token = _grafana_token(grafana_token_file) if grafana_url else ""
    try:
        write(directory, target)
    except OSError as error:
        raise Usage(f"cannot write to {directory}: {error.strerror or error}") from None
    for line in _advice(directory, target):
        click.echo(line)
    if grafana_url:
        try:
            for url in push(boards(target.labels), str(grafana_url), token):
                click.echo(f"pushed {url}")
        except PushFailed as error:
            raise Usage(str(error)) from None


def _labels(config: Path | None, chosen: str | None) -> tuple[str, ...]:
    """Return the declared labels: those that are chosen, else those of the configuration."""
    try:
        known = load(config).labels if config else None
    except ConfigError as error:
        raise Usage(str(error)) from None
    try:
        if chosen is None:
            return declared_labels(",".join(known or ()))
        labels = declared_labels(chosen)
    except ValueError as error:
        raise Usage(f"{config if chosen is None else '--labels'}: {error}") from None
    for label in labels:
        if known is not None and label not in known:
            raise Usage(f"--labels: {label!r} is not in the labels of {config}: {', '.join(known) or 'none'}")
    return labels


def _advice(directory: Path, target: Target) -> Iterator[str]:
    """Yield what to do with what was written."""
    if target.version == "3":
        yield (
            "The rules need Prometheus 3.16, or an older 3.x with "
            "--enable-feature=promql-extended-range-selectors"
        )
    yield f"{directory}/prometheus/rules       add these rules to rule_files in prometheus.yml"
    yield f"{directory}/grafana/provisioning   copy this into Grafana's provisioning directory"
    where = "keep these where they are, or import them"
    if target.dashboards:
        where = f"copy these to {target.dashboards} on Grafana's machine, or import them"
    yield f"{directory}/grafana/dashboards     {where}"
    yield f"{directory}/docs                   runbooks to publish, and an example configuration"
    if target.labels:
        yield f"The metrics need the labels, too: labels: [{', '.join(target.labels)}] in llm-exporter.yml"
    for option, label, url in (
        ("--grafana-url-for-links", "grafana_url", target.grafana),
        ("--runbooks-url", "runbooks_url", target.runbooks),
        ("--page-url", "page_url", target.page),
    ):
        if not url:
            yield f"Without {option}, set the external label {label} in prometheus.yml."


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
