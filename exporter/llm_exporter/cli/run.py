"""`llm-exporter run -- CMD…`."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Final, NoReturn
from urllib.parse import quote

import click

from .. import environment
from ..client.credentials import authorization
from ..client.service_url import check_url
from ..config.loading import load
from ..errors import ConfigError
from .errors import Usage
from .local_run import exit_like, run_locally
from .options import label

STARTUP: Final = Path(__file__).parents[1] / "client" / "startup"
"""The directory with the `sitecustomize` that meters a Python process."""


@click.command(context_settings={"allow_interspersed_args": False})
@click.option("--agent", help="The agent of calls without an agent label.")
@click.option("--phase", help="The phase of calls without a phase label.")
@click.option("--label", "labels", multiple=True, help="Another label, as name=value; repeatable.")
@click.option(
    "--config",
    type=click.Path(path_type=Path),
    envvar=environment.CONFIG.name,
    help="The configuration file.",
)
@click.option("--url", envvar=environment.URL.name, help="The service to send calls to.")
@click.option("--quiet", is_flag=True, help="Print no table of what the calls cost.")
@click.argument("command", nargs=-1, required=True, type=click.UNPROCESSED)
def run(
    *,
    agent: str | None,
    phase: str | None,
    labels: tuple[str, ...],
    config: Path | None,
    url: str | None,
    quiet: bool,
    command: tuple[str, ...],
) -> None:
    """Run a Python program and meter its LLM calls, without changing it.

    Calls are sent to the service at --url. Without it they are kept in the default ledger, which `report`
    and `serve` read, and a table at the end shows what they cost.

    Example: llm-exporter run --agent nightly -- python report.py
    """
    if not _is_enabled():
        _become(command, {})
    given = {"agent": agent, "phase": phase, **dict(map(label, labels))}
    try:
        if config:
            load(config)
        if url:
            authorization(check_url(url))
    except ConfigError as error:
        raise Usage(str(error)) from None
    variables = {
        "PYTHONPATH": os.pathsep.join(filter(None, [str(STARTUP), os.environ.get("PYTHONPATH")])),
        environment.LABELS.name: ",".join(
            [
                *filter(None, [environment.LABELS.value]),
                *(f"{quote(name)}={quote(value)}" for name, value in given.items() if value is not None),
            ]
        ),
        **({environment.CONFIG.name: str(config.absolute())} if config else {}),
        **({environment.URL.name: url} if url else {}),
    }
    if url or environment.KEEP.value:  # in that case a `run` that runs this one keeps the calls
        _become(command, variables)
    try:
        status = run_locally(command, {**os.environ, **variables}, quiet=quiet)
    except OSError as error:
        _cannot_run(command, error)
    exit_like(status)


def _is_enabled() -> bool:
    try:
        return environment.is_enabled()
    except ConfigError as error:
        raise Usage(str(error)) from None


def _become(command: tuple[str, ...], variables: dict[str, str]) -> NoReturn:
    """Replace this process by a command."""
    try:
        os.execvpe(command[0], command, {**os.environ, **variables})  # noqa: S606  # the user's own command
    except OSError as error:
        _cannot_run(command, error)


def _cannot_run(command: tuple[str, ...], error: OSError) -> NoReturn:
    click.echo(f"Error: {command[0]}: {error.strerror}", err=True)
    sys.exit(127 if isinstance(error, FileNotFoundError) else 126)
