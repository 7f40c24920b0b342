"""Alertmanager accepts our configurations, routes and inhibits as intended, and renders our templates."""

from __future__ import annotations

import json
import urllib.request
from pathlib import Path
from typing import Any

import pytest
import yaml

from support.awaiting import until
from support.bundle import PROMETHEUS, run
from tools.stack import Alertmanager

Json = dict[str, Any]

DEFAULT = PROMETHEUS / "alertmanager.yml"
COMPOSE = PROMETHEUS / "compose/alertmanager.yml"
EXAMPLE = PROMETHEUS / "examples/alertmanager.yml"


def settings(file: Path) -> Json:
    content: Json = yaml.safe_load(file.read_text())
    return content


@pytest.mark.parametrize("file", [DEFAULT, COMPOSE, EXAMPLE], ids=lambda file: file.parent.name)
def test_amtool_accepts_the_configuration(file: Path) -> None:
    assert "SUCCESS" in run("amtool", "check-config", file)


def test_the_compose_configuration_differs_only_in_the_address_and_the_token_of_the_exporter() -> None:
    content = settings(COMPOSE)
    (webhook,) = content["receivers"][0]["webhook_configs"]
    credentials = {"credentials_file": "/run/secrets/llm-exporter-token"}
    assert webhook.pop("http_config") == {"authorization": credentials}
    compose = yaml.safe_dump(content)

    assert compose.count("//exporter:9847/") == 1
    assert yaml.safe_load(compose.replace("//exporter:9847/", "//127.0.0.1:9847/")) == settings(DEFAULT)


def test_the_example_inhibits_like_the_default_and_also_notifies_the_live_page() -> None:
    default, example = settings(DEFAULT), settings(EXAMPLE)

    assert example["inhibit_rules"] == default["inhibit_rules"]
    assert example["receivers"][0] == default["receivers"][0]
    assert {each["name"] for each in example["receivers"]} == {
        "live-page",
        "platform",
        "search",
        "billing",
        "on-call",
        "search-on-call",
        "watchdog",
    }


def test_the_example_reads_every_secret_from_a_file() -> None:
    text = EXAMPLE.read_text()

    for key in ("api_url", "auth_password", "routing_key", "credentials", "smtp_auth_password"):
        assert f"{key}:" not in text
    for key in ("api_url_file", "smtp_auth_password_file", "routing_key_file", "credentials_file"):
        assert f"{key}: /etc/alertmanager/secrets/" in text


@pytest.mark.parametrize(
    ("labels", "receivers"),
    [
        ("severity=info", "live-page"),
        ("severity=info team=search", "live-page"),
        ("severity=warning", "live-page,platform"),
        ("severity=critical", "live-page,on-call,platform"),
        ("severity=warning team=search", "live-page,search"),
        ("severity=critical team=search", "live-page,search-on-call,search"),
        ("severity=warning team=billing", "live-page,billing"),
        ("severity=critical team=billing", "live-page,on-call,billing"),
        ("severity=warning team=unknown", "live-page,platform"),
        ("alertname=LLMWatchdog severity=none", "watchdog"),
    ],
)
def test_the_example_routes_by_severity_and_team(labels: str, receivers: str) -> None:
    run(
        "amtool",
        "config",
        "routes",
        "test",
        f"--config.file={EXAMPLE}",
        f"--verify.receivers={receivers}",
        *labels.split(),
    )


@pytest.mark.parametrize("file", [DEFAULT, COMPOSE], ids=lambda file: file.parent.name)
def test_the_watchdog_notifies_nobody_by_default(file: Path) -> None:
    watchdog = ("alertname=LLMWatchdog", "severity=none")
    test = ("config", "routes", "test", f"--config.file={file}")
    run("amtool", *test, "--verify.receivers=watchdog", *watchdog)
    run("amtool", *test, "--verify.receivers=live-page", "alertname=LLMCostSpike", "severity=warning")
    assert {"name": "watchdog"} in settings(file)["receivers"]


