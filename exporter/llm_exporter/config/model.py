"""The model of `llm-exporter.yml`."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Final, Literal, Self, TypeVar

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StringConstraints,
    ValidationInfo,
    model_validator,
)

from ..call import UNATTRIBUTED, TokenType
from ..http_url import parse_http_url
from ..periods import Period, Window
from .durations import seconds

Right = Literal["ingest", "read", "admin"]
"""`ingest` sends calls and leases budgets, `read` reads metrics and reports, `admin` resets sessions, reloads
the configuration and receives alerts."""

_S = TypeVar("_S", bound=str)
_LABEL: Final = re.compile(r"[a-zA-Z_][a-zA-Z0-9_]*")
_TOKEN_NAME: Final = re.compile(r"[A-Za-z0-9_.-]{1,64}")
_BUILT_IN_LABELS: Final = frozenset(
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
"""Labels that are kept in the ledger and never put on metrics, where each value would make a series."""
_SCHEME: Final = re.compile(r"(?![./])(?P<scheme>[^/]*?):(?P<slashes>/{0,2})", re.DOTALL)
"""What could be the beginning of a URL: a colon before the first slash."""
_USER: Final = re.compile(r"(?!\.{0,2}/(?!/))[^@]*:.*@", re.DOTALL)
"""What could be a URL with a user and password whose beginning is mistyped."""
_DRIVE: Final = re.compile(r"[A-Za-z]:[\\/](?![\\/])") if sys.platform == "win32" else re.compile(r"(?!)")
REDIS_SCHEMES: Final = ("redis", "rediss", "unix")
"""The schemes of Redis URLs; `unix` is a local socket."""


def label_name(name: str) -> str:
    """Return the name of a label that may be declared.

    Raises:
        ValueError: It is not a name, or llm-exporter uses it itself. The message names it.
    """
    if not _LABEL.fullmatch(name) or name.startswith("__"):
        raise ValueError(f"{name!r} is not a valid label name: use letters, digits and _, and no digit first")
    if name in _BUILT_IN_LABELS:
        raise ValueError(f"{name!r} is a built-in label")
    if name in IDS:
        raise ValueError(
            f"{name!r} cannot be a metric label, because each value would make a series; it is in the ledger"
        )
    return name


def _token_name(name: str) -> str:
    if not _TOKEN_NAME.fullmatch(name):
        raise ValueError(f"{name!r} is not a valid name: use 1 to 64 letters, digits, _, . and -")
    return name


def _beside_the_configuration(file: Path, info: ValidationInfo) -> Path:
    directory: Path = (info.context or {}).get("directory", Path())
    return directory / file


def _pattern(pattern: str) -> str:
    try:
        re.compile(pattern)
    except re.error as error:
        raise ValueError(f"{pattern!r} is not a regular expression: {error}") from None
    return pattern


def _http_url(url: str) -> str:
    if url:
        parse_http_url(url)
    return url


def _seconds(value: object) -> object:
    return seconds(value) if isinstance(value, str) else value


def store_scheme(store: str) -> str:
    """Return the scheme of a ledger: one of `REDIS_SCHEMES`, `sqlite`, or nothing for the path of a file.

    Raises:
        ValueError: It is another URL, or not quite one. The message does not show it: it may have a password.
    """
    if _DRIVE.match(store):
        return ""
    found = _SCHEME.match(store)
    if found is None and not _USER.match(store):
        return ""
    scheme = found["scheme"] if found else ""
    if found and scheme in REDIS_SCHEMES and found["slashes"] == "//":
        return scheme
    if store.startswith("sqlite:///"):
        return "sqlite"
    shown = f"{scheme}:{found['slashes']}" if found and _LABEL.fullmatch(scheme) else "this"
    raise ValueError(
        f"must be a redis:// URL or the path of an SQLite file, not {shown};"
        " begin a relative path that contains a colon with ./"
    )


def _store(store: str) -> str:
    store_scheme(store)
    return store


def _unique(names: tuple[_S, ...]) -> tuple[_S, ...]:
    for name in names:
        if names.count(name) > 1:
            raise ValueError(f"duplicate value {name!r}")
    return names


Seconds = Annotated[float, BeforeValidator(_seconds), Field(gt=0, allow_inf_nan=False)]
LabelName = Annotated[str, AfterValidator(label_name)]
Usd = Annotated[Decimal, Field(ge=0, allow_inf_nan=False)]
Address = Annotated[
    str, StringConstraints(to_lower=True, pattern=r"^(?:\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+)(?::[0-9]{1,5})?$")
]
"""`host` or `host:port`, without scheme or path. IPv6 addresses are in brackets."""


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class PriceOverride(_Section):
    """The standard price of one model. Replaces the published price of the token types that it names."""

    provider: str
    """The genai-prices provider id, as in the `provider` label."""
    model: str
    """The model name in the request or in the response."""
    usd_per_million_tokens: dict[TokenType, Usd] = Field(min_length=1)
    """USD per million tokens, by token type. Other types keep their published price. Without one, they cost
    the same as `input` or `output`. Tiers, batches and regions change them like published prices."""


class PriceFactor(_Section):
    """A multiple of the price of some calls. It replaces the published price of the tier, region or batch."""

    factor: Annotated[Decimal, Field(gt=0, allow_inf_nan=False)]
    """The multiple of the standard price: 0.5 is half, 1.1 is 10% more."""
    provider: str | None = None
    """The genai-prices provider id. The default is all providers."""
    host: Address | None = None
    """The address of the requests, as `host` or `host:port`. The default is all addresses."""
    model: Annotated[str, AfterValidator(_pattern)] | None = None
    """A regular expression for the whole model name, in any case. The default is all models."""
    tier: Annotated[str, Field(min_length=1)] | None = None
    """The service tier in the response: `flex`, `priority`, `scale` …"""
    region: Annotated[str, Field(min_length=1)] | None = None
    """The region or data zone of the address or of the response: `us`, `eu`, `us-central1` …"""
    batch: Literal[True] | None = None
    """Apply to batches only."""

    @model_validator(mode="after")
    def _has_a_condition(self) -> Self:
        if len(self.model_fields_set) == 1:
            raise ValueError("set at least one of provider, host, model, tier, region and batch")
        return self


class Prices(_Section):
    """Prices of calls."""

    overrides: list[PriceOverride] = []
    """Prices of single models."""
    factors: list[PriceFactor] = []
    """Multiples of the price of a service tier, a region, batches, or all calls to a host. Of several factors
    for the same tier, region or batch, the first that matches applies."""
    discounts: dict[str, Annotated[Decimal, Field(ge=0, le=1, allow_inf_nan=False)]] = {}
    """Discounts on a provider's list prices, as a fraction: 0.1 is 10% off."""
    fallback: dict[TokenType, Usd] = {}
    """USD per million tokens of models without a known price. The default is no cost."""
    update: bool = False
    """Whether to fetch newer price tables from the internet every hour."""
    update_url: Annotated[str, AfterValidator(_http_url)] = ""
    """The URL to fetch price tables from. The default is that of `genai-prices`."""


