"""The command `llm-exporter`."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Final

import click

from .config import Config, ConfigError, load
from .durations import seconds

_EXTRAS: Final = frozenset({"openai", "anthropic", "google", "starlette", "uvicorn"})
"""What only the extras bring, by top-level module."""


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
def demo(*, duration: float | None, host: str, port: int, no_stack: bool, speed: float) -> None:
    """Run a sample workload of several agents against a local stand-in for the providers.

    No key is needed, nothing is sent outside and nothing is paid.
    """
    try:
        from .demo.run import run  # noqa: PLC0415  # the SDKs take a second to import, and may not be there
    except ImportError as error:
        raise _missing(error, "llm-exporter[all]") from None
    run(duration=duration, host=host, port=port, stack=not no_stack, speed=speed)


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
    try:
        loaded = load(config) if config else Config()
        run(loaded.model_copy(update={"store": store}) if store else loaded, host, port)
    except (ConfigError, LedgerError) as error:
        raise Usage(str(error)) from None
    except OSError as error:
        reason = os.strerror(error.errno) if error.errno and error.errno > 0 else error
        raise Usage(f"cannot listen on port {port} of {host}: {reason}") from None


@main.command()
@click.argument("config", type=click.Path(path_type=Path))
def check(*, config: Path) -> None:
    """Say whether a configuration file can be used, or every mistake in it by line and key."""
    try:
        load(config)
    except ConfigError as error:
        raise Usage(str(error)) from None
    click.echo(f"{config}: ok")


def _missing(error: ImportError, extra: str) -> click.ClickException:
    if (error.name or "").partition(".")[0] not in _EXTRAS:
        raise error
    return click.ClickException(f"{error.name} is not installed: pip install '{extra}'")


class Usage(click.ClickException):
    """A mistake in what was asked for, told without a traceback."""

    exit_code = 2


if __name__ == "__main__":
    main()
