"""The `python -m demo` command, which `make demo` runs."""

from __future__ import annotations

import click

from llm_exporter.cli.options import Duration


@click.command(context_settings={"help_option_names": ["-h", "--help"], "show_default": True})
@click.option(
    "--duration", type=Duration(), help="How long to run, for example 20s or 1h30m. Default: until Ctrl-C."
)
@click.option("--host", default="127.0.0.1", help="Address to serve /metrics on.")
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    default=9847,
    help="Port to serve /metrics on. 0 picks a free port.",
)
@click.option("--no-stack", is_flag=True, help="Do not start Prometheus, Alertmanager and Grafana.")
@click.option(
    "--speed",
    type=click.FloatRange(min=0, min_open=True),
    default=5.0,
    help="How much faster than real providers to respond.",
)
@click.option(
    "--history", type=Duration(), help="Fill the dashboards with sample data for this long, for example 30d."
)
def main(
    *, duration: float | None, host: str, port: int, no_stack: bool, speed: float, history: float | None
) -> None:
    """Run a sample workload of several agents against a local stand-in for the providers.

    It needs no API keys, sends nothing to a provider and costs nothing.
    """
    if history and no_stack:
        raise click.UsageError("--history needs Prometheus, which --no-stack does not start")
    from .run import run  # noqa: PLC0415  # it imports the SDKs, which takes seconds

    run(duration=duration, host=host, port=port, stack=not no_stack, speed=speed, history=history)


main()