class SeriesLabels(_Section):
    """The labels of series to create at 0 before their first call."""

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
    """Applies to calls with all of these labels."""

    def named_labels(self) -> Iterator[tuple[tuple[str | int, ...], str]]:
        """Yield each label that is named, with its location."""
        for name in self.match:
            yield ("match", name), name


class Threshold(_Rule):
    """Notify subscribers, the log and the live page when spending crosses an amount."""

    window: Window
    """A calendar hour, day or month in UTC. Notified once per window."""
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
    """A limit on spending."""

    period: Period
    """A calendar hour, day or month in UTC, or `total` for a budget that never resets."""
    usd: Annotated[Usd, Field(gt=0)] | None = None
    """The limit in USD."""
    tokens: Annotated[int, Field(gt=0)] | None = None
    """The limit in tokens, instead of USD."""
    per: Annotated[tuple[str, ...], AfterValidator(_unique)] = ()
    """Each value of these labels has a separate budget: `per: [session]` limits each session."""
    on_exceed: Literal["warn", "block"] = "warn"
    """`block` refuses calls that could exceed the budget, before they are sent."""
    warn_at: tuple[Annotated[float, Field(gt=0, le=1)], ...] = (0.8,)
    """Also notify when spending reaches these fractions of the limit."""
    on_unavailable: Literal["fail_open", "fail_closed"] = "fail_open"
    """Whether to send or to refuse calls while the service that shares the budget is unavailable."""

    def named_labels(self) -> Iterator[tuple[tuple[str | int, ...], str]]:
        """Yield each label that is named, with its location."""
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
            raise ValueError("set either usd or tokens")
        return self


