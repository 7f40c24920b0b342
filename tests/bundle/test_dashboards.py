"""The dashboards are valid for Grafana, query only series that exist, and keep our conventions."""

from __future__ import annotations

import json
import re
import subprocess
import sys

import pytest

from llm_exporter.bundle.dashboards import boards
from support.bundle import GRAFANA, REPOSITORY, Json, exported_series, recorded_series, unknown_names


def panels_of(board: Json) -> list[Json]:
    """Return the panels of a dashboard, without the headings of its sections."""
    return [panel for panel in board["panels"] if panel["type"] != "row"]


DECLARED = ("team", "cost_center")
WITH_LABELS = boards(DECLARED)
"""The dashboards that `llm-exporter bundle --labels team,cost_center` writes."""
DASHBOARDS = [json.loads(file.read_text()) for file in sorted((GRAFANA / "dashboards").glob("*.json"))]
EACH = {board["uid"]: board for board in DASHBOARDS} | {
    f"{board['uid']} with labels": board for board in WITH_LABELS
}
PANELS = [
    pytest.param(panel, id=f"{name}: {panel['title']}")
    for name, board in EACH.items()
    for panel in panels_of(board)
]
every_dashboard = pytest.mark.parametrize("board", EACH.values(), ids=EACH)
every_panel = pytest.mark.parametrize("panel", PANELS)
DATASOURCE = {"type": "prometheus", "uid": "${datasource}"}


def test_the_committed_dashboards_and_rules_are_up_to_date() -> None:
    command = [sys.executable, "-m", "tools.dashboards", "--check"]
    done = subprocess.run(command, check=False, capture_output=True, text=True, cwd=REPOSITORY)

    assert (done.returncode, done.stderr) == (0, "")


FILTERS = {
    "llm-cost": ["job", "provider", "model", "agent", "phase"],
    "llm-agents": ["job", "provider", "model", "agent", "phase"],
    "llm-latency": ["job", "provider", "model"],
    "llm-budgets": ["job"],
    "llm-exporter": ["job"],
}
"""The filters of each dashboard by its uid. Alerts link to these uids."""
BY_CALLER = ("llm-cost", "llm-agents")
"""The dashboards that have the declared labels as filters."""


def declared_in(board: Json) -> tuple[str, ...]:
    """Return the declared labels that sums and gauges of a dashboard have."""
    return DECLARED if any(board is each for each in WITH_LABELS) else ()


def filters_of(board: Json, uid: str = "") -> list[str]:
    """Return the filters of a dashboard, or of another one that was generated with it."""
    uid = uid or board["uid"]
    job, *others = FILTERS[uid]
    return [job, *(declared_in(board) if uid in BY_CALLER else ()), *others]


def test_dashboards_have_unique_uids_and_titles() -> None:
    assert {board["uid"] for board in DASHBOARDS} == set(FILTERS)
    assert len({board["title"] for board in DASHBOARDS}) == len(DASHBOARDS)


@every_dashboard
def test_a_dashboard_has_no_id_links_to_the_others_and_is_read_only(board: Json) -> None:
    assert board["schemaVersion"] == 38, "the version of Grafana 9.5"
    assert "llm-exporter" in board["tags"]
    assert board["editable"] is False
    assert "id" not in board, "an id is valid in one Grafana only"
    (link,) = [link for link in board["links"] if link["type"] == "dashboards"]
    assert (link["tags"], link["keepTime"], link["includeVars"]) == (["llm-exporter"], True, True)
    assert link["asDropdown"] is True, "five links do not fit beside the filters at 1366 pixels"


