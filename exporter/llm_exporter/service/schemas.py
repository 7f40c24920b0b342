"""The JSON objects of the REST API. The OpenAPI description is derived from them.

Positional fields come before the inherited ones in JSON, keyword-only fields after them.
"""

from __future__ import annotations

from typing import Annotated, Final, Literal

import msgspec

from ..budgets.events import Unit
from ..call import ApproximationReason, Call, ErrorKind
from ..config.model import Right
from ..periods import Period, Window
from .ledger.base import Totals

Timestamp = Annotated[str, msgspec.Meta(extra_json_schema={"format": "date-time"})]
"""A moment in UTC as RFC 3339, to the millisecond."""

Scope = Literal["project", "agent", "session", "model", "phase"]
"""The dimensions that usage can be requested for."""

Labels = dict[str, str]

REPORT_BY: Final = ("model", "agent", "phase", "provider")
"""The dimensions of every cost report."""


class ProblemDetails(msgspec.Struct):
    """An error, as in RFC 9457."""

    status: int
    detail: str


class SignIn(msgspec.Struct):
    """The token of a person who signs in to the live page."""

    token: Annotated[str, msgspec.Meta(max_length=4096)]


class Session(msgspec.Struct):
    """Who makes a request, and what they may do."""

    name: str
    """`token NAME`, `user NAME` or `certificate`; empty if the service has no authentication."""
    rights: list[Right]
    signed_in: bool
    """Whether the session cookie of the live page says so, which signing out deletes."""


class Receipt(msgspec.Struct, kw_only=True, frozen=True):
    """The number of calls that were new, and of those that were stored before."""

    accepted: int
    duplicates: int


class ModelTotals(Totals):
    """The totals of one model."""

    model: str


class AgentTotals(Totals):
    """The totals of one agent."""

    agent: str


class PhaseTotals(Totals):
    """The totals of one phase."""

    phase: str


class ProviderTotals(Totals):
    """The totals of one provider."""

    provider: str


class _Selection(Totals):
    session: str | None
    since: Timestamp | None
    until: Timestamp | None


class CostReport(_Selection, kw_only=True):
    """The cost of the selected calls, in total and by dimension, most expensive first."""

    by_model: list[ModelTotals]
    by_agent: list[AgentTotals]
    by_phase: list[PhaseTotals]
    by_provider: list[ProviderTotals]


class _Interval(Totals):
    start: Timestamp
    end: Timestamp


class UsagePeriod(_Interval, kw_only=True):
    """The totals of one UTC hour, day or month."""

    by_model: list[ModelTotals]


class UsageReport(msgspec.Struct):
    """Usage over time. Periods without calls are left out."""

    scope: Scope | None
    id: str | None
    period: Window
    periods: list[UsagePeriod]


class Report(msgspec.Struct):
    """Totals by several dimensions. Each row also has the requested dimensions and the period's start.

    The dimensions are null in the rows that sum up what is beyond `top`.
    """

    rows: list[Totals]


class CallRow(Call, kw_only=True, omit_defaults=False):
    """A call in the ledger. `position` increases with every call that is added."""

    position: int
    agent: str
    phase: str
    cost_usd: float
    input_tokens: int
    output_tokens: int
    approximated_tokens: int


class CallPage(msgspec.Struct):
    """A page of calls. `next` is the `before` of the next page, or null on the last one."""

    calls: list[CallRow]
    next: int | None


class CallEvent(msgspec.Struct, kw_only=True):
    """A call that was just added."""

    id: str
    started: float
    provider: str
    model: str
    operation: str
    agent: str
    phase: str
    labels: Labels
    cost_usd: float
    input_tokens: int
    output_tokens: int
    unpriced_tokens: int
    approximated_tokens: int
    approximated: dict[ApproximationReason, int]
    usage_reported: bool
    route: str
    duration: float
    error: ErrorKind | None


class BudgetRow(msgspec.Struct, kw_only=True):
    """The state of a budget for one set of labels in the current period."""

    budget: str
    period: Period
    labels: Labels
    unit: Unit
    limit: float
    spent: float
    left: float
    on_exceed: Literal["warn", "block"]
    catching_up: bool
    """Whether calls from before the budget was configured are still being added to `spent`."""
    resets_at: Timestamp | None


class BudgetList(msgspec.Struct):
    """All budgets, the most used first."""

    budgets: list[BudgetRow]


class WebhookAlert(msgspec.Struct):
    """An alert in an Alertmanager webhook."""

    status: Literal["firing", "resolved"]
    labels: Labels
    annotations: Labels = {}
    fingerprint: str = ""


class Webhook(msgspec.Struct):
    """The body of an Alertmanager webhook."""

    alerts: list[WebhookAlert]


class Alert(msgspec.Struct, kw_only=True):
    """An alert on the live page. `key` is the same when it fires and when it is resolved."""

    key: str
    title: str
    detail: str
    severity: str
    resolved: bool
