"""`python -m demo`, which `make demo` runs."""

from __future__ import annotations

import click

from llm_exporter.cli.options import Duration

from .run import run


@click.command(context_settings={"help_option_names": ["-h", "--help"], "show_default": True})
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
def main(
    *, duration: float | None, host: str, port: int, no_stack: bool, speed: float, history: float | None
) -> None:
    """Run a sample workload of several agents against a local stand-in for the providers.

    No key is needed, nothing is sent outside and nothing is paid.
    """
    if history and no_stack:
        raise click.UsageError("--history is for the Prometheus that --no-stack does not start")
    run(duration=duration, host=host, port=port, stack=not no_stack, speed=speed, history=history)


main()
