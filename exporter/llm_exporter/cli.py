"""The command `llm-exporter`."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote

import click
import msgspec

from .config import Config, ConfigError
from .durations import seconds
from .loading import load
from .shipping import Service
from .tables import aligned

if TYPE_CHECKING:
    from .service.client import Source

_EXTRAS: Final = frozenset({"openai", "anthropic", "google", "starlette", "uvicorn"})
"""What only the extras bring, by top-level module."""

_STARTUP: Final = Path(__file__).with_name("startup")
"""The directory whose `sitecustomize` meters a Python."""


class Duration(click.ParamType[float]):
    """A length of time such as `20s`, `2m`, `1h30m`, or `45` for seconds; converted to seconds."""

    name = "duration"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Return seconds; a text that is no duration, or one of no time at all, is an error of usage."""
        if isinstance(value, int | float):
            return float(value)
        try:
            return seconds(value)
        except ValueError as error:
            self.fail(str(error), param, ctx)


@click.group(context_settings={"help_option_names": ["-h", "--help"], "show_default": True})
@click.version_option(package_name="llm-exporter")
def main() -> None:
    """Meter what Python code spends on LLMs, for Prometheus and Grafana."""


@main.command()
@click.option(
    "--duration", type=Duration(), help="How long it runs, such as 20s or 1h30m; until Ctrl-C if not given."
)
@click.option("--host", default="127.0.0.1", help="Address to serve /metrics on.")
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    default=9847,
    help="Port to serve /metrics on; 0 is any free one.",
)
@click.option("--no-stack", is_flag=True, help="Start no Prometheus, Alertmanager or Grafana.")
@click.option(
    "--speed",
    type=click.FloatRange(min=0, min_open=True),
    default=5.0,
    help="How many times as fast as real providers.",
)
@click.option(
    "--history", type=Duration(), help="Begin with a sample of so long a past, such as 30d: full dashboards."
)
def demo(
    *, duration: float | None, host: str, port: int, no_stack: bool, speed: float, history: float | None
) -> None:
    """Run a sample workload of several agents against a local stand-in for the providers.

    No key is needed, nothing is sent outside and nothing is paid.
    """
    if history and no_stack:
        raise click.UsageError("--history is for the Prometheus that --no-stack does not start")
    try:
        from .demo.run import run  # noqa: PLC0415  # the SDKs take a second to import, and may not be there
    except ImportError as error:
        raise _missing(error, "llm-exporter[all]") from None
    run(duration=duration, host=host, port=port, stack=not no_stack, speed=speed, history=history)


@main.command()
@click.option(
    "--config", type=click.Path(path_type=Path), envvar="LLM_EXPORTER_CONFIG", help="llm-exporter.yml"
)
@click.option("--host", default="127.0.0.1", help="Address to listen on.")
@click.option(
    "--port", type=click.IntRange(0, 65535), default=9847, help="Port to listen on; 0 is any free one."
)
@click.option("--store", help="Where the ledger is, instead of the configuration's `store`.")
def serve(*, config: Path | None, host: str, port: int, store: str | None) -> None:
    """Take in the calls of many processes, keep them, and serve /metrics, the REST API and a live page."""
    try:
        from .service.ledger import LedgerError  # noqa: PLC0415
        from .service.run import serve as run  # noqa: PLC0415  # needs the extra [server]
    except ImportError as error:
        raise _missing(error, "llm-exporter[server]") from None

    def configured() -> Config:
        loaded = load(config) if config else Config()
        return loaded.model_copy(update={"store": store}) if store else loaded

    try:
        run(configured(), host, port, config, configured)
    except (ConfigError, LedgerError) as error:
        raise Usage(str(error)) from None
    except OSError as error:
        reason = os.strerror(error.errno) if error.errno and error.errno > 0 else error
        raise Usage(f"cannot listen on port {port} of {host}: {reason}") from None


@main.command(context_settings={"allow_interspersed_args": False})
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
            Service(url)
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


@main.command()
@click.argument("config", type=click.Path(path_type=Path))
def check(*, config: Path) -> None:
    """Say whether a configuration file can be used, or every mistake in it by line and key."""
    try:
        load(config)
    except ConfigError as error:
        raise Usage(str(error)) from None
    click.echo(f"{config}: ok")


