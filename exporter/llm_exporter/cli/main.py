"""The `llm-exporter` command; each of its commands is imported when it is used."""

from __future__ import annotations

from importlib import import_module
from typing import Final

import click

_COMMANDS: Final = {
    "bundle": "bundle",
    "check": "serve",
    "export": "reports",
    "report": "reports",
    "run": "run",
    "serve": "serve",
}
"""The module of each command."""


class _Commands(click.Group):
    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        module = _COMMANDS.get(cmd_name)
        if module is None:
            return None
        command: click.Command = getattr(import_module(f"{__package__}.{module}"), cmd_name)
        return command


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"], "show_default": True})
@click.version_option(package_name="llm-exporter")
def main() -> None:
    """Meter what Python code spends on LLMs, for Prometheus and Grafana."""
