"""`llm-exporter report` and `llm-exporter export`."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from difflib import get_close_matches
from typing import Any, Final

import click
import msgspec

from .. import environment
from ..call import UNATTRIBUTED
from ..periods import WINDOWS
from ..service.ledger.base import SUMMED_BY, LedgerError, NoLedger
from ..service.ledger.store import open_ledger
from ..service.reports import csv_lines
from ..service.requests import Problem
from .errors import Usage
from .local_run import collect_ended_runs
from .options import label
from .sources import LedgerSource, ServiceSource, Source
from .spending_table import remarks, spending_table

_ALWAYS_KNOWN: Final = (*SUMMED_BY, "session")
"""The dimensions that every call has."""


def _source_options(command: Callable[..., None]) -> Callable[..., None]:
    """Add the options that select the source and the calls."""
    for option in reversed(
        (
            click.option("--url", envvar=environment.URL.name, help="The URL of a running service."),
            click.option("--store", help="A ledger to read directly; the default one if --url is not set."),
            click.option("--since", help="Only calls since this time, for example 2026-01-31T12:00:00Z."),
            click.option("--until", help="Only calls before this time."),
            click.option("--window", help="Only calls in the last WINDOW, for example 24h."),
            click.option("--session", help="Only calls of this session."),
            click.option(
                "--label",
                "labels",
                multiple=True,
                help="Only calls with this label, as name=value; repeatable.",
            ),
        )
    ):
        command = option(command)
    return command


@click.command()
@click.option("--by", default="model", help="Dimensions or labels to group by, separated by commas.")
@click.option("--period", type=click.Choice(WINDOWS), help="Also group by this UTC period.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of a table.")
@_source_options
def report(
    *, by: str, period: str | None, as_json: bool, url: str | None, store: str | None, **filters: Any
) -> None:
    """Report spending by model, agent or any label."""
    parameters = {"by": by, **({"period": period} if period else {}), **_parameters(filters)}
    dimensions = [name.strip() for name in by.split(",") if name.strip()]
    with _source(url, store) as source:
        rows = source.rows(parameters)
        _refuse_unknown(source, dimensions, rows)
    if as_json:
        click.echo(msgspec.json.format(msgspec.json.encode(rows)).decode())
        return
    names = [*([period] if period else []), *dimensions]
    click.echo("\n".join(spending_table(names, rows)))
    for remark in remarks(rows):
        click.echo(remark, err=True)


@click.command()
@click.option(
    "--format",
    "kind",
    type=click.Choice(["csv", "json"]),
    default="csv",
    help="CSV, or JSON with one call per line.",
)
@_source_options
def export(*, kind: str, url: str | None, store: str | None, **filters: Any) -> None:
    """Write calls to standard output, newest first."""
    with _source(url, store) as source:
        calls = source.calls(_parameters(filters))
        if kind == "csv":
            for line in csv_lines(calls):
                click.echo(line, nl=False)
        else:
            for call in calls:
                click.echo(msgspec.json.encode(call))


def _parameters(options: dict[str, Any]) -> dict[str, str]:
    """Return the options as parameters of the REST API."""
    pairs = map(label, options.pop("labels"))
    labels = ",".join(f"{_escaped(name)}:{_escaped(value)}" for name, value in pairs)
    return {name: value for name, value in {**options, "label": labels}.items() if value}


def _escaped(text: str) -> str:
    return re.sub(r"[\\,]", r"\\\g<0>", text)


def _refuse_unknown(source: Source, names: list[str], rows: list[dict[str, Any]]) -> None:
    """Fail if a dimension of a report is a label that no call in the ledger has."""
    for name in names:
        if name in _ALWAYS_KNOWN or not rows or any(row[name] != UNATTRIBUTED for row in rows):
            continue
        if all(row[name] == UNATTRIBUTED for row in source.rows({"by": name})):
            close = get_close_matches(name, _ALWAYS_KNOWN, n=1)
            hint = f"did you mean {close[0]}?" if close else f"use {', '.join(_ALWAYS_KNOWN)} or a label"
            raise Usage(f"--by {name}: no call has this label: {hint}")


@contextmanager
def _source(url: str | None, store: str | None) -> Iterator[Source]:
    try:
        if url and not store:
            with closing(ServiceSource(url)) as service:
                yield service
            return
        if not store:
            collect_ended_runs()
        ledger = open_ledger(store or "", read_only=True)
        try:
            yield LedgerSource(ledger)
        finally:
            ledger.close()
    except NoLedger as error:
        hint = (
            ""
            if store
            else ": meter a program with `llm-exporter run`, start `llm-exporter serve`, or set --url"
        )
        raise Usage(f"{error}{hint}") from None
    except (LedgerError, Problem) as error:
        raise Usage(str(error)) from None
