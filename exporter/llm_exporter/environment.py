"""The environment variables that llm-exporter reads: all of them are here."""

from __future__ import annotations

import os
from typing import Final, NamedTuple

from .errors import ConfigError

_ON: Final = ("1", "true", "yes", "on")
_OFF: Final = ("0", "false", "no", "off")


class Variable(NamedTuple):
    """An environment variable."""

    name: str
    readers: str
    """Who reads it."""
    meaning: str

    @property
    def value(self) -> str:
        """Its value now; empty if it is not set."""
        return os.environ.get(self.name, "")


_PROCESS: Final = "metered processes"
_SERVICE: Final = "`serve`"

ENABLED: Final = Variable(
    "LLM_EXPORTER_ENABLED",
    f"{_PROCESS}, `run`",
    "`0` switches everything off: nothing is metered, recorded, limited by budgets or served. Default: `1`.",
)
CONFIG: Final = Variable(
    "LLM_EXPORTER_CONFIG",
    f"{_PROCESS}, `run`, {_SERVICE}",
    "The configuration file: prices, budgets, labels.",
)
URL: Final = Variable(
    "LLM_EXPORTER_URL",
    f"{_PROCESS}, `run`, `report`, `export`",
    "The service to send calls to, or to query, as in `http://127.0.0.1:9847`.",
)
TOKEN: Final = Variable(
    "LLM_EXPORTER_TOKEN", f"{_PROCESS}, `report`, `export`", "The token that the service wants to see."
)
TOKEN_FILE: Final = Variable(
    "LLM_EXPORTER_TOKEN_FILE",
    f"{_PROCESS}, `report`, `export`",
    "A file with that token, which is read for each request. `LLM_EXPORTER_TOKEN` comes first.",
)
LABELS: Final = Variable(
    "LLM_EXPORTER_LABELS",
    f"{_PROCESS}, `run`",
    "Labels of calls without labels of their own: `agent=nightly,team=web`, with `%2C` for a comma.",
)
ASK_FOR_USAGE: Final = Variable(
    "LLM_EXPORTER_ASK_FOR_USAGE",
    _PROCESS,
    "`true` requests usage of OpenAI chat streams from every service, `false` from none. Default: from those"
    " that document the option.",
)
SPOOL: Final = Variable(
    "LLM_EXPORTER_SPOOL",
    f"{_PROCESS}, `run`, {_SERVICE}",
    "The directory for calls that wait to be sent. Default: `llm-exporter/spool` in `$XDG_STATE_HOME`, which"
    " is `~/.local/state` if it is not set.",
)
KEEP: Final = Variable(
    "LLM_EXPORTER_KEEP",
    _PROCESS,
    "Set by `llm-exporter run` without a service: the directory that calls are written to.",
)
GRAFANA_TOKEN: Final = Variable(
    "LLM_EXPORTER_GRAFANA_TOKEN",
    "`bundle`",
    "The token of a Grafana service account that uploads the dashboards.",
)
DASHBOARDS: Final = Variable(
    "LLM_EXPORTER_DASHBOARDS",
    "Grafana",
    "The directory of the dashboards, in our provisioning. `bundle` writes the path itself.",
)
PROMETHEUS_URL: Final = Variable(
    "LLM_EXPORTER_PROMETHEUS_URL",
    "Grafana",
    "The URL of Prometheus, in our provisioning. `bundle --prometheus-url` writes the URL itself.",
)
MULTIPROCESS: Final = Variable(
    "PROMETHEUS_MULTIPROC_DIR",
    _PROCESS,
    "A directory in which the processes of an application share their metrics.",
)
STATE_HOME: Final = Variable("XDG_STATE_HOME", f"{_PROCESS}, `run`, {_SERVICE}", "See `LLM_EXPORTER_SPOOL`.")
DATA_HOME: Final = Variable(
    "XDG_DATA_HOME",
    f"`run`, {_SERVICE}, `report`, `export`",
    "The default ledger is `llm-exporter/ledger.db` in it. Default: `~/.local/share`.",
)

VARIABLES: Final = (
    *(ENABLED, CONFIG, URL, TOKEN, TOKEN_FILE, LABELS, ASK_FOR_USAGE, SPOOL, KEEP, GRAFANA_TOKEN),
    *(DASHBOARDS, PROMETHEUS_URL, MULTIPROCESS, STATE_HOME, DATA_HOME),
)


def is_enabled() -> bool:
    """Return whether llm-exporter is to do anything in this process.

    Raises:
        llm_exporter.ConfigError: if `LLM_EXPORTER_ENABLED` says neither.
    """
    value = ENABLED.value.strip().lower()
    if value in ("", *_ON):
        return True
    if value in _OFF:
        return False
    raise ConfigError(f"{ENABLED.name} must be 1 or 0, not {value!r}")
