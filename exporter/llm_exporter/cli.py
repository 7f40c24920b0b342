"""The command `llm-exporter`."""

from __future__ import annotations

import re
from typing import Any, Final

import click

_DURATION: Final = re.compile(r"(?:(\d+)h)?(?:(\d+)m)?(?:(\d+(?:\.\d+)?)s?)?")
_EXTRAS: Final = frozenset({"openai", "anthropic", "google", "starlette", "uvicorn"})
"""What only the extras bring, by top-level module."""


class Duration(click.ParamType[float]):
    """A length of time such as `20s`, `2m`, `1h30m`, or `45` for seconds; converted to seconds."""

    name = "duration"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Return seconds; a text that is no duration, or one of no time at all, is an error of usage."""
        if isinstance(value, int | float):
            return float(value)
        match = _DURATION.fullmatch(value.strip())
        hours, minutes, seconds = (float(part or 0) for part in match.groups()) if match else (0, 0, 0)
        total = hours * 3600 + minutes * 60 + seconds
        if not total:
            self.fail(f"{value!r} is not a duration: write 20s, 2m, 1h30m, or 45 for seconds", param, ctx)
        return total


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
        if (error.name or "").partition(".")[0] not in _EXTRAS:
            raise
        raise click.ClickException(
            f"{error.name} is not installed, which the demo needs: pip install 'llm-exporter[all]'"
        ) from None
    run(duration=duration, host=host, port=port, stack=not no_stack, speed=speed)


if __name__ == "__main__":
    main()