@main.command()
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
    from . import bundle as bundled  # noqa: PLC0415  # the name is the command's here

    token = _grafana_token(grafana_token_file) if grafana_url else ""
    try:
        bundled.write(directory, prometheus_url)
    except OSError as error:
        raise Usage(f"cannot write to {directory}: {error.strerror or error}") from None
    click.echo(f"{directory}/prometheus/rules       add to rule_files of prometheus.yml: rules/*.yml")
    click.echo(f"{directory}/grafana/provisioning   copy into Grafana's provisioning directory")
    click.echo(f"{directory}/grafana/dashboards     where that provisioning finds them; or import them")
    if grafana_url:
        try:
            for url in bundled.push(grafana_url, token):
                click.echo(f"pushed {url}")
        except bundled.PushFailed as error:
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


def _from(command: Callable[..., None]) -> Callable[..., None]:
    """Add the options that say where a report is from and of which calls."""
    for option in reversed(
        (
            click.option("--url", envvar="LLM_EXPORTER_URL", help="A running service to ask."),
            click.option("--store", help="A ledger to read instead; the default one without --url."),
            click.option("--since", help="Only calls since then: 2026-01-31T12:00:00Z."),
            click.option("--until", help="Only calls before."),
            click.option("--window", help="Only calls of the last so long: 24h, 30d."),
            click.option("--session", help="Only calls of one session."),
            click.option("--label", "labels", multiple=True, help="Only calls with a label: name:value."),
        )
    ):
        command = option(command)
    return command


@main.command()
@click.option("--by", default="model", help="Dimensions or labels, with commas between them.")
@click.option("--period", type=click.Choice(["hour", "day", "month"]), help="By UTC period as well.")
@click.option("--json", "as_json", is_flag=True, help="JSON instead of a table.")
@_from
def report(
    *, by: str, period: str | None, as_json: bool, url: str | None, store: str | None, **which: Any
) -> None:
    """Say who spent what."""
    parameters = {"by": by, **({"period": period} if period else {}), **_which(which)}
    with _source(url, store) as source:
        rows = source.rows(parameters)
    if as_json:
        click.echo(msgspec.json.format(msgspec.json.encode(rows)).decode())
        return
    names = [*([period] if period else []), *(name.strip() for name in by.split(",") if name.strip())]
    numbers = ["calls", "errors", "input_tokens", "output_tokens"]
    cells = [[str(row[name]) for name in names] + [f"{row[name]:,}" for name in numbers] for row in rows]
    costs = [f"{row['cost_usd']:.4f}" for row in rows]
    table = [[*names, *numbers, "USD"], *([*row, cost] for row, cost in zip(cells, costs, strict=True))]
    table.append(
        [
            *("total" if name == names[0] else "" for name in names),
            *(f"{sum(row[name] for row in rows):,}" for name in numbers),
            f"{sum(row['cost_usd'] for row in rows):.4f}",
        ]
    )
    click.echo("\n".join(aligned(table, left=len(names))))


@main.command()
@click.option(
    "--format", "kind", type=click.Choice(["csv", "json"]), default="csv", help="JSON is a call a line."
)
@_from
def export(*, kind: str, url: str | None, store: str | None, **which: Any) -> None:
    """Write calls to standard output, the newest first."""
    with _source(url, store) as source:
        calls = source.calls(_which(which))
        if kind == "csv":
            from .service.reports import csv_lines  # noqa: PLC0415

            for line in csv_lines(calls):
                click.echo(line, nl=False)
        else:
            for call in calls:
                click.echo(msgspec.json.encode(call))


def _which(options: dict[str, Any]) -> dict[str, str]:
    """Return the parameters of the REST API that options stand for."""
    labels = ",".join(options.pop("labels"))
    return {name: value for name, value in {**options, "label": labels}.items() if value}


@contextmanager
def _source(url: str | None, store: str | None) -> Iterator[Source]:
    from .service.client import FromLedger, FromService  # noqa: PLC0415
    from .service.ledger import LedgerError  # noqa: PLC0415
    from .service.requests import Problem  # noqa: PLC0415
    from .service.store import open_ledger  # noqa: PLC0415

    try:
        if url and not store:
            yield FromService(url)
            return
        ledger = open_ledger(store or "", read_only=True)
        try:
            yield FromLedger(ledger)
        finally:
            ledger.close()
    except (LedgerError, Problem) as error:
        raise Usage(str(error)) from None


def _missing(error: ImportError, extra: str) -> click.ClickException:
    if (error.name or "").partition(".")[0] not in _EXTRAS:
        raise error
    return click.ClickException(f"{error.name} is not installed: pip install '{extra}'")


class Usage(click.ClickException):
    """A mistake in what was asked for, told without a traceback."""

    exit_code = 2


if __name__ == "__main__":
    main()
