"""Prometheus accepts our configurations and rules, and the rules use only series that exist."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from support.bundle import (
    GRAFANA,
    PROMETHEUS,
    RULE_LABELS,
    exported_series,
    recorded_series,
    rules,
    run,
    unknown_names,
)


def test_unknown_names_finds_misspelled_metrics_and_labels() -> None:
    known = {"llm_calls_total": {"job", "model"}, "job:llm_calls:rate5m": {"job"}}

    assert unknown_names('sum by (model) (rate(llm_calls_total{job=~"a=b"}[5m]))', known) == set()
    assert unknown_names("sum by (modle) (llm_call_total)", known) == {"modle", "llm_call_total"}
    assert unknown_names('llm_calls_total{agent="x"} / on (phase) job:llm_calls:rate5m', known) == {
        "agent",
        "phase",
    }
    assert unknown_names('job:llm_calls:rate5m{model="x"}', known) == {"model"}
    assert unknown_names("job:llm_calls:rate1m", known) == {"job:llm_calls:rate1m"}


@pytest.mark.parametrize("file", ["prometheus.yml", "examples/remote-write.yml"])
def test_promtool_accepts_the_configuration_and_its_rules(file: str) -> None:
    output = run("promtool", "check", "config", PROMETHEUS / file)

    assert f"SUCCESS: {len(list((PROMETHEUS / 'rules').glob('*.yml')))} rule files found" in output


def test_the_remote_write_example_scrapes_the_same_targets() -> None:
    files = (PROMETHEUS / "prometheus.yml", PROMETHEUS / "examples/remote-write.yml")
    shipped, example = (yaml.safe_load(file.read_text())["scrape_configs"] for file in files)

    shipped[0]["file_sd_configs"][0]["files"] = ["../targets/*.yml"]
    assert example == shipped


@pytest.mark.parametrize("file", sorted((PROMETHEUS / "rules").glob("*.yml")), ids=lambda file: file.name)
def test_promtool_accepts_the_rules(file: Path) -> None:
    assert "SUCCESS" in run("promtool", "check", "rules", file)


@pytest.mark.parametrize("file", sorted((PROMETHEUS / "tests").glob("*.yml")), ids=lambda file: file.name)
def test_the_rules_pass_their_unit_tests(file: Path) -> None:
    assert "SUCCESS" in run("promtool", "test", "rules", file)


def test_scrapes_that_fail_for_nine_minutes_lose_nothing() -> None:
    assert "SUCCESS" in run("promtool", "test", "rules", Path(__file__).with_name("failed_scrapes_test.yml"))


def test_every_recorded_series_has_a_unit_test() -> None:
    tests = "".join(file.read_text() for file in (PROMETHEUS / "tests").glob("*.yml"))

    assert [name for name in recorded_series() if name not in tests] == []


def test_amtool_accepts_the_alertmanager_configuration() -> None:
    assert "SUCCESS" in run("amtool", "check-config", PROMETHEUS / "alertmanager.yml")


def test_rules_query_only_exported_or_recorded_series() -> None:
    known = exported_series() | recorded_series()

    assert {name for rule in rules() for name in unknown_names(rule["expr"], known)} == set()


def test_a_recorded_name_starts_with_the_labels_it_is_grouped_by() -> None:
    for rule in rules():
        if "record" in rule:
            groupings = re.findall(r"\bby \(([^)]*)\)", rule["expr"])
            levels = {grouping.replace(", ", "_") for grouping in groupings}
            if "histogram_quantile" in rule["expr"]:
                levels = {level.removesuffix("_le") for level in levels}
            assert (levels or {"llm"}) == {rule["record"].split(":")[0]}, rule["record"]
            operation = rule["record"].rpartition(":")[2]
            added = re.findall(r"group_left \(([\w, ]+)\)", rule["expr"])
            more = {*rule.get("labels", ()), *(label for some in added for label in some.split(", "))}
            assert more == RULE_LABELS.get(operation, set())


def test_a_quarter_of_an_hour_sums_15_minutes_on_prometheus_2_and_3() -> None:
    """Prometheus 2 includes the sample at the start of a window, Prometheus 3 does not."""
    quarters = [rule["expr"] for rule in rules() if rule.get("record", "").endswith(":increase15m")]

    assert len(quarters) == 14
    assert all("increase1m[14m30s]" in expr for expr in quarters)


def test_no_rule_knows_the_name_of_a_job() -> None:
    """Users name their jobs, and Kubernetes adds prefixes."""
    texts = [file.read_text() for file in (PROMETHEUS / "rules").glob("*.yml")]
    texts += [file.read_text() for file in PROMETHEUS.rglob("alertmanager.yml")]
    texts += [file.read_text() for file in (GRAFANA / "dashboards").glob("*.json")]
    matchers = re.findall(r'\bjob\s*(?:=~|!~|!=|=)\s*\\?"(.*?)\\?"', "".join(texts))

    assert set(matchers) <= {"$job", "$job|"}


def test_compose_replaces_every_file_of_local_targets() -> None:
    for directory in ("targets", "alertmanagers"):
        local = sorted(file.name for file in (PROMETHEUS / directory).iterdir())
        compose = sorted(file.name for file in (PROMETHEUS / "compose" / directory).iterdir())
        assert local == compose
