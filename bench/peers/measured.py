"""A program that calls OpenAI's SDK under one instrumentation, in the environment of that instrumentation.

It reads the responses as its first line, and then what to do, one word a line. It answers in JSON.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator
from importlib import import_module
from typing import Any

CALLS = 50
WARM = 20


def main() -> None:
    """Measure until the end of the input."""
    responses = json.loads(sys.stdin.readline())
    openai: Any = import_module("openai")
    cpu, memory = time.process_time(), _resident()
    flush = INSTRUMENTATIONS[sys.argv[1]]()
    _answer({"cpu": time.process_time() - cpu})
    client = _client(openai, responses)
    messages = [{"role": "user", "content": responses["prompt"]}]

    def call() -> None:
        client("whole").chat.completions.create(model="gpt-4o", messages=messages)

    def stream(name: str) -> None:
        deque(client(name).chat.completions.create(model="gpt-4o", messages=messages, stream=True), maxlen=0)

    actions: dict[str, Callable[[], object]] = {
        "call": lambda: _repeat(call, CALLS),
        "chunks": lambda: stream("chunks"),
        "piece": lambda: _repeat(lambda: stream("piece"), 5),
    }
    warm: dict[str, Callable[[], object]] = {**actions, "call": lambda: _repeat(call, WARM)}
    for line in sys.stdin:
        name = line.strip()
        if name == "memory":
            _answer({"memory": _resident() - memory})
            continue
        warm[name]()
        flush()
        everyone, caller = time.process_time(), time.thread_time()
        actions[name]()
        caller = time.thread_time() - caller
        flush()
        _answer({"caller": caller, "everyone": time.process_time() - everyone})


def _client(openai: Any, responses: dict[str, Any]) -> Callable[[str], Any]:
    """Return a function that returns a client by the name of its response."""
    httpx: Any = import_module(openai.DefaultHttpxClient.__mro__[1].__module__.partition(".")[0])

    class Chunks(httpx.SyncByteStream):  # type: ignore[misc]  # it is one of two packages
        def __init__(self, chunks: list[bytes]) -> None:
            self._chunks = chunks

        def __iter__(self) -> Iterator[bytes]:
            return iter(self._chunks)

    def client(name: str) -> Any:
        chunks = [chunk.encode() for chunk in responses[name]]
        kind = "application/json" if name == "whole" else "text/event-stream"
        transport = httpx.MockTransport(
            lambda _: httpx.Response(200, headers={"content-type": kind}, stream=Chunks(chunks))
        )
        return openai.OpenAI(api_key="k", http_client=openai.DefaultHttpxClient(transport=transport))

    return {name: client(name) for name in ("whole", "chunks", "piece")}.__getitem__


def _repeat(function: Callable[[], object], number: int) -> None:
    for _ in range(number):
        function()


def _resident() -> float:
    """Return the resident memory in MB."""
    with open("/proc/self/statm") as pages:
        return int(pages.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20


def _answer(answer: dict[str, float]) -> None:
    print(json.dumps(answer), flush=True)


def _nothing() -> Callable[[], object]:
    return lambda: None


def _ours() -> Callable[[], object]:
    ours: Any = import_module("llm_exporter")
    ours.instrument()
    default: Any = import_module("llm_exporter.client.default")
    return lambda: default.pipeline().flush(60)


def _opentelemetry() -> Callable[[], object]:
    flush = _providers()
    import_module("opentelemetry.instrumentation.genai.openai").OpenAIInstrumentor().instrument()
    return flush


def _openllmetry() -> Callable[[], object]:
    os.environ["TRACELOOP_TRACE_CONTENT"] = "false"
    flush = _providers()
    import_module("opentelemetry.instrumentation.openai").OpenAIInstrumentor().instrument()
    return flush


def _openlit() -> Callable[[], object]:
    flush = _providers()
    prices = {"chat": {"gpt-4o": {"promptPrice": 0.0025, "completionPrice": 0.01}}}
    path = f"{os.environ['TMPDIR']}/prices.json"
    with open(path, "w") as file:
        json.dump(prices, file)
    import_module("openlit").init(capture_message_content=False, pricing_json=path)
    return flush


def _providers() -> Callable[[], object]:
    """Set up OpenTelemetry to batch spans and events, aggregate metrics, and export them to nowhere."""
    trace: Any = import_module("opentelemetry.trace")
    metrics: Any = import_module("opentelemetry.metrics")
    logs: Any = import_module("opentelemetry._logs")
    sdk_trace: Any = import_module("opentelemetry.sdk.trace")
    sdk_metrics: Any = import_module("opentelemetry.sdk.metrics")
    sdk_logs: Any = import_module("opentelemetry.sdk._logs")
    trace_export: Any = import_module("opentelemetry.sdk.trace.export")
    metric_export: Any = import_module("opentelemetry.sdk.metrics.export")
    log_export: Any = import_module("opentelemetry.sdk._logs.export")

    class Nowhere(trace_export.SpanExporter):  # type: ignore[misc]  # not installed where types are checked
        def export(self, _: Any) -> Any:
            return trace_export.SpanExportResult.SUCCESS

    class NoLogs(log_export.LogRecordExporter):  # type: ignore[misc]
        def export(self, _: Any) -> Any:
            return log_export.LogRecordExportResult.SUCCESS

        def shutdown(self) -> None:
            pass

        def force_flush(self, timeout_millis: int = 0) -> bool:
            return True

    spans = sdk_trace.TracerProvider()
    spans.add_span_processor(trace_export.BatchSpanProcessor(Nowhere()))
    trace.set_tracer_provider(spans)
    metrics.set_meter_provider(sdk_metrics.MeterProvider([metric_export.InMemoryMetricReader()]))
    events = sdk_logs.LoggerProvider()
    events.add_log_record_processor(log_export.BatchLogRecordProcessor(NoLogs()))
    logs.set_logger_provider(events)

    def flush() -> None:
        spans.force_flush()
        events.force_flush()

    return flush


INSTRUMENTATIONS: dict[str, Callable[[], Callable[[], object]]] = {
    "none": _nothing,
    "llm-exporter": _ours,
    "opentelemetry": _opentelemetry,
    "openllmetry": _openllmetry,
    "openlit": _openlit,
}
"""Each sets up an instrumentation with its defaults, but without texts, and returns how to flush it."""

if __name__ == "__main__":
    main()
