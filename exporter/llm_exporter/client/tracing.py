"""The OpenTelemetry span in force, if the program uses OpenTelemetry: nothing here imports it."""

from __future__ import annotations

from sys import modules
from typing import Any

from .guard import report_error


def sampled_span() -> Any:
    """Return the `SpanContext` of the span in force; None without one, or if its trace is not kept."""
    trace = modules.get("opentelemetry.trace")
    if trace is None:
        return None
    try:
        context = trace.get_current_span().get_span_context()
        is_kept = context.is_valid and context.trace_flags.sampled
    except Exception as error:
        report_error("tracing", error)
        return None
    return context if is_kept else None


def trace_id_of(span: Any) -> str:
    """Return the trace id of a `SpanContext` as 32 hex digits; an empty string for None."""
    return "" if span is None else format(span.trace_id, "032x")
