"""Prometheus reads every value from a scrape, whatever the labels are."""

from __future__ import annotations

import subprocess
import threading
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, make_server

import pytest
import yaml
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_text

from llm_exporter.client.pipeline import Pipeline
from llm_exporter.config.model import Budget, Config
from llm_exporter.metrics.http import WsgiMetrics
from llm_exporter.metrics.protobuf import CONTENT_TYPE
from support.awaiting import until
from support.calls import a_call
from tools.binaries import environment, find
from tools.stack import Prometheus

TEXTS = {
    "line\nfeed": "line?feed",
    'llm_calls_total{agent="forged"} 9\n': 'llm_calls_total{agent="forged"} 9?',
    'quote"d': 'quote"d',
    "back\\slash": "back\\slash",
    "back\\nslash": "back\\nslash",
    "ends with \\": "ends with \\",
    '"} 1\n# EOF\n': '"} 1?# EOF?',
    "{},=#": "{},=#",
    "nul\0": "nul?",
    "\x1b[31mred\x7f\x85": "?[31mred??",
    "line\u2028separator": "line?separator",
    "surrogate\ud800": "surrogate?",
    "pair\ud83d\ude42": "pair??",
    "Zürich 東京 🙂": "Zürich 東京 🙂",
    "\ufeffbom": "\ufeffbom",
    " spaces ": " spaces ",
    "x" * 10_000_000: "x" * 256,
    "東" * 300: "東" * 85,
}
"""Texts from outside, and as they are labels."""
PROVIDERS = 2000
ACCEPT = {
    "text": "text/plain",
    "openmetrics": "application/openmetrics-text; version=1.0.0",
    "protobuf": CONTENT_TYPE,
}
LABELS = ("provider", "model", "operation", "agent", "phase", "team")
BUDGET = 'all "agents"\\'

CALLS = {
    **{("openai", "gpt-5", "chat", text, text, text): 1.0 for text in TEXTS.values()},
    **{(text, text, text, "planner", "plan", "unattributed"): 1.0 for text in TEXTS.values()},
    **{
        (f"p{number}?", "gpt-5", "chat", "planner", "plan", "unattributed"): 1.0
        for number in range(PROVIDERS)
    },
}
"""The expected values of `llm_calls_total` by `LABELS`."""


@pytest.fixture
def hostile(pipeline: Pipeline) -> Pipeline:
    """A pipeline with one call for each text as each label, and one for each of many providers."""
    budget = Budget(name=BUDGET, period="total", usd=Decimal(1000), per=("agent",))
    pipeline.configure(Config(labels=("team",), max_series=200_000, budgets=(budget,)))
    for text in TEXTS:
        pipeline.record(a_call(labels={"agent": text, "phase": text, "team": text}))
        pipeline.record(a_call(provider=text, model=text, operation=text))
    for number in range(PROVIDERS):
        pipeline.record(a_call(provider=f"p{number}\n"))
    assert pipeline.flush(300)
    return pipeline


class _Quiet(WSGIRequestHandler):
    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
        """Log nothing."""


@pytest.fixture
def port(hostile: Pipeline) -> Iterator[int]:
    """Serve the metrics in the format that the path names, without zeros first."""
    metrics = WsgiMetrics(lambda: hostile.metrics)

    def app(environ: Any, start_response: Any) -> Any:
        environ.pop("HTTP_X_PROMETHEUS_SCRAPE_TIMEOUT_SECONDS", None)
        environ["HTTP_ACCEPT"] = ACCEPT[environ["PATH_INFO"].strip("/")]
        return metrics(environ, start_response)

    server = make_server("127.0.0.1", 0, app, handler_class=_Quiet)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server.server_port
    server.shutdown()
    server.server_close()
    thread.join()


def test_prometheus_reads_every_value_in_every_format(port: int, tmp_path: Path) -> None:
    jobs = [
        {
            "job_name": name,
            "metrics_path": f"/{name}",
            "static_configs": [{"targets": [f"127.0.0.1:{port}"]}],
        }
        for name in ACCEPT
    ]
    config = tmp_path / "prometheus.yml"
    times = {"scrape_interval": "10s", "scrape_timeout": "10s"}
    config.write_text(yaml.safe_dump({"global": times, "scrape_configs": jobs}))
    with Prometheus.start(config=config, storage=tmp_path) as prometheus:
        # Over an hour, because a busy machine may miss a scrape.
        until(lambda: len(prometheus.query("max_over_time(up[1h]) == 1")) == len(ACCEPT), 300)
        shown: dict[str, Any] = {}
        for job in ACCEPT:
            counted = prometheus.query(f'last_over_time(llm_calls_total{{job="{job}"}}[1h])')
            assert {tuple(one.labels[name] for name in LABELS): one.value for one in counted} == CALLS
            limits = prometheus.query(f'last_over_time(llm_budget_limit_usd{{job="{job}"}}[1h])')
            assert {one.labels["agent"]: one.value for one in limits} == dict.fromkeys(
                ("planner", *TEXTS.values()), 1000.0
            )
            assert {one.labels["budget"] for one in limits} == {BUDGET}
            # The names of the series, and the buckets of histograms, are the same in all formats.
            latency = prometheus.query(
                f'last_over_time({{__name__=~"llm_latency_.*", agent="\ufeffbom", job="{job}"}}[1h])'
                " or label_replace("
                f'last_over_time({{__name__=~"llm_exporter_s.*", job="{job}"}}[1h]), "x", "1", "", "")'
            )
            shown[job] = sorted((sorted({**one.labels, "job": ""}.items()), one.value) for one in latency)
        assert len(shown["text"]) > 14
        assert shown["text"] == shown["openmetrics"] == shown["protobuf"]


@pytest.mark.parametrize(("openmetrics", "parse"), [(False, parse_text), (True, parse_openmetrics)])
def test_the_parsers_of_the_client_library_read_every_value(
    hostile: Pipeline, *, openmetrics: bool, parse: Any
) -> None:
    text = b"".join(hostile.metrics.text(scrape=False, openmetrics=openmetrics)).decode()
    assert {
        tuple(sample.labels[name] for name in LABELS): sample.value
        for family in parse(text)
        for sample in family.samples
        if sample.name == "llm_calls_total"
    } == CALLS


def test_promtool_accepts_the_text(hostile: Pipeline) -> None:
    promtool = find("promtool")
    text = b"".join(hostile.metrics.text(scrape=False, openmetrics=False))
    result = subprocess.run(
        [promtool, "check", "metrics"],
        input=text,
        capture_output=True,
        check=False,
        cwd=promtool.parents[1],
        env=environment(promtool),
    )
    assert (result.returncode, result.stderr) == (0, b"")