@every_dashboard
def test_a_dashboard_has_the_keys_and_types_of_grafana_s_schema(board: Json) -> None:
    types = {
        "annotations": dict,
        "description": str,
        "editable": bool,
        "fiscalYearStartMonth": int,
        "graphTooltip": int,
        "links": list,
        "liveNow": bool,
        "panels": list,
        "refresh": str,
        "schemaVersion": int,
        "tags": list,
        "templating": dict,
        "time": dict,
        "timepicker": dict,
        "timezone": str,
        "title": str,
        "uid": str,
        "version": int,
        "weekStart": str,
    }

    assert {key: type(value) for key, value in board.items()} == types
    for panel in panels_of(board):
        assert panel["type"] in {"stat", "timeseries", "bargauge", "table", "heatmap", "state-timeline"}
        assert set(panel["gridPos"]) == {"h", "w", "x", "y"}
        assert set(panel["fieldConfig"]) == {"defaults", "overrides"}
        for override in panel["fieldConfig"]["overrides"]:
            assert override["matcher"]["id"] in {"byName", "byRegexp"}
            assert all(set(each) == {"id", "value"} for each in override["properties"])


@every_dashboard
def test_a_dashboard_has_a_data_source_variable_and_label_filters(board: Json) -> None:
    datasource, *filters = (each for each in board["templating"]["list"] if each["hide"] == 0)

    assert (datasource["type"], datasource["query"]) == ("datasource", "prometheus")
    assert [each["name"] for each in filters] == filters_of(board)
    for each in filters:
        assert (each["multi"], each["includeAll"], each["allValue"]) == (True, True, ".*")
        assert each["datasource"] == DATASOURCE
        assert each["definition"] == each["query"]["query"]
        query = re.fullmatch(r"label_values\((.*), (\w+)\)", each["definition"])
        assert query is not None
        assert query[2] == each["name"]
        declared = declared_in(board)
        assert unknown_names(query[1], exported_series(declared) | recorded_series(declared)) == set()


def links_of(panel: Json) -> list[Json]:
    """Return the data links of a panel."""
    config = panel["fieldConfig"]
    overridden = [each for one in config["overrides"] for each in one["properties"] if each["id"] == "links"]
    return [*config["defaults"].get("links", []), *(link for each in overridden for link in each["value"])]


LINKS = [
    pytest.param(board, link["url"], id=f"{name}: {panel['title']}: {link['title']}")
    for name, board in EACH.items()
    for panel in panels_of(board)
    for link in links_of(panel)
]


@pytest.mark.parametrize(("board", "url"), LINKS)
def test_a_link_uses_variables_of_its_dashboard_and_encodes_values(board: Json, url: str) -> None:
    defined = {each["name"] for each in board["templating"]["list"]}
    used = re.findall(r"\$\{(\w+)((?:\.\w+)*):?(\w*)\}", url)

    for name, path, style in used:
        if name in {"__field", "__data", "__value"}:
            assert (path != "", style) == (True, "percentencode"), "R&D must stay one value"
        else:
            assert name in defined or (name, style) in {
                ("__url_time_range", ""),
                ("__from", ""),
                ("__to", ""),
            }
    dashboard = re.match(r"/d/(llm-\w+)\?(.*)", url)
    if dashboard:
        parameters = re.findall(r"(?:^|&)(?:var-(\w+)=|\$\{(\w+):queryparam\})", dashboard[2])
        names = [one or other for one, other in parameters]
        assert {*names} <= {"datasource", *filters_of(board, dashboard[1])}
        assert len(names) == len({*names}), "a filter is kept or set, not both"


def bars_by(label: str) -> list[Json]:
    """Return the bars of costs and errors by a label."""
    return [
        panel
        for board in DASHBOARDS
        for panel in panels_of(board)
        if panel["type"] == "bargauge" and panel["targets"][0]["legendFormat"] == f"{{{{{label}}}}}"
    ]


@pytest.mark.parametrize("label", ["provider", "model", "agent", "phase"])
def test_a_click_on_a_bar_filters_by_it_or_shows_its_calls(label: str) -> None:
    value = f"${{__field.labels.{label}:percentencode}}"
    panels = bars_by(label)

    assert panels
    for panel in panels:
        first, *others = links_of(panel)
        assert f"?var-{label}={value}&${{__url_time_range}}&" in first["url"]
        assert f"${{page:raw}}/?{label}={value}&since=${{__from}}&until=${{__to}}" in others[-1]["url"]


