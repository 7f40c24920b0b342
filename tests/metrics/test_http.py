"""`/metrics` over HTTP, from a separate server and mounted in other applications."""

from __future__ import annotations

import asyncio
import gzip
import socket
import threading
from collections.abc import Callable, Iterator
from typing import Any
from urllib.request import Request, urlopen
from wsgiref.util import setup_testing_defaults

import pytest
from prometheus_client.openmetrics import parser as openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_text
from starlette.applications import Starlette
from starlette.routing import Mount
from starlette.testclient import TestClient

import llm_exporter
from llm_exporter.metrics.collector import Metrics
from llm_exporter.metrics.http import AsgiMetrics, MetricsResponse, respond
from support.metered import Metered
from support.protobuf_messages import delimited

OPENMETRICS = "application/openmetrics-text; version=1.0.0; charset=utf-8"


def over_http(accept: str) -> tuple[str, str]:
    server = llm_exporter.start_http_server(port=0)
    try:
        request = Request(f"http://127.0.0.1:{server.port}/metrics", headers={"accept": accept})
        with urlopen(request) as response:
            return response.headers["content-type"], response.read().decode()
    finally:
        server.close()


def over_asgi(accept: str) -> tuple[str, str]:
    app = Starlette(routes=[Mount("/metrics", llm_exporter.make_asgi_app())])
    with TestClient(app) as client:
        response = client.get("/metrics/", headers={"accept": accept})
    return response.headers["content-type"], response.text


def over_wsgi(accept: str) -> tuple[str, str]:
    environ: dict[str, Any] = {"HTTP_ACCEPT": accept}
    setup_testing_defaults(environ)
    start: list[Any] = []
    body = b"".join(
        llm_exporter.make_wsgi_app()(environ, lambda status, headers: start.extend((status, dict(headers))))
    )
    assert start[0] == "200 OK"
    return start[1]["Content-Type"], body.decode()


@pytest.mark.parametrize("get", [over_http, over_asgi, over_wsgi])
def test_the_accept_header_chooses_the_format(
    get: Callable[[str], tuple[str, str]], metered: Metered
) -> None:
    with llm_exporter.labels(agent="planner"):
        llm_exporter.record(provider="openai", model="gpt-4o", tokens={"input": 1000})
    kind, text = get("text/plain")
    assert kind.startswith("text/plain; version=")
    assert _cost(parse_text(text)) == 0.0025
    kind, text = get(OPENMETRICS)
    assert kind.startswith("application/openmetrics-text")
    assert text.endswith("# EOF\n")
    assert _cost(openmetrics.text_string_to_metric_families(text)) == 0.0025  # type: ignore[no-untyped-call]


PROTOBUF = "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited"


@pytest.mark.parametrize(
    ("accept", "kind"),
    [
        # What Prometheus 2.42 and 3.16 send, with and without the features that need the protobuf format.
        (
            f"{PROTOBUF},application/openmetrics-text;version=1.0.0;q=0.8,"
            "application/openmetrics-text;version=0.0.1;q=0.75,text/plain;version=0.0.4;q=0.5,*/*;q=0.1",
            "protobuf",
        ),
        (
            f"{PROTOBUF};q=0.6,application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.5,"
            "text/plain;version=1.0.0;escaping=allow-utf-8;q=0.3,*/*;q=0.2",
            "protobuf",
        ),
        (
            "application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,"
            "text/plain;version=0.0.4;q=0.5,*/*;q=0.1",
            "openmetrics",
        ),
        (f"text/plain;version=0.0.4;q=0.6,{PROTOBUF};q=0.5", "text"),
        (f"{PROTOBUF};q=0.5,application/openmetrics-text;version=1.0.0;q=0.6", "openmetrics"),
        (f"{PROTOBUF}, text/plain", "protobuf"),
        (f"text/plain, {PROTOBUF}", "text"),
        (f"{PROTOBUF};q=0", "text"),
        (f"{PROTOBUF};q=high", "text"),
        (
            "Application/vnd.google.protobuf; Encoding=delimited; proto=io.prometheus.client.MetricFamily",
            "protobuf",
        ),
        ("application/vnd.google.protobuf", "text"),
        ("application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=text", "text"),
        ("application/vnd.google.protobuf;proto=other;encoding=delimited", "text"),
        ("*/*", "text"),
        (",;q=,=", "text"),
        ("", "text"),
    ],
)
def test_protobuf_is_only_for_those_who_prefer_it(accept: str, kind: str, metered: Metered) -> None:
    response = respond(Metrics, "GET", "name[]=llm_exporter_build_info", {"accept": accept})
    content_type = dict(response.headers)["Content-Type"]
    body = b"".join(response.body)
    assert dict(response.headers)["Content-Length"] == str(len(body))
    if kind == "protobuf":
        assert content_type == (
            "application/vnd.google.protobuf; proto=io.prometheus.client.MetricFamily; encoding=delimited"
        )
        (family,) = delimited(body)
        assert family[1] == [b"llm_exporter_build_info"]
    else:
        text = (
            "text/plain; version=0.0.4" if kind == "text" else "application/openmetrics-text; version=1.0.0"
        )
        assert content_type == f"{text}; charset=utf-8"
        assert body.startswith(b"# HELP llm_exporter_build_info ")


def _cost(families: Any) -> float:
    (value,) = [
        sample.value
        for family in families
        for sample in family.samples
        if sample.name == "llm_cost_usd_total"
    ]
    return float(value)


