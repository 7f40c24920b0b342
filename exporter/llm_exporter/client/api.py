"""Public functions: configure, record and add up calls, subscribe to them, estimate costs, check budgets."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Mapping
from os import PathLike
from typing import TYPE_CHECKING, Any, TypeVar, cast, get_args, overload

from .. import environment
from ..bounds import clean_text
from ..call import Call, ErrorKind, TokenType
from ..errors import ConfigError
from ..labels import current_labels
from ..wire.fields import MAX_COUNT
from . import default
from .default import pipeline
from .running_totals import Totals
from .tracing import sampled_span, trace_id_of

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
    """Record a call that was metered elsewhere, to any provider, with the current labels.

    Args:
        provider: the genai-prices provider id. Calls to other providers are counted but have no price.
        model: the model that answered.
        tokens: the number of tokens by type (`llm_exporter.types.TokenType`). The types are disjoint.
        operation: the operation, as in OpenTelemetry's `gen_ai.operation.name`.
        duration: seconds from the request to the last byte of the response.
        error: why the call failed; None if it succeeded.

    Returns:
        The call. Its cost is set on the worker thread, before subscribers get it.

    Raises:
        ValueError: if a token type, count, duration or error kind is invalid.

    Example:
        >>> from llm_exporter import record
        >>> tokens = {"input": 120, "output": 30}
        >>> call = record(provider="mistral", model="mistral-large-latest", tokens=tokens)
        >>> call.total_tokens
        150
    """
    for kind, number in tokens.items():
        if kind not in get_args(TokenType):
            raise ValueError(f"tokens: {kind!r} must be one of {', '.join(get_args(TokenType))}")
        if not isinstance(number, int) or isinstance(number, bool) or not 0 <= number <= MAX_COUNT:
            raise ValueError(f"tokens: {kind} must be a token count, not {number!r}")
    if not 0 <= duration < math.inf:
        raise ValueError(f"duration must be finite seconds, not {duration!r}")
    if error is not None and error not in get_args(ErrorKind):
        raise ValueError(f"error: {error!r} must be one of {', '.join(get_args(ErrorKind))}")
    call = Call(
        provider=provider,
        model=model,
        requested_model=model,
        operation=operation,
        labels=dict(current_labels()),
        tokens=cast("dict[TokenType, int]", {kind: number for kind, number in tokens.items() if number}),
        duration=duration,
        error=error,
        trace_id=trace_id_of(sampled_span()),
    )
    if environment.is_enabled():
        pipeline().record(call)
    return call


def configure(path: str | PathLike[str] | None = None) -> None:
    """Use a configuration file from now on.

    `instrument` does this with the file that `LLM_EXPORTER_CONFIG` names, unless a file is in use already.

    Args:
        path: a YAML file; None for the file that `LLM_EXPORTER_CONFIG` names, if it is set.

    Raises:
        llm_exporter.ConfigError: if the file cannot be used. The message lists every mistake by line and key.
    """
    if (path := path or environment.CONFIG.value) and environment.is_enabled():
        try:
            default.configure(path)
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

    Callbacks run one at a time on llm-exporter's worker thread, so a slow callback delays no LLM call. But
    later calls wait in memory, uncounted, until it returns: hand slow work to a thread of your own. An
    exception in a callback, also `SystemExit` and its like, is logged and counted in
    `llm_exporter_errors_total`.

    Args:
        callback: called with each object.
        to: the type of the objects: `Call`, `ThresholdCrossed` or `BudgetReached`.

    Example:
        >>> from llm_exporter import BudgetReached, subscribe, unsubscribe
        >>> subscribe(print, BudgetReached)
        >>> unsubscribe(print)
    """
    pipeline().subscribe(callback, to)


def unsubscribe(callback: Callable[[Any], object]) -> None:
    """Stop calling a callback. A callback that is not subscribed is ignored."""
    pipeline().unsubscribe(callback)