# ---- templates

OVERSPENT = {
    "status": "firing",
    "labels": {
        "alertname": "LLMCostOverThreshold",
        "severity": "critical",
        "agent": "planner",
        "model": "gpt-4o",
        "team": "search",
        "job": "llm-exporter",
    },
    "annotations": {
        "summary": "Threshold R&D <all> is exceeded: $21.00 spent in the current hour",
        "description": "$21.00 spent since the start of the hour (UTC), agent: planner, model: gpt-4o.",
        "dashboard_url": "https://grafana.example/d/llm-cost?var-job=j&var-agent=planner",
        "runbook_url": "https://runbooks.example#llmcostoverthreshold",
    },
}


def rendered(template: str, tmp_path: Path, alerts: list[Json], kind: str = "text", **data: Any) -> str:
    notification = {
        "status": "firing",
        "alerts": alerts,
        "groupLabels": {"alertname": "LLMCostOverThreshold"},
        "commonLabels": {"severity": "critical"},
        **data,
    }
    (tmp_path / "data.json").write_text(json.dumps(notification))
    return run(
        "amtool",
        "template",
        "render",
        f"--template.glob={PROMETHEUS}/templates/*.tmpl",
        f"--template.type={kind}",
        f'--template.text={{{{ template "{template}" . }}}}',
        f"--template.data={tmp_path}/data.json",
    ).strip()


def test_a_title_has_the_severity_and_the_summary_or_the_number_of_alerts(tmp_path: Path) -> None:
    one, two = [OVERSPENT], [OVERSPENT, OVERSPENT]

    assert rendered("llm.title", tmp_path, one) == (
        "CRITICAL: Threshold R&D <all> is exceeded: $21.00 spent in the current hour"
    )
    assert rendered("llm.title", tmp_path, two) == "CRITICAL: 2 x LLMCostOverThreshold"
    assert rendered("llm.title", tmp_path, two, commonLabels={}) == "FIRING: 2 x LLMCostOverThreshold"
    assert rendered("llm.title", tmp_path, two, status="resolved") == "RESOLVED: 2 x LLMCostOverThreshold"


def test_a_text_has_the_amount_the_labels_and_links(tmp_path: Path) -> None:
    assert rendered("llm.text", tmp_path, [OVERSPENT, {**OVERSPENT, "status": "resolved"}]) == (
        "Threshold R&D <all> is exceeded: $21.00 spent in the current hour\n"
        "$21.00 spent since the start of the hour (UTC), agent: planner, model: gpt-4o.\n"
        "agent planner, model gpt-4o, team search, job llm-exporter\n"
        "Dashboard: https://grafana.example/d/llm-cost?var-job=j&var-agent=planner\n"
        "Runbook: https://runbooks.example#llmcostoverthreshold\n"
        "\n"
        "Threshold R&D <all> is exceeded: $21.00 spent in the current hour (resolved)\n"
        "$21.00 spent since the start of the hour (UTC), agent: planner, model: gpt-4o.\n"
        "agent planner, model gpt-4o, team search, job llm-exporter\n"
        "Dashboard: https://grafana.example/d/llm-cost?var-job=j&var-agent=planner\n"
        "Runbook: https://runbooks.example#llmcostoverthreshold"
    )


def test_a_slack_message_is_escaped(tmp_path: Path) -> None:
    assert rendered("llm.slack", tmp_path, [OVERSPENT]) == (
        "*Threshold R&amp;D &lt;all&gt; is exceeded: $21.00 spent in the current hour*\n"
        "$21.00 spent since the start of the hour (UTC), agent: planner, model: gpt-4o.\n"
        "agent planner, model gpt-4o, team search, job llm-exporter\n"
        "<https://grafana.example/d/llm-cost?var-job=j&var-agent=planner|Dashboard> | "
        "<https://runbooks.example#llmcostoverthreshold|Runbook>"
    )