def test_one_metric_can_be_selected_by_name(metered: Metered) -> None:
    llm_exporter.record(provider="openai", model="gpt-4o", tokens={"input": 1000})
    server = llm_exporter.start_http_server(port=0)
    try:
        with urlopen(f"http://127.0.0.1:{server.port}/metrics?name[]=llm_calls_total") as response:
            names = {family.name for family in parse_text(response.read().decode())}
    finally:
        server.close()
    assert names == {"llm_calls"}


def test_rendering_does_not_block_the_event_loop(metered: Metered) -> None:
    """Rendering waits here until the event loop has run."""
    loop_ran = threading.Event()

    class Slow(Metrics):
        def text(self, **options: Any) -> Iterator[bytes]:
            yield b"# HELP"
            assert loop_ran.wait(30)
            yield from super().text(**options)

    async def serve() -> list[Any]:
        messages: list[Any] = []

        async def send(message: Any) -> None:
            messages.append(message)

        scope = {"type": "http", "method": "GET", "headers": []}
        serving = asyncio.create_task(AsgiMetrics(Slow)(scope, None, send))
        await asyncio.sleep(0)
        loop_ran.set()
        await serving
        return messages

    messages = asyncio.run(serve())
    assert messages[0]["status"] == 200
    assert b"llm_exporter_build_info" in b"".join(message["body"] for message in messages[1:])


@pytest.mark.parametrize(("method", "status"), [("OPTIONS", "200 OK"), ("POST", "405 Method Not Allowed")])
def test_only_get_returns_metrics(method: str, status: str) -> None:
    assert respond(Metrics, method, "", {}) == MetricsResponse(status, [("Allow", "GET, OPTIONS")], [])


def test_metrics_are_compressed_if_the_scraper_accepts_gzip(metered: Metered) -> None:
    plain = b"".join(respond(Metrics, "GET", "name[]=llm_calls_total", {}).body)
    response = respond(Metrics, "GET", "name[]=llm_calls_total", {"accept-encoding": "deflate, gzip;q=0.5"})
    assert ("Content-Encoding", "gzip") in response.headers
    assert ("Content-Length", str(len(b"".join(response.body)))) in response.headers
    assert gzip.decompress(b"".join(response.body)) == plain


def test_the_server_listens_on_loopback_only_and_stops_when_closed(metered: Metered) -> None:
    server = llm_exporter.start_http_server(port=0)
    with socket.create_connection(("127.0.0.1", server.port)) as connection:
        assert connection.getpeername()[0] == "127.0.0.1"
    server.close()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", server.port))


def test_a_port_in_use_is_an_error() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken, pytest.raises(OSError, match="in use"):
        llm_exporter.start_http_server(port=taken.getsockname()[1])


HOSTILE_VALUES = [
    pytest.param('a "quoted" \\ value\\n\\', 'a "quoted" \\ value\\n\\', id="quotes and backslashes"),
    pytest.param("two\nlines\r\nand\rmore", "two?lines??and?more", id="line ends"),
    pytest.param("\x00\x01\x1b[31m\x7f\x85\u2028", "???[31m???", id="control characters"),
    pytest.param(
        '"} 1\n# EOF\nllm_tokens_total{agent="x"} 9',
        '"} 1?# EOF?llm_tokens_total{agent="x"} 9',
        id="text that looks like the format",
    ),
    pytest.param(
        '{a=\'b\',le="+Inf"} # {trace_id="t"} 1.0',
        '{a=\'b\',le="+Inf"} # {trace_id="t"} 1.0',
        id="text that looks like an exemplar",
    ),
    pytest.param("🦩 Zwölf 漢字 \u202e\ufeff", "🦩 Zwölf 漢字 \u202e\ufeff", id="beyond ASCII"),
    pytest.param(" ", " ", id="a space"),
    pytest.param("x" * 1_000_000, "x" * 256, id="a million characters"),
]


@pytest.mark.parametrize(("value", "shown"), HOSTILE_VALUES)
def test_a_label_can_have_any_value(value: str, shown: str, metered: Metered) -> None:
    """The provider chooses the name of a model, the application that of an agent.

    Control characters are shown as `?`, and no more than 256 bytes.
    """
    with llm_exporter.labels(agent=value, phase=value):
        llm_exporter.record(provider="openai", model=value, tokens={"input": 1000})
    for accept, parse in (
        ("text/plain", parse_text),
        (OPENMETRICS, openmetrics.text_string_to_metric_families),
    ):
        families = list(parse(over_wsgi(accept)[1]))
        counted = {
            (*(sample.labels[name] for name in ("model", "agent", "phase")), sample.value)
            for family in families
            for sample in family.samples
            if sample.name == "llm_tokens_total"
        }
        assert counted == {(shown, shown, shown, 1000)}


@pytest.mark.parametrize("value", ["\ud800", "a\udfffb", "\udc80\udcff"])
def test_a_lone_surrogate_in_a_label_becomes_a_question_mark(value: str, metered: Metered) -> None:
    """It may come from a file name, or from a name in a response that was cut in two."""
    with llm_exporter.labels(agent=value):
        llm_exporter.record(provider="openai", model="gpt-4o", tokens={"input": 1000})
    shown = "".join("?" if "\ud800" <= character <= "\udfff" else character for character in value)
    for accept in ("text/plain", OPENMETRICS):
        assert f'agent="{shown}"' in over_wsgi(accept)[1]
    assert metered.total("llm_tokens_total", agent=shown) == 1000
