"""Calls know the OpenTelemetry trace that they belong to, and their series show it."""

from __future__ import annotations

import subprocess
import sys

import pytest
from opentelemetry import context, trace
from prometheus_client.openmetrics.parser import text_string_to_metric_families

import llm_exporter
from llm_exporter.call import Call
from llm_exporter.metrics.collector import Metrics
from support.metered import Metered

TRACE = 0x4BF92F3577B34DA6A3CE929D0E0E4736
SAMPLED, NOT_SAMPLED = trace.TraceFlags(1), trace.TraceFlags(0)


def record() -> Call:
    return llm_exporter.record(provider="openai", model="gpt-4o", tokens={"input": 1})


@pytest.mark.parametrize(
    ("flags", "expected"), [(SAMPLED, "4bf92f3577b34da6a3ce929d0e0e4736"), (NOT_SAMPLED, "")]
)
def test_a_call_has_the_trace_of_the_sampled_span_in_force(
    metered: Metered, flags: trace.TraceFlags, expected: str
) -> None:
    span = trace.NonRecordingSpan(trace.SpanContext(TRACE, 0x00F067AA0BA902B7, False, flags))
    token = context.attach(trace.set_span_in_context(span))
    try:
        call = record()
    finally:
        context.detach(token)

    assert call.trace_id == expected
    assert record().trace_id == "", "outside of the span"


def test_opentelemetry_is_not_imported_by_us() -> None:
    program = (
        "import sys, llm_exporter\n"
        "call = llm_exporter.record(provider='openai', model='gpt-4o', tokens={'input': 1})\n"
        "assert call.trace_id == ''\n"
        "assert not [name for name in sys.modules if name.startswith('opentelemetry')]\n"
    )
    done = subprocess.run([sys.executable, "-c", program], check=False, capture_output=True, text=True)

    assert (done.returncode, done.stderr) == (0, "")


def traced(trace_id: str, *, duration: float = 0.7) -> Call:
    return Call(
        provider="openai",
        model="gpt-4o",
        operation="chat",
        started=1_800_000_000.0,
        duration=duration,
        cost={"input": 0.25},
        trace_id=trace_id,
    )


def test_latency_and_cost_show_the_trace_of_their_last_call() -> None:
    metrics = Metrics()
    for trace_id, duration in (("a" * 32, 0.7), ("b" * 32, 0.7), ("c" * 32, 70.0), ("", 0.7)):
        metrics.record(traced(trace_id, duration=duration))

    text = b"".join(metrics.text(scrape=False, openmetrics=True)).decode()
    found = [
        (sample.name, sample.exemplar.labels, sample.exemplar.value, float(sample.exemplar.timestamp))
        for family in text_string_to_metric_families(text)  # type: ignore[no-untyped-call]
        for sample in family.samples
        if sample.exemplar
    ]
    assert sorted(found, key=str) == [
        ("llm_cost_usd_total", {"trace_id": "c" * 32}, 0.25, 1_800_000_070.0),
        ("llm_latency_seconds_bucket", {"trace_id": "b" * 32}, 0.7, 1_800_000_000.7),
        ("llm_latency_seconds_bucket", {"trace_id": "c" * 32}, 70.0, 1_800_000_070.0),
    ]


def test_the_text_format_has_no_exemplars() -> None:
    metrics = Metrics()
    metrics.record(traced("a" * 32))

    assert b"trace_id" not in b"".join(metrics.text(scrape=False, openmetrics=False))
