"""What `llm-exporter.yml` may say."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from decimal import Decimal
from typing import Annotated, Final, Literal, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StringConstraints,
    model_validator,
)

from ..call import UNATTRIBUTED, TokenType
from ..periods import Period, Window
from .durations import seconds

_LABEL: Final = re.compile(r"[a-zA-Z_][a-zA-Z0-9_]*")
_OUR_LABELS: Final = frozenset(
    {
        "provider",
        "model",
        "agent",
        "phase",
        "token_type",
        "operation",
        "error",
        "resource",
        "budget",
        "period",
        "threshold",
        "window",
        "le",
        "job",
        "instance",
    }
)
_BASE_LABELS: Final = frozenset({"provider", "model", "agent", "phase"})
IDS: Final = frozenset({"session", "thread", "user"})
"""Labels that are in the ledger and never on metrics: each value would make a series."""
REDIS_SCHEMES: Final = ("redis", "rediss", "unix")
"""Of the URL of a Redis server; `unix` is a socket on this machine."""


def _label_name(name: str) -> str:
    if not _LABEL.fullmatch(name) or name.startswith("__"):
        raise ValueError(f"{name!r} is no Prometheus label name: letters, digits and _, not a digit first")
    if name in _OUR_LABELS:
        raise ValueError(f"{name!r} is a label that is there anyway")
    if name in IDS:
        raise ValueError(f"{name!r} would make a series for every value: it is in the ledger, not on metrics")
    return name


def _seconds(value: object) -> object:
    return seconds(value) if isinstance(value, str) else value


def _store(store: str) -> str:
    scheme, colon, _ = store.partition("://")
    if colon and scheme not in (*REDIS_SCHEMES, "sqlite"):
        # No more of it than the scheme: there may be a password in it.
        raise ValueError(f"{scheme}:// is neither redis://… nor the path of an SQLite file")
    return store


def _unique(names: tuple[str, ...]) -> tuple[str, ...]:
    for name in names:
        if names.count(name) > 1:
            raise ValueError(f"{name!r} is there twice")
    return names


Seconds = Annotated[float, BeforeValidator(_seconds), Field(gt=0, allow_inf_nan=False)]
LabelName = Annotated[str, AfterValidator(_label_name)]
Usd = Annotated[Decimal, Field(ge=0, allow_inf_nan=False)]
Address = Annotated[
    str, StringConstraints(to_lower=True, pattern=r"^(?:\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+)(?::[0-9]{1,5})?$")
]
"""`host` or `host:port`, with no scheme and no path; an IPv6 address stands in brackets."""


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class PriceOverride(_Section):
    """The price of one model, instead of the published one or where none is published."""

    provider: str
    """The genai-prices provider id, as in the `provider` label."""
    model: str
    """The model's name, as it answers or as it is asked for."""
    usd_per_million_tokens: dict[TokenType, Usd] = Field(min_length=1)
    """By token type; a type that is left out costs what `input` or `output` does."""


class Prices(_Section):
    """How calls are priced."""

    overrides: list[PriceOverride] = []
    discounts: dict[str, Annotated[Decimal, Field(ge=0, le=1, allow_inf_nan=False)]] = {}
    """The negotiated discount on a provider's list prices, as a fraction: 0.1 is 10 % off."""
    fallback: dict[TokenType, Usd] = {}
    """USD per million tokens of models with no known price; without it they cost nothing."""
    update: bool = False
    """Whether to fetch newer price tables every hour, which needs the internet."""
    update_url: str = ""
    """Where from, instead of where `genai-prices` publishes them."""


class SeriesLabels(_Section):
    """The labels of series that are there at 0 before their first call."""

    provider: str
    model: str
    agent: str = UNATTRIBUTED
    phase: str = UNATTRIBUTED
    operation: str = "chat"
    labels: dict[LabelName, str] = {}
    """Values of declared labels."""


class _Rule(_Section):
    name: Annotated[str, Field(min_length=1)]
    match: dict[str, str] = {}
    """For which calls: those with all of these labels."""

    def named_labels(self) -> Iterator[tuple[tuple[str | int, ...], str]]:
        """Yield the labels that are named, and where."""
        for name in self.match:
            yield ("match", name), name