@overload
def totals() -> Totals: ...
@overload
def totals(by: str) -> dict[str, Totals]: ...
def totals(by: str = "") -> Totals | dict[str, Totals]:
    """Return what this process has spent since it started, or since `reset`.

    Waits for calls that have just ended, usually less than a millisecond. A forked process starts at 0.

    Args:
        by: a dimension: `provider`, `model`, `operation`, `agent`, `phase`, or any other label such as
            `session`. Calls without that label are in `unattributed`. After 10,000 values of a label, further
            ones are added up in `other`.

    Returns:
        The totals of all calls, or those by the value of a dimension, most expensive first.

    Example:
        >>> from llm_exporter import labels, record, reset, totals
        >>> reset()
        >>> with labels(agent="planner"):
        ...     call = record(provider="openai", model="gpt-4o", tokens={"input": 1000, "output": 500})
        >>> totals(by="agent")["planner"].cost_usd
        0.0075
        >>> totals().calls
        1
    """
    running = pipeline().flushed_totals()
    return running.by(by) if by else running.total()


def reset() -> None:
    """Start the totals of this process over at 0. Metrics, budgets and the service are not affected."""
    pipeline().flushed_totals().reset()


def flush(timeout: float = 5.0) -> bool:
    """Wait until every call recorded so far is counted, and has reached the service or is safe on disk.

    For code that is frozen or killed as soon as it returns, such as an AWS Lambda function. A program that
    ends by itself needs no `flush`. Never raises because of the service: while it is unavailable, calls wait
    on disk, and `flush` returns as soon as they are there and one more attempt to send them has failed.

    In a coroutine, use `await asyncio.to_thread(llm_exporter.flush)`, because `flush` blocks.

    Args:
        timeout: seconds to wait at most.

    Returns:
        True if every call is counted and, if there is a service, acknowledged. False if the time ran out, the
        service is unavailable, or it rejected calls since the last `flush`.

    Raises:
        ValueError: if the timeout is negative, or no number of seconds that one can wait.

    Example:
        >>> from llm_exporter import flush, record
        >>> call = record(provider="openai", model="gpt-4o", tokens={"input": 1000, "output": 500})
        >>> flush()
        True
        >>> call.total_cost
        0.0075
    """
    if not 0 <= timeout <= threading.TIMEOUT_MAX:
        raise ValueError(f"timeout must be seconds from 0 to {threading.TIMEOUT_MAX:.0f}, not {timeout!r}")
    return pipeline().deliver(timeout) if environment.is_enabled() else True


def estimate_cost(
    model: str, input_tokens: float, max_output_tokens: float = 0, *, provider: str = ""
) -> float | None:
    """Return the cost of a call in USD at the standard tier, if none of its prompt is cached.

    Args:
        model: the requested model.
        input_tokens: the number of tokens in the prompt.
        max_output_tokens: the maximum number of tokens in the response.
        provider: the genai-prices provider id; by default, the provider whose model it is, or the only one
            with an override for it.

    Returns:
        The cost at the prices that calls are counted with. An unknown model costs the configured fallback;
        without a fallback, the result is None.

    Raises:
        ValueError: if a number of tokens is negative or not whole.

    Example:
        >>> from llm_exporter import estimate_cost
        >>> estimate_cost("gpt-4o", 1000, 500)
        0.0075
    """
    from ..pricing.tariffs import Terms  # noqa: PLC0415

    for number in (input_tokens, max_output_tokens):
        if number < 0:
            raise ValueError(f"the number of tokens is negative: {number}")
        if number != number // 1:
            raise ValueError(f"the number of tokens is not whole: {number}")
    terms = Terms(provider=provider, model=model)
    return pipeline().prices.estimate(terms, time.time(), int(input_tokens), int(max_output_tokens))


def check_budget(model: str = "", *, provider: str = "", **labels: object) -> list[BudgetStatus]:
    """Return the state of the budgets that apply to a call made here, without raising `BudgetExceeded`.

    A blocking budget with nothing `left` would reject the call.

    Args:
        model: the requested model. Without it, budgets that match a model are not returned.
        provider: the genai-prices provider id. Without it, budgets that match a provider are not returned.
        labels: labels of the call, in addition to the current ones.

    Example:
        >>> from llm_exporter import check_budget, labels
        >>> with labels(project="nightly"):
        ...     check_budget()
        []
    """
    from ..budgets.spending import labels_of  # noqa: PLC0415
    from ..budgets.status import BudgetStatus  # noqa: PLC0415

    given = {clean_text(name): clean_text(str(value)) for name, value in labels.items() if value is not None}
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
