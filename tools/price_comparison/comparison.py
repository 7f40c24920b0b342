"""Compare our prices with LiteLLM's, and the differences with those that were accepted."""

from __future__ import annotations

import csv
import re
import tomllib
from collections import defaultdict
from collections.abc import Iterable, Iterator
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Final, NamedTuple

from llm_exporter.call import Call
from llm_exporter.pricing.prices import PriceList

from .table import Model
from .usages import Usage, standard_usages

WHEN: Final = datetime(2026, 11, 24, 12, tzinfo=UTC)
"""When the compared calls are made: prices and off-peak hours depend on it. It is a Tuesday."""
ROUNDING: Final = Decimal("0.01")
"""Differences below this share of the price are rounding: pages and LiteLLM's table round."""

_HERE: Final = Path(__file__).parent
ACCEPTED: Final = _HERE / "accepted.csv"
REASONS: Final = _HERE / "reasons.toml"


class Difference(NamedTuple):
    """The usages of a model whose price differs from LiteLLM's by the same factor."""

    model: str
    """The model's name in LiteLLM's table."""
    ratio: str
    """Our price divided by theirs; `none` if we have no price, `infinite` if theirs is 0."""
    approximated: str
    """Why our price counts as approximate; empty if it does not."""
    usages: str
    """The usages, separated by `; `."""


class Reason(NamedTuple):
    """Why differences are accepted. All patterns match whole values."""

    model: str
    usage: str
    approximated: str
    reason: str
    date: date

    def explains(self, difference: Difference) -> bool:
        """Return whether this is the reason for a difference."""
        return (
            re.fullmatch(self.model, difference.model) is not None
            and re.fullmatch(self.approximated, difference.approximated) is not None
            and all(re.fullmatch(self.usage, usage) for usage in difference.usages.split("; "))
        )


class Comparison(NamedTuple):
    """What was compared, and what differs."""

    models: int
    prices: int
    differences: list[Difference]


def compare(models: Iterable[Model]) -> Comparison:
    """Compare the prices of all models that both tables have."""
    prices = PriceList()
    usages = list(standard_usages())
    number_of_models = number_of_prices = 0
    differences: list[Difference] = []
    for model in models:
        compared = list(_compared(prices, model, usages))
        if not any(ratio for usage, ratio, _ in compared if "search" not in usage.name):
            continue  # a model that we do not know: fees for searches are those of the provider
        number_of_models += 1
        number_of_prices += len(compared)
        differing: defaultdict[tuple[str, str], list[str]] = defaultdict(list)
        for usage, ratio, approximated in compared:
            if ratio is None or abs(ratio - 1) > ROUNDING:
                differing[_text(ratio), approximated].append(usage.name)
        differences += (
            Difference(model.key, ratio, approximated, "; ".join(names))
            for (ratio, approximated), names in differing.items()
        )
    return Comparison(number_of_models, number_of_prices, sorted(differences))


def _compared(
    prices: PriceList, model: Model, usages: Iterable[Usage]
) -> Iterator[tuple[Usage, Decimal | None, str]]:
    """Yield each usage that LiteLLM prices, our price divided by theirs, and why ours is approximate."""
    for usage in usages:
        if usage.providers and model.provider not in usage.providers:
            continue
        if (theirs := usage.theirs(model.entry)) is None:
            continue
        call = _call(model, usage)
        prices.price(call)
        ours = call.cost.get(usage.cost_type)
        if not theirs and not ours:
            continue
        ratio = None if ours is None else Decimal(str(ours)) / theirs if theirs else Decimal("Infinity")
        yield usage, ratio, ",".join(sorted(call.approximated))


def _call(model: Model, usage: Usage) -> Call:
    return Call(
        provider=model.provider,
        model=model.name,
        requested_model=model.name,
        operation="chat",
        started=WHEN.timestamp(),
        tokens=dict(usage.tokens),
        units=dict(usage.units),
        service_tier=usage.tier or None,
        batch=usage.batch,
        region=model.region,
    )


def _text(ratio: Decimal | None) -> str:
    if ratio is None:
        return "none"
    return f"{ratio:.3f}".rstrip("0").rstrip(".") if ratio.is_finite() else "infinite"


def read_accepted() -> list[Difference]:
    """Return the accepted differences."""
    with ACCEPTED.open(encoding="utf-8", newline="") as file:
        return [Difference(*row) for row in csv.reader(file)][1:]


def write_accepted(differences: Iterable[Difference]) -> None:
    """Write the accepted differences."""
    with ACCEPTED.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(Difference._fields)
        writer.writerows(differences)


def read_reasons() -> list[Reason]:
    """Return the reasons for differences, in the order in which they apply."""
    entries = tomllib.loads(REASONS.read_text(encoding="utf-8"))["reasons"]
    return [
        Reason(
            entry["model"],
            entry.get("usage", ".*"),
            entry.get("approximated", ""),
            entry["reason"],
            entry["date"],
        )
        for entry in entries
    ]


def problems(
    differences: list[Difference], accepted: list[Difference], reasons: list[Reason]
) -> Iterator[str]:
    """Yield what is wrong: new differences, accepted ones that have gone, and missing and unused reasons."""
    unused = set(reasons)
    for difference in differences:
        if (reason := next((each for each in reasons if each.explains(difference)), None)) is None:
            yield f"no reason: {_line(difference)}"
        else:
            unused.discard(reason)
    yield from (f"unused reason: {reason.model} {reason.usage}: {reason.reason}" for reason in unused)
    yield from (f"new: {_line(each)}" for each in differences if each not in set(accepted))
    yield from (f"gone: {_line(each)}" for each in accepted if each not in set(differences))


def _line(difference: Difference) -> str:
    because = f" (approximated: {difference.approximated})" if difference.approximated else ""
    return f"{difference.model}: ours/theirs {difference.ratio}{because}: {difference.usages}"
