"""With declared labels, the rules sum by them, alerts name them, and the dashboards filter by them."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pytest
import yaml

from llm_exporter.bundle.dashboards import boards
from llm_exporter.bundle.increases import levels, prefix, render
from llm_exporter.bundle.writing import Target, write
from support.bundle import Json, run

TESTS = Path(__file__).with_name("declared_labels_test.yml")
BOARDS = {board["uid"]: board for board in boards(("team", "cost_center"))}


def test_the_rules_of_two_teams_pass_their_unit_tests(tmp_path: Path) -> None:
    write(tmp_path, Target(labels=("team",)))
    shutil.copy(TESTS, tmp_path / "prometheus")

    assert "SUCCESS" in run("promtool", "test", "rules", tmp_path / "prometheus" / TESTS.name)


def test_promtool_accepts_the_rules_with_two_labels(tmp_path: Path) -> None:
    write(tmp_path, Target(labels=("team", "cost_center")))

    files = sorted((tmp_path / "prometheus/rules").iterdir())
    assert "SUCCESS" in run("promtool", "check", "rules", *files)


def test_amtool_accepts_the_example_in_which_an_alert_of_one_team_does_not_inhibit_another_team_s(
    tmp_path: Path,
) -> None:
    write(tmp_path, Target(labels=("team", "cost_center")))
    file = tmp_path / "prometheus/examples/alertmanager.yml"

    assert "SUCCESS" in run("amtool", "check-config", file)
    (equal,) = (
        rule["equal"]
        for rule in yaml.safe_load(file.read_text())["inhibit_rules"]
        if "alertname" in rule["equal"]
    )
    assert {"budget", "threshold", "team", "cost_center"} <= {*equal}


def expressions(version: int) -> dict[tuple[str, str], str]:
    """Return the rules with two labels, by the recorded name and part."""
    groups = yaml.safe_load(render(version, ("team", "cost_center")))["groups"]
    return {
        (rule["record"], rule.get("labels", {}).get("part", "")): rule["expr"]
        for group in groups
        for rule in group["rules"]
    }


def test_the_rules_for_prometheus_3_differ_in_the_increase_in_a_minute_only() -> None:
    older, newer = expressions(2), expressions(3)
    differ = {
        f"{prefix(level, metric)}:increase1m"
        for metric, of in levels(("team", "cost_center")).items()
        for level, source in of.items()
        if source is None
    }

    assert older.keys() == newer.keys()
    assert {name for name, part in newer if newer[name, part] != older[name, part]} == differ
    for name in differ:
        (grouped,) = re.findall(r"sum by \(([^)]*)\) \(increase\(\w+\[1m\] anchored\)\)", newer[name, ""])
        assert grouped.endswith(", team, cost_center")


@pytest.mark.parametrize("metric", levels())
def test_the_names_of_the_finest_sums_do_not_depend_on_the_labels(metric: str) -> None:
    """So the sums go on when a label is declared."""
    without, with_labels = levels()[metric], levels(("team", "cost_center"))[metric]

    assert {level: with_labels[level] for level in without} == without
    by_label = [] if metric == "llm_tokens_total" else [("job", "team"), ("job", "cost_center")]
    assert [level for level in with_labels if level not in without] == by_label


def panel(uid: str, title: str, kind: str = "") -> Json:
    """Return the panel with a title, of a kind if there are several."""
    panels: list[Json] = BOARDS[uid]["panels"]
    (found,) = (each for each in panels if each["title"] == title and kind in each["type"])
    return found


def test_the_dashboard_of_costs_has_a_row_of_the_labels() -> None:
    titles = [each["title"] for each in BOARDS["llm-cost"]["panels"]]
    row = titles.index("By team and cost center")

    assert titles[row + 1 : row + 6] == [
        "Cost per hour by team",
        "Cost by team",
        "Cost per hour by cost center",
        "Cost by cost center",
        "By provider, model and phase",
    ]


def test_a_click_on_a_team_filters_by_it_or_shows_its_calls() -> None:
    value = "${__field.labels.team:percentencode}"
    first, calls = panel("llm-cost", "Cost by team")["fieldConfig"]["defaults"]["links"]

    assert first["title"] == "Show this team only"
    assert first["url"].startswith(f"/d/llm-cost?var-team={value}&${{__url_time_range}}&")
    assert "${cost_center:queryparam}" in first["url"]
    assert "${team:queryparam}" not in first["url"]
    assert calls["url"].startswith(f"${{page:raw}}/?label.team={value}&since=")


def test_a_row_of_the_table_of_costs_links_to_the_calls_of_its_team() -> None:
    table = panel("llm-cost", "Cost by combination")
    urls = [
        link["url"]
        for each in table["fieldConfig"]["overrides"]
        for one in each["properties"]
        if one["id"] == "links"
        for link in one["value"]
    ]

    built_in = ("Provider", "Model", "Agent", "Phase")
    query = "&".join(f"{name.lower()}=${{__data.fields.{name}:percentencode}}" for name in built_in)
    team, cost_center = (f"${{__data.fields.{name}:percentencode}}" for name in ("Team", "Cost center"))
    assert [url for url in urls if "/?provider=" in url] == [
        f"${{page:raw}}/?{query}&label.team={team}&label.cost_center={cost_center}"
        "&since=${__from}&until=${__to}"
    ]


def test_the_links_of_agents_keep_the_filter_by_team() -> None:
    links = panel("llm-cost", "Top agents by cost")["fieldConfig"]["defaults"]["links"]
    to_dashboards = [link["url"] for link in links if link["url"].startswith("/d/")]

    assert len(to_dashboards) == 2
    assert all("${team:queryparam}&${cost_center:queryparam}" in url for url in to_dashboards)


def test_budgets_and_thresholds_of_different_teams_are_kept_apart() -> None:
    of_budgets = json.dumps(BOARDS["llm-budgets"])

    groupings = re.findall(r"max by \(((?:budget|threshold),[^)]*)\)", of_budgets)
    assert groupings
    assert all(grouping.endswith(", team, cost_center") for grouping in groupings)
    # A threshold of a team is no limit of the total.
    (_, limit) = panel("llm-budgets", "Cost today and thresholds")["targets"]
    assert 'team="", cost_center=""' in limit["expr"]
    (usage,) = panel("llm-budgets", "Budget usage")["targets"]
    assert usage["legendFormat"] == "{{budget}} {{agent}} {{team}} {{cost_center}}"
    (alerts,) = panel("llm-budgets", "Alert list")["targets"]
    assert '"phase", "team", "cost_center", "instance"' in alerts["expr"]
