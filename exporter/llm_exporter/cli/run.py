"""`llm-exporter run -- CMD…`."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Final
from urllib.parse import quote

import click

from ..client.service_url import check_url
from ..config.loading import load
from ..errors import ConfigError
from .errors import Usage

_STARTUP: Final = Path(__file__).parents[1] / "client" / "startup"
"""The directory whose `sitecustomize` meters a Python."""


@click.command(context_settings={"allow_interspersed_args": False})
@click.option("--agent", help="The agent of all calls that are not labelled otherwise.")
@click.option("--phase", help="Their phase.")
@click.option("--label", "labels", multiple=True, help="Another label of theirs: name=value.")
@click.option(
    "--config", type=click.Path(path_type=Path), envvar="LLM_EXPORTER_CONFIG", help="llm-exporter.yml"
)
@click.option("--url", envvar="LLM_EXPORTER_URL", help="The service that calls are sent to.")
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
    """Run a Python program with all its LLM calls metered, without a change to it.

    As in: llm-exporter run --agent nightly -- python report.py
    """
    pairs = [label.partition("=") for label in labels]
    for label, (name, equals, _) in zip(labels, pairs, strict=True):
        if not (name and equals):
            raise Usage(f"--label is {label!r}: write name=value")
    given = {"agent": agent, "phase": phase, **{name: value for name, _, value in pairs}}
    try:
        if config:
            load(config)
        if url:
            check_url(url)
    except ConfigError as error:
        raise Usage(str(error)) from None
    if not url:
        click.echo("llm-exporter: neither --url nor LLM_EXPORTER_URL: calls are sent nowhere", err=True)
    environment = {
        "PYTHONPATH": os.pathsep.join(filter(None, [str(_STARTUP), os.environ.get("PYTHONPATH")])),
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
        os.execvpe(command[0], command, {**os.environ, **environment})  # noqa: S606  # what was asked for
    except OSError as error:
        click.echo(f"Error: {command[0]}: {error.strerror}", err=True)
        sys.exit(127 if isinstance(error, FileNotFoundError) else 126)