class Threshold(_Rule):
    """What spending is to be told of when it passes."""

    window: Window
    usd: Annotated[Usd, Field(gt=0)]

    @property
    def period(self) -> Period:
        """The window, under the name that budgets use."""
        return self.window

    @property
    def unit(self) -> Literal["usd", "tokens"]:
        """The unit of the limit."""
        return "usd"

    @property
    def limit(self) -> Decimal:
        """The limit in that unit."""
        return self.usd

    @property
    def per(self) -> tuple[str, ...]:
        """No labels: a threshold applies to all matching calls together."""
        return ()


class Budget(_Rule):
    """What may be spent, and what happens when it is."""

    period: Period
    usd: Annotated[Usd, Field(gt=0)] | None = None
    tokens: Annotated[int, Field(gt=0)] | None = None
    per: Annotated[tuple[str, ...], AfterValidator(_unique)] = ()
    """Labels of which every value has the budget for itself: `per: [session]` is for each session."""
    on_exceed: Literal["warn", "block"] = "warn"
    warn_at: tuple[Annotated[float, Field(gt=0, le=1)], ...] = (0.8,)
    """At which fractions of the limit to tell of it."""
    on_unavailable: Literal["fail_open", "fail_closed"] = "fail_open"
    """Whether calls go on while the service that shares the budget cannot be reached."""

    def named_labels(self) -> Iterator[tuple[tuple[str | int, ...], str]]:
        """Yield the labels that are named, and where."""
        yield from super().named_labels()
        for index, name in enumerate(self.per):
            yield ("per", index), name

    @property
    def unit(self) -> Literal["usd", "tokens"]:
        """The unit of the limit."""
        return "usd" if self.tokens is None else "tokens"

    @property
    def limit(self) -> Decimal:
        """The limit in that unit."""
        return Decimal(self.tokens or 0) if self.usd is None else self.usd

    @model_validator(mode="after")
    def _has_one_limit(self) -> Self:
        if (self.usd is None) == (self.tokens is None):
            raise ValueError("a budget has a limit in usd or in tokens: one of them")
        return self


class Config(_Section):
    """All of it."""

    prices: Prices = Prices()
    labels: Annotated[tuple[LabelName, ...], AfterValidator(_unique)] = ()
    """Further labels that are on every metric of a call, beside `agent` and `phase`."""
    scrape_interval: Seconds = 15.0
    """Of the Prometheus that scrapes the least often, as in its configuration."""
    max_series: Annotated[int, Field(gt=0)] = 50_000
    """Series of calls at most: beyond them agent, phase and declared labels of new ones are `other`."""
    series: tuple[SeriesLabels, ...] = ()
    """Series that are there at 0 from the start."""
    store: Annotated[str, AfterValidator(_store)] = ""
    """Where the service keeps its ledger: `redis://…`, `rediss://…` (TLS) or `unix://…` for one that several
    services share, else the path of an SQLite file."""
    retention: Seconds = 400 * 86400.0
    """How long the service's ledger keeps calls."""
    providers: dict[Address, Annotated[str, Field(min_length=1)]] = {}
    """The provider at an address: one of genai-prices' ids, whose prices then hold, or any other name."""
    thresholds: tuple[Threshold, ...] = ()
    budgets: tuple[Budget, ...] = ()

    def contradictions(self) -> Iterator[tuple[tuple[str | int, ...], str]]:
        """Yield where one part does not go with another, and why."""
        known = _BASE_LABELS | IDS | set(self.labels)
        rules: dict[str, Sequence[_Rule]] = {"thresholds": self.thresholds, "budgets": self.budgets}
        for section, named in rules.items():
            names: dict[str, int] = {}
            for index, rule in enumerate(named):
                if (first := names.setdefault(rule.name, index)) != index:
                    yield (section, index, "name"), f"{rule.name!r} is the name of {section}.{first} already"
                for location, label in rule.named_labels():
                    at = section, index, *location
                    if label not in known:
                        yield at, f"no call has the label {label!r}: declare it in labels"
                    elif location[0] == "per" and label in rule.match:
                        yield at, f"{label!r} is matched already: there is one value of it"
