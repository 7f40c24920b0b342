"""Every alert has unit tests in which it fires and does not fire, links, and a runbook."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from support.bundle import (
    PROMETHEUS,
    REPOSITORY,
    exported_series,
    recorded_series,
    run,
    unknown_names,
)

Json = dict[str, Any]
Labels = frozenset[tuple[str, str]]

DASHBOARDS = {"llm-agents", "llm-budgets", "llm-cost", "llm-exporter", "llm-latency"}
ADDED_LABELS = {"alertname", "job", "instance"}
"""The labels that Prometheus adds."""

RULE_FILES = sorted((PROMETHEUS / "rules").glob("*.yml"))
ALERTS: list[Json] = [
    rule
    for file in RULE_FILES
    for group in yaml.safe_load(file.read_text())["groups"]
    for rule in group["rules"]
    if "alert" in rule
]
TESTS: list[Json] = [
    test
    for file in sorted((PROMETHEUS / "tests").glob("*.yml"))
    for test in yaml.safe_load(file.read_text())["tests"]
]


def name_of(alert: Json) -> str:
    return " ".join([alert["alert"], *alert["labels"].values()])


every_alert = pytest.mark.parametrize("alert", ALERTS, ids=name_of)
every_alert_but_the_watchdog = pytest.mark.parametrize(
    "alert", [alert for alert in ALERTS if alert["alert"] != "LLMWatchdog"], ids=name_of
)


def minutes(duration: str) -> int:
    """Return the minutes of an evaluation time such as `26h50m`."""
    return sum(int(number) * {"h": 60, "m": 1}[unit] for number, unit in re.findall(r"(\d+)([hm])", duration))


def expectations(test: Json, alert: Json) -> list[tuple[int, list[Json]]]:
    """Return the minutes at which a unit test checks a rule, each with the alerts expected of that rule."""
    own: Labels = frozenset(alert["labels"].items())
    return sorted(
        (
            (
                minutes(check["eval_time"]),
                [each for each in check["exp_alerts"] if own <= each["exp_labels"].items()],
            )
            for check in test.get("alert_rule_test", [])
            if check["alertname"] == alert["alert"]
        ),
        key=lambda expectation: expectation[0],
    )


@every_alert_but_the_watchdog
def test_an_alert_fires_in_a_unit_test_but_not_a_minute_earlier(alert: Json) -> None:
    # Tests with days of samples are evaluated every five minutes.
    step = 5 if alert["alert"] in {"LLMCostSpike", "LLMBudgetBurnRate"} else 1
    fires = []
    for test in TESTS:
        expected = dict(expectations(test, alert))
        fires += [
            minute for minute, alerts in expected.items() if alerts and expected.get(minute - step) == []
        ]

    assert fires


@every_alert_but_the_watchdog
def test_an_alert_has_a_unit_test_in_which_it_does_not_fire(alert: Json) -> None:
    never = [
        test["name"]
        for test in TESTS
        if expectations(test, alert) and not any(alerts for _, alerts in expectations(test, alert))
    ]

    assert never


@every_alert
def test_an_alert_has_a_severity_texts_and_links(alert: Json) -> None:
    annotations = alert["annotations"]

    severities = {"none"} if alert["alert"] == "LLMWatchdog" else {"critical", "warning", "info"}
    assert alert["labels"]["severity"] in severities
    assert set(annotations) == {"summary", "description", "dashboard_url", "runbook_url"}
    dashboard = re.match(r"\{\{ \$externalLabels\.grafana_url \}\}/d/([\w-]+)", annotations["dashboard_url"])
    assert dashboard is not None
    assert dashboard[1] in DASHBOARDS
    anchor = alert["alert"].lower()
    assert annotations["runbook_url"] == f"{{{{ $externalLabels.runbooks_url }}}}#{anchor}"
    assert annotations["description"].endswith((".", ".{{ end }}", ".{{ end }}{{ end }}"))


@every_alert
def test_an_alert_queries_only_existing_series(alert: Json) -> None:
    known = exported_series() | recorded_series()
    texts = " ".join([*alert["annotations"].values(), *alert["labels"].values()])
    queries = [alert["expr"], *re.findall(r'printf\s+"((?:topk|llm_).*?)"\s+\$labels', texts, re.DOTALL)]

    assert {name for query in queries for name in unknown_names(query, known)} == set()
    assert texts.count("| query") == len(queries) - 1


@every_alert
def test_an_annotation_uses_only_labels_of_its_alert(alert: Json) -> None:
    texts = " ".join(alert["annotations"].values())
    named = set(re.findall(r"\$labels\.(\w+)", texts))
    selectors = re.findall(r"\b(?:llm:\w+:\w+|llm_\w+)", alert["expr"])
    known = exported_series() | recorded_series()
    available = ADDED_LABELS.union(alert["labels"], *(known.get(name, set()) for name in selectors))
    if groupings := re.findall(r"\bby \(([^)]*)\)", alert["expr"]):
        available = {*re.findall(r"\w+", groupings[0]), *alert["labels"]}
    # Budgets and thresholds have the labels that they match, so annotations wrap those in `with`.
    optional = set(re.findall(r"\{\{ with \$labels\.(\w+)", texts))

    assert named - optional <= available


def test_every_rule_file_has_a_file_of_unit_tests() -> None:
    tested = {
        name
        for file in (PROMETHEUS / "tests").glob("*.yml")
        for name in yaml.safe_load(file.read_text())["rule_files"]
    }

    assert tested == {f"../rules/{file.name}" for file in RULE_FILES}


def sections() -> dict[str, str]:
    """Return the body of each runbook by its anchor."""
    text = (REPOSITORY / "docs/runbooks.md").read_text()
    _, *parts = re.split(r"^### (\w+)\n", text, flags=re.MULTILINE)
    return {title.lower(): body for title, body in zip(parts[::2], parts[1::2], strict=True)}


def test_every_alert_has_a_runbook_and_every_runbook_an_alert() -> None:
    assert set(sections()) == {alert["alert"].lower() for alert in ALERTS}


@pytest.mark.parametrize("body", sections().values(), ids=sections())
def test_a_runbook_has_its_three_sections(body: str) -> None:
    assert re.findall(r"^\*\*(.*?)\.\*\* \S", body, re.MULTILINE) == [
        "What it means",
        "What to do",
        "How to tune it",
    ]


@pytest.mark.parametrize("config", ["prometheus.yml", "examples/remote-write.yml"])
def test_alerts_do_not_carry_the_labels_that_links_start_with(config: str) -> None:
    settings = yaml.safe_load((PROMETHEUS / config).read_text())
    drop = [{"regex": "grafana_url|page_url|runbooks_url", "action": "labeldrop"}]
    used = {name for alert in ALERTS for name in re.findall(r"\$externalLabels\.(\w+)", str(alert))}

    assert used == {"grafana_url", "page_url", "runbooks_url"}
    assert used <= set(settings["global"]["external_labels"])
    for remote in settings.get("remote_write", []):
        assert remote["write_relabel_configs"] == drop
    if "alerting" in settings:
        assert settings["alerting"]["alert_relabel_configs"] == drop


def test_a_broken_rule_fails_its_unit_tests(tmp_path: Path) -> None:
    """A threshold that is off by one dollar is noticed."""
    rules = (PROMETHEUS / "rules/cost.yml").read_text()
    tests = yaml.safe_load((PROMETHEUS / "tests/cost_test.yml").read_text())
    tests["rule_files"] = ["cost.yml"]
    tests["tests"] = [test for test in tests["tests"] if "more than $50 in an hour fires" in test["name"]]
    (tmp_path / "cost.yml").write_text(rules.replace("increase1h) > 50", "increase1h) > 51"))
    (tmp_path / "cost_test.yml").write_text(yaml.safe_dump(tests))

    with pytest.raises(AssertionError, match="LLMCostOverDefaultThreshold"):
        run("promtool", "test", "rules", tmp_path / "cost_test.yml")
