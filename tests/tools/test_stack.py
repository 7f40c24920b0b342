"""Real servers with our files: Prometheus scrapes and records, alerts reach Alertmanager, and all stop."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from math import isnan
from pathlib import Path
from typing import TypeVar

import prometheus_client
import pytest
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from llm_exporter.bundle.files import bundle
from llm_exporter.metrics.specs import METRICS
from support.awaiting import DEADLINE, until
from tools import binaries, stack
from tools.stack import Alertmanager, Grafana, Prometheus, ServerFailed, prometheus_config, start_stack

T = TypeVar("T")

MODELS = ("gpt-4o", "claude-sonnet-5")


def gone(pid: int) -> bool:
    """Return whether no process of a server's process group is left."""
    try:
        os.killpg(pid, 0)
    except ProcessLookupError:
        return True
    return False


class Page:
    """A real /metrics page with every exported metric."""

    def __init__(self) -> None:
        registry = CollectorRegistry()
        self._children: list[Counter | Gauge | Histogram] = []
        kinds = {"counter": Counter, "gauge": Gauge, "histogram": Histogram}
        for spec in METRICS:
            metric = kinds[spec.type](spec.name, spec.help, spec.labels, registry=registry)
            for model in MODELS if "model" in spec.labels else ("",):
                values = {**dict.fromkeys(spec.labels, "x"), "model": model}
                labels = {label: values[label] for label in spec.labels}
                self._children.append(metric.labels(**labels) if labels else metric)
        self._server, self._thread = prometheus_client.start_http_server(0, "127.0.0.1", registry)
        self.address = f"127.0.0.1:{self._server.server_port}"

    def spend(self) -> None:
        """Add 0.25 to every counter and gauge, and observe it in every histogram."""
        for child in self._children:
            if isinstance(child, Histogram):
                child.observe(0.25)
            else:
                child.inc(0.25)

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


@pytest.fixture(scope="module")
def page() -> Iterator[Page]:
    page = Page()
    yield page
    page.close()


@pytest.fixture(scope="module")
def prometheus(page: Page, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prometheus]:
    """Start a real Prometheus with our files and short intervals; it scrapes before and after two calls."""
    directory = tmp_path_factory.mktemp("prometheus")
    config = prometheus_config(directory / "config", targets=[page.address])
    for file in (config, *(directory / "config/rules").glob("*.yml")):
        # Some groups are evaluated every five minutes, too long for a test.
        file.write_text(
            re.sub(r"^( *\w*(?:interval|timeout)): \d+[ms]", r"\1: 1s", file.read_text(), flags=re.MULTILINE)
        )
    with Prometheus.start(config=config, storage=directory) as server:
        until(lambda: server.query("llm_cost_usd_total"))
        page.spend()
        until(lambda: [each for each in server.query("llm_cost_usd_total") if each.value == 0.25])
        page.spend()
        recorded = "job_provider_model_le:llm_time_to_first_token_seconds_bucket:rate5m > 0"
        until(lambda: server.query(recorded))
        yield server
    assert gone(server.pid)


def test_prometheus_scrapes_the_targets_file_as_job_llm_exporter(prometheus: Prometheus, page: Page) -> None:
    (up,) = prometheus.query("up")

    assert up.value == 1
    assert up.labels == {"__name__": "up", "job": "llm-exporter", "instance": page.address}


def test_prometheus_has_the_values_of_the_page(prometheus: Prometheus) -> None:
    spent = until(
        lambda: [
            each for each in prometheus.query("sum by (model) (llm_cost_usd_total)") if each.value == 0.5
        ]
    )

    assert sorted(each.labels["model"] for each in spent) == sorted(MODELS)


def test_the_cost_of_a_model_increases_within_seconds_of_a_call(prometheus: Prometheus) -> None:
    increased = prometheus.query("sum by (model) (increase(llm_cost_usd_total[5m]))")

    assert sorted(each.labels["model"] for each in increased) == sorted(MODELS)
    assert all(0.25 < each.value < 1 for each in increased)


RECORDED_LATER = (":increase15m", ":usual", ":forecast", "_usual", ":copied")
"""The ends of names of what is recorded after a quarter of an hour, a day or an outage."""
NATIVE = tuple(
    f":{each.name}{end}:rate5m" for each in METRICS if each.type == "histogram" for end in ("", "_native")
)
"""The ends of names of what is recorded of native histograms, which Prometheus does not scrape here."""


