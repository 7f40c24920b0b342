"""`llm-exporter report` and `llm-exporter export`."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from typing import Any

import click
import msgspec

from ..periods import WINDOWS
from ..service.ledger.base import LedgerError
from ..service.ledger.store import open_ledger
from ..service.reports import csv_lines
from ..service.requests import Problem
from .errors import Usage
from .sources import LedgerSource, ServiceSource, Source
from .tables import aligned


def _source_options(command: Callable[..., None]) -> Callable[..., None]:
    """Add the options that select the source and the calls."""
    for option in reversed(
        (
            click.option("--url", envvar="LLM_EXPORTER_URL", help="The URL of a running service."),
            click.option("--store", help="A ledger to read directly; the default one if --url is not set."),
            click.option("--since", help="Only calls since this time, for example 2026-01-31T12:00:00Z."),
            click.option("--until", help="Only calls before this time."),
            click.option("--window", help="Only calls in the last WINDOW, for example 24h."),
            click.option("--session", help="Only calls of this session."),
            click.option(
                "--label",
                "labels",
                multiple=True,
                help="Only calls with this label, as name:value; repeatable.",
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
    for name, problem in (("unpriced", "no known price"), ("approximated", "an approximate cost")):
        # A service of an older release does not report approximated tokens.
        if number := sum(row.get(f"{name}_tokens", 0) for row in rows):
            click.echo(f"{number:,} tokens have {problem}.", err=True)


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
    labels = ",".join(re.sub(r"[\\,]", r"\\\g<0>", label) for label in options.pop("labels"))
    return {name: value for name, value in {**options, "label": labels}.items() if value}


@contextmanager
def _source(url: str | None, store: str | None) -> Iterator[Source]:
    try:
        if url and not store:
            with closing(ServiceSource(url)) as service:
                yield service
            return
        ledger = open_ledger(store or "", read_only=True)
        try:
            yield LedgerSource(ledger)
        finally:
            ledger.close()
    except (LedgerError, Problem) as error:
        raise Usage(str(error)) from None