def test_an_email_is_escaped_html(tmp_path: Path) -> None:
    mail = rendered("llm.html", tmp_path, [OVERSPENT], kind="html")

    assert "Threshold R&amp;D &lt;all&gt; is exceeded: $21.00 spent in the current hour</h3>" in mail
    assert "<p>agent planner, model gpt-4o, team search, job llm-exporter</p>" in mail
    assert 'href="https://grafana.example/d/llm-cost?var-job=j&amp;var-agent=planner"' in mail


# ---- inhibition


def inhibited(alertmanager: Alertmanager, *alerts: dict[str, str]) -> list[str]:
    """Return the alerts that a real Alertmanager suppresses, as `name severity instance`."""
    request = urllib.request.Request(
        f"{alertmanager.url}/api/v2/alerts",
        json.dumps([{"labels": labels} for labels in alerts]).encode(),
        {"content-type": "application/json"},
    )
    with urllib.request.urlopen(request):
        pass

    suppressed: list[Json] = []

    def some_are_suppressed() -> bool:
        known = alertmanager.get("/api/v2/alerts")
        suppressed[:] = [each for each in known if each["status"]["state"] == "suppressed"]
        return len(known) == len(alerts) and bool(suppressed)

    until(some_are_suppressed)
    labels_of = (each["labels"] for each in suppressed)
    return sorted(
        " ".join([each["alertname"], each["severity"], each.get("instance", "-")]) for each in labels_of
    )


def test_a_critical_alert_inhibits_only_its_own_warning(tmp_path: Path) -> None:
    spent = {"alertname": "LLMCostOverThreshold", "job": "j", "instance": "a:1", "window": "hour"}
    with Alertmanager.start(config=DEFAULT, storage=tmp_path) as alertmanager:
        assert inhibited(
            alertmanager,
            {**spent, "threshold": "x", "severity": "critical"},
            {**spent, "threshold": "x", "severity": "warning"},
            {**spent, "threshold": "y", "severity": "warning"},
            {"alertname": "LLMCostSpike", "job": "j", "agent": "coder", "severity": "warning"},
        ) == ["LLMCostOverThreshold warning a:1"]


def test_an_exporter_that_is_down_inhibits_only_its_own_problems(tmp_path: Path) -> None:
    with Alertmanager.start(config=DEFAULT, storage=tmp_path) as alertmanager:
        assert inhibited(
            alertmanager,
            {"alertname": "LLMExporterDown", "severity": "warning", "job": "j", "instance": "a:1"},
            {"alertname": "LLMExporterErrors", "severity": "warning", "job": "j", "instance": "a:1"},
            {"alertname": "LLMExporterErrors", "severity": "warning", "job": "j", "instance": "b:1"},
            {"alertname": "LLMCallsDropped", "severity": "critical", "job": "j", "instance": "a:1"},
            {"alertname": "LLMCostOverThreshold", "severity": "critical", "job": "j", "instance": "a:1"},
        ) == ["LLMExporterErrors warning a:1"]


def test_an_absent_exporter_inhibits_no_alert_about_money(tmp_path: Path) -> None:
    with Alertmanager.start(config=DEFAULT, storage=tmp_path) as alertmanager:
        assert inhibited(
            alertmanager,
            {"alertname": "LLMExporterAbsent", "severity": "critical"},
            {"alertname": "LLMExporterDown", "severity": "warning", "job": "j", "instance": "a:1"},
            {"alertname": "LLMBudgetUsedUp", "severity": "critical", "job": "j", "budget": "team"},
            {"alertname": "LLMCostOverThreshold", "severity": "critical", "job": "j", "instance": "a:1"},
            {"alertname": "LLMCostSpike", "severity": "warning", "job": "j", "agent": "coder"},
            {"alertname": "LLMCallsDropped", "severity": "critical", "job": "j", "instance": "a:1"},
            {"alertname": "NodeDown", "severity": "critical", "instance": "n"},
        ) == ["LLMExporterDown warning a:1"]