def numbers(prometheus: Prometheus, name: str) -> bool:
    """Return whether a rule has recorded numbers only. A ratio is NaN until its parts are scraped."""
    samples = prometheus.query(name)
    return bool(samples) and not any(isnan(each.value) for each in samples)


def test_every_recording_rule_records_numbers(prometheus: Prometheus) -> None:
    for group in prometheus.get("/api/v1/rules")["data"]["groups"]:
        for rule in group["rules"]:
            if rule["type"] == "recording" and not rule["name"].endswith(RECORDED_LATER + NATIVE):
                until(lambda name=rule["name"]: numbers(prometheus, name))  # type: ignore[misc]


def test_a_rejected_query_raises_with_the_reason(prometheus: Prometheus) -> None:
    with pytest.raises(ServerFailed, match=r"Prometheus responded with 400 to .*parse error"):
        prometheus.query("sum(")


def test_alertmanager_runs_with_our_config_and_stops_with_the_block(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = bundle("prometheus") / "alertmanager.yml"
    monkeypatch.chdir(tmp_path)

    with Alertmanager.start(config=config, storage=Path()) as server:
        receivers = {each["name"] for each in server.get("/api/v2/receivers")}
        assert receivers == {"live-page", "watchdog"}
        assert server.get("/api/v2/status")["cluster"]["status"] == "disabled"
        assert not gone(server.pid)

    assert gone(server.pid)
    server.stop()  # stopping twice is harmless


def test_a_server_that_exits_raises_with_the_end_of_its_log(tmp_path: Path) -> None:
    config = tmp_path / "prometheus.yml"
    config.write_text("nonsense: true\n")

    with pytest.raises(
        ServerFailed, match=r"(?s)Prometheus exited with status [12]:\n.*nonsense not found in type"
    ):
        Prometheus.start(config=config, storage=tmp_path)


def test_a_server_that_never_becomes_ready_is_stopped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sleeper = tmp_path / "prometheus"
    sleeper.write_text(f"#!/bin/sh\necho $$ > {tmp_path}/pid\necho still starting\nsleep 600 & wait\n")
    sleeper.chmod(0o755)
    monkeypatch.setattr(stack, "find", lambda name: sleeper)
    monkeypatch.setattr(stack, "START_TIMEOUT", 1.0)

    with pytest.raises(ServerFailed, match="Prometheus was not ready after 1 s:\nstill starting"):
        Prometheus.start(config=tmp_path, storage=tmp_path)

    assert until(lambda: gone(int((tmp_path / "pid").read_text())), deadline=5)


def test_a_server_that_ignores_sigterm_is_killed_with_its_children(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stubborn = tmp_path / "prometheus"
    stubborn.write_text(
        f"#!/bin/sh\ntrap '' TERM\necho $$ > {tmp_path}/pid\nsleep 600 &\nwhile :; do sleep 600; done\n"
    )
    stubborn.chmod(0o755)
    monkeypatch.setattr(stack, "find", lambda name: stubborn)
    monkeypatch.setattr(stack, "START_TIMEOUT", 0.5)
    monkeypatch.setattr(stack, "STOP_TIMEOUT", 0.5)

    with pytest.raises(ServerFailed):
        Prometheus.start(config=tmp_path, storage=tmp_path)

    assert until(lambda: gone(int((tmp_path / "pid").read_text())), deadline=5)


def test_ctrl_c_stops_all_servers(tmp_path: Path) -> None:
    script = f"""
import pathlib, time
from tools.stack import start_stack
with start_stack(exporter="127.0.0.1:1", directory=pathlib.Path({str(tmp_path)!r})) as stack:
    print(*(server.pid for server in stack.servers), flush=True)
    time.sleep(600)
"""
    with subprocess.Popen(
        [sys.executable, "-c", script], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as parent:
        assert parent.stdout is not None
        servers = [int(pid) for pid in parent.stdout.readline().split()]
        ran = [not gone(pid) for pid in servers]
        parent.send_signal(signal.SIGINT)
        _, stderr = parent.communicate(timeout=DEADLINE)

    assert ran[:2] == [True, True]
    assert stderr.endswith("KeyboardInterrupt\n")
    assert all(gone(pid) for pid in servers)


def test_the_stack_connects_its_servers_and_lists_missing_ones(page: Page, tmp_path: Path) -> None:
    with start_stack(exporter=page.address, directory=tmp_path) as running:
        alertmanager, prometheus, *grafana = running.servers
        assert isinstance(alertmanager, Alertmanager)
        assert isinstance(prometheus, Prometheus)
        assert (
            f"url: http://{page.address}/api/v1/alerts\n"
            in alertmanager.get("/api/v2/status")["config"]["original"]
        )
        alertmanagers = until(lambda: prometheus.get("/api/v1/alertmanagers")["data"]["activeAlertmanagers"])
        assert alertmanagers == [{"url": f"{alertmanager.url}/api/v2/alerts"}]
        until(lambda: [up for up in prometheus.query("up") if up.labels["instance"] == page.address])
        # Only Grafana may be missing.
        missing = ["grafana is not available: no grafana or grafana-server on PATH"]
        assert running.missing == ([] if grafana else missing)

    assert all(gone(server.pid) for server in running.servers)


def test_a_stack_runs_without_a_server_that_is_not_available(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def find(name: str) -> Path:
        if name == "prometheus":
            return binaries.find(name)
        raise binaries.BinaryUnavailable(f"{name}: not today")

    monkeypatch.setattr(stack, "find", find)

    with start_stack(exporter="127.0.0.1:1", directory=tmp_path) as running:
        assert [server.name for server in running.servers] == ["Prometheus"]
        assert running.missing == ["alertmanager: not today", "grafana: not today"]


def test_a_port_in_use_is_not_picked() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert stack.free_port(port) not in {0, port}

    assert stack.free_port(port) == port


def test_the_config_differs_from_the_shipped_one_in_its_addresses_only(tmp_path: Path) -> None:
    config = prometheus_config(tmp_path, targets=["127.0.0.1:1", "127.0.0.1:2"])

    assert config.read_text() == (bundle("prometheus") / "prometheus.yml").read_text()
    assert (tmp_path / "targets/demo.yml").read_text() == '[{"targets": ["127.0.0.1:1", "127.0.0.1:2"]}]'
    assert list((tmp_path / "alertmanagers").iterdir()) == []
    assert (tmp_path / "rules/models.yml").exists()


def test_rules_and_dashboards_have_the_labels_that_the_servers_start_with(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    started: dict[str, dict[str, Path]] = {}

    class Started:
        url = "http://127.0.0.1:9"

        def __enter__(self) -> Started:
            return self

        def __exit__(self, *error: object) -> None:
            pass

    for kind in (Alertmanager, Prometheus, Grafana):
        monkeypatch.setattr(
            kind, "start", lambda name=kind.name, **how: started.setdefault(name, how) and Started()
        )
    with start_stack(exporter="127.0.0.1:1", directory=tmp_path, labels=("team",)) as running:
        assert running.missing == []

    rules = started["Prometheus"]["config"].parent / "rules"
    assert "job_team:llm_cost_usd:increase" in (rules / "increases.yml").read_text()
    assert {file.name for file in rules.iterdir()} == {
        file.name for file in (bundle("prometheus") / "rules").iterdir()
    }
    assert '"Cost by team"' in (started["Grafana"]["dashboards"] / "llm-cost.json").read_text()
    settings = stack.grafana_environment(
        prometheus="x", storage=tmp_path, port=1, dashboards=started["Grafana"]["dashboards"]
    )
    assert settings["LLM_EXPORTER_DASHBOARDS"] == str(tmp_path / "bundle/grafana/dashboards")


def test_grafana_is_readable_on_loopback_and_sends_no_reports(tmp_path: Path) -> None:
    settings = stack.grafana_environment(prometheus="http://127.0.0.1:9", storage=tmp_path, port=3001)
    other = stack.grafana_environment(prometheus="http://127.0.0.1:9", storage=tmp_path, port=3001)

    assert settings["LLM_EXPORTER_PROMETHEUS_URL"] == "http://127.0.0.1:9"
    assert settings["GF_SERVER_HTTP_ADDR"] == "127.0.0.1"
    assert settings["GF_AUTH_ANONYMOUS_ORG_ROLE"] == "Viewer"
    assert settings["GF_SECURITY_ADMIN_PASSWORD"] != other["GF_SECURITY_ADMIN_PASSWORD"]
    assert settings["GF_ANALYTICS_REPORTING_ENABLED"] == "false"
    for name in (
        "GF_PATHS_PROVISIONING",
        "LLM_EXPORTER_DASHBOARDS",
        "GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH",
    ):
        assert Path(settings[name]).exists()


@pytest.mark.parametrize("files", ["conf", "share/grafana/conf"])
def test_the_home_directory_of_grafana_is_found(tmp_path: Path, files: str) -> None:
    defaults = tmp_path / files / "defaults.ini"
    defaults.parent.mkdir(parents=True)
    defaults.touch()

    assert stack._grafana_home(tmp_path / "bin" / "grafana") == defaults.parents[1]