def test_a_row_of_the_table_of_costs_links_to_its_calls() -> None:
    (urls,) = (
        [link["url"] for link in links_of(panel)]
        for panel in panels_of(next(board for board in DASHBOARDS if board["uid"] == "llm-cost"))
        if panel["title"] == "Cost by combination"
    )
    row = "&".join(
        f"{name.lower()}=${{__data.fields.{name}:percentencode}}"
        for name in ("Provider", "Model", "Agent", "Phase")
    )

    assert f"${{page:raw}}/?{row}&since=${{__from}}&until=${{__to}}" in urls


@every_dashboard
def test_links_start_at_the_urls_that_prometheus_knows(board: Json) -> None:
    hidden = {each["name"]: each["definition"] for each in board["templating"]["list"] if each["hide"] == 2}

    assert hidden == {
        name: f'label_values(ALERTS{{alertname="LLMWatchdog"}}, {name})' for name in ("page", "runbooks")
    }


def test_each_firing_alert_links_to_its_dashboard_and_runbook() -> None:
    (panel,) = (
        panel for board in DASHBOARDS for panel in panels_of(board) if "label_join(ALERTS" in str(panel)
    )
    properties = [
        {each["id"]: each["value"] for each in one["properties"]}
        for one in panel["fieldConfig"]["overrides"]
        if one["matcher"]["options"] == "Runbook"
    ]
    ((runbook,),) = (each["links"] for each in properties if "links" in each)
    ((anchors,),) = (each["mappings"] for each in properties if "mappings" in each)
    sections = re.findall(r"^### (LLM\w+)$", (REPOSITORY / "docs" / "runbooks.md").read_text(), re.MULTILINE)

    assert runbook["url"] == "${runbooks:raw}#${__value.text:percentencode}"
    assert anchors["options"] == {name: {"text": name.lower()} for name in sections}
    boards = re.findall(r'"dashboard", "([\w-]+)", "alertname", "([^"]*)"', str(panel["targets"]))
    assert sorted(name for _, names in boards for name in names.split("|")) == sorted(sections)
    assert {uid for uid, _ in boards} <= {*FILTERS}


@every_dashboard
def test_firing_alerts_annotate_every_graph(board: Json) -> None:
    (alerts,) = [each for each in board["annotations"]["list"] if each["name"] == "Alerts"]

    assert (alerts["enable"], alerts["datasource"]) == (True, DATASOURCE)
    assert unknown_names(alerts["expr"], exported_series()) == set()


@every_dashboard
def test_panels_fill_the_grid_without_overlap_or_gap(board: Json) -> None:
    cells = [
        (x, y)
        for place in (panel["gridPos"] for panel in board["panels"])
        for x in range(place["x"], place["x"] + place["w"])
        for y in range(place["y"], place["y"] + place["h"])
    ]
    height = max(y for _, y in cells) + 1

    assert len(cells) == len(set(cells)), "panels overlap"
    assert set(cells) == {(x, y) for x in range(24) for y in range(height)}, "there are gaps"


@every_dashboard
def test_panels_have_unique_ids_and_titles(board: Json) -> None:
    ids = [panel["id"] for panel in board["panels"]]
    titles = [(panel["title"], panel["type"]) for panel in board["panels"]]

    assert len(ids) == len(set(ids))
    assert len(titles) == len(set(titles))


@every_panel
def test_a_panel_has_a_description_and_a_unit(panel: Json) -> None:
    assert len(panel["description"]) > 50
    assert panel["description"].endswith(".")
    assert panel["fieldConfig"]["defaults"]["unit"] in {"currency:financial:$", "s", "short", "percentunit"}


@every_panel
def test_amounts_show_every_digit_and_cents(panel: Json) -> None:
    config = panel["fieldConfig"]
    overrides = [{each["id"]: each["value"] for each in one["properties"]} for one in config["overrides"]]
    amounts = [each for each in (config["defaults"], *overrides) if "currency" in each.get("unit", "")]

    # currencyUSD shows $3,528.74 as $3.53K.
    assert {each["unit"] for each in amounts} <= {"currency:financial:$"}
    assert all(each["decimals"] >= 2 for each in amounts)


