"""`llm-exporter serve` and `llm-exporter check`."""

from __future__ import annotations

import os
from pathlib import Path

import click

from .. import environment
from ..client.runs import leave_ended_runs_to_ledger
from ..config.loading import load
from ..config.model import Config
from ..errors import ConfigError
from ..http_url import parse_http_url
from ..web_config import load_web_config
from .errors import Usage, missing


@click.command()
@click.option(
    "--config",
    type=click.Path(path_type=Path),
    envvar=environment.CONFIG.name,
    help="The configuration file.",
)
@click.option("--host", default="127.0.0.1", help="The address to listen on.")
@click.option(
    "--port", type=click.IntRange(0, 65535), default=9847, help="The port to listen on; 0 for any free one."
)
@click.option("--store", help="The ledger, overriding the configuration's `store`.")
@click.option(
    "--web.config.file",
    "web_config_file",
    type=click.Path(path_type=Path),
    help="TLS and users with passwords, in the format of Prometheus' web configuration files.",
)
@click.option("--web.external-url", "external_url", default="", help="The URL that browsers use.")
@click.option(
    "--insecure-no-auth",
    "insecure",
    is_flag=True,
    help="Listen beyond loopback although anyone could read and forge spending.",
)
def serve(
    *,
    config: Path | None,
    host: str,
    port: int,
    store: str | None,
    web_config_file: Path | None,
    external_url: str,
    insecure: bool,
) -> None:
    """Collect the calls of many processes; serve /metrics, a REST API and a live page."""
    try:
        from ..service.access.tokens import mistakes  # noqa: PLC0415
        from ..service.ledger.base import LedgerError  # noqa: PLC0415
        from ..service.run import serve as run  # noqa: PLC0415  # needs the extra [server]
    except ImportError as error:
        raise missing(error, "llm-exporter[server]") from None

    def load_config() -> Config:
        loaded = load(config, mistakes) if config else Config()
        return loaded.model_copy(update={"store": store}) if store else loaded

    leave_ended_runs_to_ledger()
    try:
        web = load_web_config(web_config_file) if web_config_file else None
        run(
            load_config(),
            host,
            port,
            config,
            load_config,
            web=web,
            external_url=_checked(external_url),
            insecure=insecure,
        )
    except (ConfigError, LedgerError) as error:
        raise Usage(str(error)) from None
    except OSError as error:
        reason = os.strerror(error.errno) if error.errno and error.errno > 0 else error
        raise Usage(f"cannot listen on {host} port {port}: {reason}") from None


def _checked(url: str) -> str:
    """Return an external URL, or fail with a usage error."""
    try:
        credentials = parse_http_url(url).credentials if url else ""
    except ValueError as error:
        raise Usage(f"--web.external-url: {error}, like https://llm.example.com:9847") from None
    if credentials:
        raise Usage("--web.external-url: must have no user and password")
    return url


@click.command()
@click.argument("config", type=click.Path(path_type=Path))
def check(*, config: Path) -> None:
    """Check a configuration file, and list every mistake by line and key."""
    try:
        load(config)
    except ConfigError as error:
        raise Usage(str(error)) from None
    click.echo(f"{config}: ok")
