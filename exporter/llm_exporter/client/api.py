"""The public functions: configure, record, subscribe, and ask about costs and budgets."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable, Mapping
from os import PathLike
from typing import TYPE_CHECKING, Any, TypeVar, cast, get_args, overload

from ..call import Call, ErrorKind, TokenType
from ..errors import ConfigError
from ..labels import current_labels
from ..wire.fields import MAX_COUNT
from .default import pipeline

if TYPE_CHECKING:
    from ..budgets.status import BudgetStatus

T = TypeVar("T")


def record(
    *,
    provider: str,
    model: str,
    tokens: Mapping[TokenType, int],
    operation: str = "chat",
    duration: float = 0.0,
    error: ErrorKind | None = None,
) -> Call:
    """Record a call that was metered elsewhere, of any provider, under the labels in force here.

    Args:
        provider: the genai-prices provider id; any other name is counted and has no price.
        model: the model that answered.
        tokens: tokens by disjoint type, as in `llm_exporter.call.TokenType`.
        operation: what was asked for, in the terms of OpenTelemetry's `gen_ai.operation.name`.
        duration: seconds from the request to the last byte.
        error: why the call failed, if it did.

    Returns:
        The call; its cost is set by the time it reaches the sinks.

    Raises:
        ValueError: for a token type, count or duration that cannot be.
    """
    for kind, number in tokens.items():
        if kind not in get_args(TokenType):
            raise ValueError(f"tokens: {kind!r} is not one of {', '.join(get_args(TokenType))}")
        if not isinstance(number, int) or isinstance(number, bool) or not 0 <= number <= MAX_COUNT:
            raise ValueError(f"tokens: {kind} is {number!r}, not a count")
    if not 0 <= duration < math.inf:
        raise ValueError(f"duration is {duration!r}, not a number of seconds")
    if error is not None and error not in get_args(ErrorKind):
        raise ValueError(f"error: {error!r} is not one of {', '.join(get_args(ErrorKind))}")
    call = Call(
        provider=provider,
        model=model,
        requested_model=model,
        operation=operation,
        labels=dict(current_labels()),
        tokens=cast("dict[TokenType, int]", {kind: number for kind, number in tokens.items() if number}),
        duration=duration,
        error=error,
    )
    pipeline().record(call)
    return call


def configure(path: str | PathLike[str] | None = None) -> None:
    """Use a configuration file from now on.

    Args:
        path: a YAML file; None for the one that `LLM_EXPORTER_CONFIG` names, if it names one.

    Raises:
        llm_exporter.ConfigError: when it cannot be used, with every mistake in it by line and key.
    """
    if path := path or os.environ.get("LLM_EXPORTER_CONFIG"):
        from ..config.loading import load  # noqa: PLC0415  # loads pydantic and a YAML parser

        try:
            pipeline().configure(load(path))
        except ConfigError:
            pipeline().metrics.set_reloaded(None)
            raise
        pipeline().metrics.set_reloaded(time.time())


@overload
def subscribe(callback: Callable[[Call], object]) -> None: ...
@overload
def subscribe(callback: Callable[[T], object], to: type[T]) -> None: ...
def subscribe(callback: Callable[[Any], object], to: type[Any] = Call) -> None:
    """Call back with every finished `Call`, or with every `ThresholdCrossed` or `BudgetReached`.

    Callbacks run one at a time on a thread of the exporter's, so a slow one delays no LLM call; what
    one raises is logged and counted in `llm_exporter_errors_total`.
    """
    pipeline().subscribe(callback, to)


def unsubscribe(callback: Callable[[Any], object]) -> None:
    """Stop calling back; a callback that never subscribed is no error."""
    pipeline().unsubscribe(callback)


def estimate_cost(model: str, input_tokens: int, max_output_tokens: int = 0, *, provider: str = "") -> float:
    """Return what a call would cost at most, in USD, with nothing of it cached.

    Args:
        model: as it is asked for.
        input_tokens: of the prompt.
        max_output_tokens: of the answer.
        provider: the genai-prices provider id; without one, the provider that the model is known of.

    Returns:
        The cost by the prices that calls are counted by; for an unknown model by the configured fallback.

    Raises:
        ValueError: for fewer than no tokens.
    """
    if input_tokens < 0 or max_output_tokens < 0:
        raise ValueError(f"{min(input_tokens, max_output_tokens)} is not a number of tokens")
    call = Call(provider=provider, model=model, operation="chat")
    return pipeline().prices.estimate(call, input_tokens, max_output_tokens)


def check_budget(model: str = "", *, provider: str = "", **labels: object) -> list[BudgetStatus]:
    """Return how the budgets of a call made here stand: under the labels in force, and those given.

    Nothing is raised: a budget with nothing `left` would refuse the call if it is a blocking one.

    Args:
        model: as it is asked for; budgets that match a model are left out without one.
        provider: the genai-prices provider id; budgets that match a provider are left out without one.
        labels: laid over those in force.
    """
    from ..budgets.spending import labels_of  # noqa: PLC0415
    from ..budgets.status import BudgetStatus  # noqa: PLC0415

    given = {name: str(value) for name, value in labels.items() if value is not None}
    call = Call(provider=provider, model=model, operation="chat", labels={**current_labels(), **given})
    return [
        BudgetStatus(
            budget=budget.name,
            labels=dict(account.labels),
            unit=account.unit,
            limit=account.to_float(account.limit),
            spent=account.to_float(account.spent),
            held=account.to_float(account.held),
            resets_at=account.resets_at,
        )
        for budget, account in pipeline().budgets.accounts_for(labels_of(call, model))
    ]