class Token(_Section):
    """A bearer token of the service."""

    name: Annotated[str, AfterValidator(_token_name)]
    """The name in messages and in the log: letters, digits, `_`, `.` and `-`."""
    file: Annotated[Path, AfterValidator(_beside_the_configuration)]
    """The file with the token in its first line, relative to the configuration file. The service reads it
    again when it changes."""
    rights: Annotated[tuple[Right, ...], Field(min_length=1), AfterValidator(_unique)]
    """`ingest`: send calls and lease budgets. `read`: read metrics, reports and the live page. `admin`: reset
    sessions, reload the configuration, receive alerts. No right includes another."""
    labels: dict[str, str] = {}
    """Labels of all calls that are sent with the token, whatever the client says. Its leases are limited to
    budgets that such calls count against."""

    @model_validator(mode="after")
    def _binds_what_it_sends(self) -> Self:
        if self.labels and "ingest" not in self.rights:
            raise ValueError("labels need the right 'ingest': the token sends no calls without it")
        return self


class Auth(_Section):
    """Who may use the service. Without tokens, anyone who can connect to it."""

    tokens: tuple[Token, ...] = ()
    """The tokens."""


class Config(_Section):
    """The configuration of llm-exporter."""

    prices: Prices = Prices()
    """Overrides, discounts and updates of the published prices."""
    labels: Annotated[tuple[LabelName, ...], AfterValidator(_unique)] = ()
    """Custom labels of call metrics, beside `provider`, `model`, `agent` and `phase`."""
    scrape_interval: Seconds = 15.0
    """The longest scrape interval of all Prometheus servers that scrape this exporter."""
    native_histograms: bool = False
    """Whether histograms also have exponential buckets, for a Prometheus that scrapes native histograms:
    quantiles are accurate to 9%. Workers that share `PROMETHEUS_MULTIPROC_DIR` have none."""
    max_series: Annotated[int, Field(gt=0)] = 50_000
    """The number of series beyond which new ones have `other` as agent, phase and custom labels. Models and
    operations become `other` at 110% of it, providers at 120%, and all labels at 130%."""
    series: tuple[SeriesLabels, ...] = ()
    """Series to create at 0 on startup."""
    store: Annotated[str, AfterValidator(_store)] = ""
    """The service's ledger: the path of an SQLite file, or a Redis URL for several services: `redis://…`,
    `rediss://…` (TLS) or `unix://…`."""
    retention: Seconds = 400 * 86400.0
    """How long the ledger keeps calls."""
    providers: dict[Address, Annotated[str, Field(min_length=1)]] = {}
    """Providers by address. A genai-prices provider id selects its prices; other names have no price."""
    thresholds: tuple[Threshold, ...] = ()
    """Amounts to notify of."""
    budgets: tuple[Budget, ...] = ()
    """Limits on spending."""
    auth: Auth = Auth()
    """Who may use the service."""

    def inconsistencies(self) -> Iterator[tuple[tuple[str | int, ...], str]]:
        """Yield the location and message of each mistake between sections."""
        known = _BASE_LABELS | IDS | set(self.labels)
        rules: dict[str, Sequence[_Rule]] = {"thresholds": self.thresholds, "budgets": self.budgets}
        yield from _duplicate_names(("auth", "tokens"), self.auth.tokens)
        for index, token in enumerate(self.auth.tokens):
            for label in token.labels:
                if label not in known - {"provider", "model"}:
                    yield (
                        ("auth", "tokens", index, "labels", label),
                        f"unknown label {label!r}: declare it in labels",
                    )
        for section, named in rules.items():
            yield from _duplicate_names((section,), named)
            for index, rule in enumerate(named):
                for location, label in rule.named_labels():
                    at = section, index, *location
                    if label not in known:
                        yield at, f"unknown label {label!r}: declare it in labels"
                    elif location[0] == "per" and label in rule.match:
                        yield at, f"{label!r} is also in match, so it has only one value"


def _duplicate_names(
    section: tuple[str, ...], named: Sequence[_Rule | Token]
) -> Iterator[tuple[tuple[str | int, ...], str]]:
    names: dict[str, int] = {}
    for index, one in enumerate(named):
        if (first := names.setdefault(one.name, index)) != index:
            yield (
                (*section, index, "name"),
                f"duplicate name {one.name!r}, also used by {'.'.join(section)}.{first}",
            )