@every_dashboard
def test_a_dashboard_begins_with_four_numbers_and_its_sections_fold(board: Json) -> None:
    first, *others = (panel["type"] for panel in board["panels"][:5])
    headings = [panel for panel in board["panels"] if panel["type"] == "row"]

    assert [first, *others[:3]] == ["stat"] * 4
    assert others[3] != "stat", "on a phone, the first graph is below four numbers"
    assert headings
    assert all(each["collapsed"] is False and each["panels"] == [] for each in headings)


@every_panel
def test_four_numbers_fit_side_by_side(panel: Json) -> None:
    assert panel["type"] != "stat" or panel["gridPos"]["w"] == 6


@every_panel
def test_names_are_above_their_bars(panel: Json) -> None:
    assert panel["type"] != "bargauge" or panel["options"]["namePlacement"] == "top"


@every_panel
def test_a_column_is_wide_enough_for_its_heading(panel: Json) -> None:
    if panel["type"] != "table":
        return
    (organize,) = [each["options"] for each in panel["transformations"] if each["id"] == "organize"]
    widths = {
        override["matcher"]["options"]: each["value"]
        for override in panel["fieldConfig"]["overrides"]
        for each in override["properties"]
        if each["id"] == "custom.minWidth"
    }

    # Grafana's headings are about seven pixels a character.
    assert all(widths[name] >= 7 * len(name) for name in organize["renameByName"].values())


@every_panel
def test_a_panel_queries_the_selected_data_source_with_ref_ids_and_legends(panel: Json) -> None:
    assert panel["datasource"] == DATASOURCE
    assert [target["refId"] for target in panel["targets"]] == list("ABCDEFGH"[: len(panel["targets"])])
    for target in panel["targets"]:
        assert target["datasource"] == DATASOURCE
        assert target["legendFormat"]
        assert target["legendFormat"] != "__auto"
        labels = set(re.findall(r"\{\{(\w+)\}\}", target["legendFormat"]))
        grouped = {label for by in re.findall(r"by \(([^)]*)\)", target["expr"]) for label in by.split(", ")}
        assert labels <= grouped, "the legend uses a label that the query aggregates away"


@every_dashboard
def test_panels_query_only_existing_series_and_apply_every_filter(board: Json) -> None:
    declared = declared_in(board)
    known = exported_series(declared) | {
        # A filter on a label that a level lacks decides which of two levels answers.
        name: labels | {"all", *filters_of(board)} if (":increase" in name or "_second" in name) else labels
        for name, labels in recorded_series(declared).items()
    }
    filters = {f'{label}=~"${label}"' for label in filters_of(board)}

    for panel in panels_of(board):
        for target in panel["targets"]:
            assert unknown_names(target["expr"], known) == set(), panel["title"]
            selectors = re.findall(r"\b(?:\w+:)?llm_\w+(?::\w+)?\{([^}]*)\}", target["expr"])
            for selector in selectors:
                applied = set(re.findall(r'\w+=~"\$\w+"', selector))
                assert applied == filters, panel["title"]


@every_panel
def test_a_query_s_windows_follow_the_time_range(panel: Json) -> None:
    for target in panel["targets"]:
        assert target["range"] is not target["instant"]
        windows = set(re.findall(r"\[([^]]*)\]", target["expr"]))
        if target["instant"]:
            # The last hour, the last week for the forecast, the previous range, and the last 15 minutes until
            # a quarter of an hour has been recorded.
            assert windows <= {"$__range", "1h", "7d", "1m:1m", "15m", "30m"}
        else:
            assert windows <= {"$__rate_interval", "$__interval"}
        if "$__interval]" in target["expr"]:
            assert panel["interval"] == "15m", "sums are recorded for each quarter of an hour"
