"""`llm-exporter run -- CMD…`."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Final
from urllib.parse import quote

import click

from ..client.credentials import authorization
from ..client.service_url import check_url
from ..config.loading import load
from ..errors import ConfigError
from .errors import Usage

STARTUP: Final = Path(__file__).parents[1] / "client" / "startup"
"""The directory with the `sitecustomize` that meters a Python process."""


@click.command(context_settings={"allow_interspersed_args": False})
@click.option("--agent", help="The agent of calls without an agent label.")
@click.option("--phase", help="The phase of calls without a phase label.")
@click.option("--label", "labels", multiple=True, help="Another label, as name=value; repeatable.")
@click.option(
    "--config", type=click.Path(path_type=Path), envvar="LLM_EXPORTER_CONFIG", help="The configuration file."
)
@click.option("--url", envvar="LLM_EXPORTER_URL", help="The service to send calls to.")
@click.argument("command", nargs=-1, required=True, type=click.UNPROCESSED)
def run(
    *,
    agent: str | None,
    phase: str | None,
    labels: tuple[str, ...],
    config: Path | None,
    url: str | None,
    command: tuple[str, ...],
) -> None:
    """Run a Python program and meter its LLM calls, without changing it.

    Example: llm-exporter run --agent nightly -- python report.py
    """
    pairs = [label.partition("=") for label in labels]
    for label, (name, equals, _) in zip(labels, pairs, strict=True):
        if not (name and equals):
            raise Usage(f"--label {label!r}: must be name=value")
    given = {"agent": agent, "phase": phase, **{name: value for name, _, value in pairs}}
    try:
        if config:
            load(config)
        if url:
            authorization(check_url(url))
    except ConfigError as error:
        raise Usage(str(error)) from None
    if not url:
        click.echo("llm-exporter: calls are not sent anywhere: set --url or LLM_EXPORTER_URL", err=True)
    environment = {
        "PYTHONPATH": os.pathsep.join(filter(None, [str(STARTUP), os.environ.get("PYTHONPATH")])),
        "LLM_EXPORTER_LABELS": ",".join(
            [
                *filter(None, [os.environ.get("LLM_EXPORTER_LABELS")]),
                *(f"{quote(name)}={quote(value)}" for name, value in given.items() if value is not None),
            ]
        ),
        **({"LLM_EXPORTER_CONFIG": str(config.absolute())} if config else {}),
        **({"LLM_EXPORTER_URL": url} if url else {}),
    }
    try:
        os.execvpe(command[0], command, {**os.environ, **environment})  # noqa: S606  # the user's own command
    except OSError as error:
        click.echo(f"Error: {command[0]}: {error.strerror}", err=True)
        sys.exit(127 if isinstance(error, FileNotFoundError) else 126)
