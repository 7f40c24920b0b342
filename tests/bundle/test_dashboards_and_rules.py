"""What we ship for Prometheus, Alertmanager, Grafana and Docker: real tools accept it, it keeps our rules."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from urllib.request import urlopen

import pytest
import yaml

import llm_exporter.cli.bundle
from llm_exporter.cli.bundle import bundle
from support.bundle import (
    FIXED,
    GRAFANA,
    PROMETHEUS,
    REPOSITORY,
    Json,
    exported_names,
    recorded_names,
    rules,
    run,
    unknown_names,
)
from tools import binaries, stack


def test_a_name_that_is_not_exported_is_found_out() -> None:
    known = {"llm_calls_total": {"job", "model"}, "job:llm_calls:rate5m": {"job"}}

    assert unknown_names('sum by (model) (rate(llm_calls_total{job=~"a=b"}[5m]))', known) == set()
    assert unknown_names("sum by (modle) (llm_call_total)", known) == {"modle", "llm_call_total"}
    assert unknown_names('llm_calls_total{agent="x"} / on (phase) job:llm_calls:rate5m', known) == {
        "agent",
        "phase",
    }
    assert unknown_names('job:llm_calls:rate5m{model="x"}', known) == {"model"}
    assert unknown_names("job:llm_calls:rate1m", known) == {"job:llm_calls:rate1m"}


# ---- Prometheus and Alertmanager


@pytest.mark.parametrize("file", ["prometheus.yml", "examples/remote-write.yml"])
def test_promtool_accepts_the_config_with_its_rules(file: str) -> None:
    said = run("promtool", "check", "config", PROMETHEUS / file)

    assert f"SUCCESS: {len(list((PROMETHEUS / 'rules').glob('*.yml')))} rule files found" in said


def test_the_example_of_remote_write_scrapes_what_the_config_does() -> None:
    files = (PROMETHEUS / "prometheus.yml", PROMETHEUS / "examples/remote-write.yml")
    shipped, example = (yaml.safe_load(file.read_text())["scrape_configs"] for file in files)

    shipped[0]["file_sd_configs"][0]["files"] = ["../targets/*.yml"]
    assert example == shipped


@pytest.mark.parametrize("file", sorted((PROMETHEUS / "rules").glob("*.yml")), ids=lambda file: file.name)
def test_promtool_accepts_the_rules(file: Path) -> None:
    assert "SUCCESS" in run("promtool", "check", "rules", file)


@pytest.mark.parametrize("file", sorted((PROMETHEUS / "tests").glob("*.yml")), ids=lambda file: file.name)
def test_the_rules_compute_what_their_unit_tests_say(file: Path) -> None:
    assert "SUCCESS" in run("promtool", "test", "rules", file)


def test_every_recorded_series_has_a_unit_test() -> None:
    tests = "".join(file.read_text() for file in (PROMETHEUS / "tests").glob("*.yml"))

    assert [name for name in recorded_names() if name not in tests] == []


def test_amtool_accepts_the_alertmanager_config() -> None:
    assert "SUCCESS" in run("amtool", "check-config", PROMETHEUS / "alertmanager.yml")


def test_rules_ask_only_for_what_the_code_exports() -> None:
    known = exported_names() | recorded_names()

    assert {name for rule in rules() for name in unknown_names(rule["expr"], known)} == set()


def test_a_recorded_name_has_the_level_that_the_rule_groups_by() -> None:
    for rule in rules():
        if "record" in rule:
            groupings = re.findall(r"\bby \(([^)]*)\)", rule["expr"])
            levels = {grouping.replace(", ", "_") for grouping in groupings}
            assert (levels or {"llm"}) == {rule["record"].split(":")[0]}, rule["record"]
            operation = rule["record"].rpartition(":")[2]
            more = {*rule.get("labels", ()), *re.findall(r"group_left \((\w+)\)", rule["expr"])}
            assert more == FIXED.get(operation, set())


def test_the_committed_sums_are_what_their_generator_writes() -> None:
    command = [sys.executable, "-m", "prometheus.increases", "--check"]

    assert subprocess.run(command, check=False, cwd=REPOSITORY).returncode == 0


def test_windows_of_recorded_sums_hold_one_sample_for_each_step_whatever_their_ends_include() -> None:
    """Prometheus 2 has the sample at a window's very start in it, 3 has not."""
    quarters = [
        rule["expr"] for rule in rules() if "increase1m[" in rule["expr"] and "[1d]" not in rule["expr"]
    ]

    assert len(quarters) == 4
    assert all("[14m30s]" in expr for expr in quarters)


def test_targets_for_this_machine_and_for_compose_are_in_files_of_the_same_names() -> None:
    for directory in ("targets", "alertmanagers"):
        local = sorted(file.name for file in (PROMETHEUS / directory).iterdir())
        compose = sorted(file.name for file in (PROMETHEUS / "compose" / directory).iterdir())
        assert local == compose


# ---- dashboards

DASHBOARDS = [json.loads(file.read_text()) for file in sorted((GRAFANA / "dashboards").glob("*.json"))]
PANELS = [
    pytest.param(panel, id=f"{board['uid']}: {panel['title']}")
    for board in DASHBOARDS
    for panel in board["panels"]
    if panel["type"] != "row"
]
every_dashboard = pytest.mark.parametrize("board", DASHBOARDS, ids=lambda board: board["uid"])
every_panel = pytest.mark.parametrize("panel", PANELS)
DATASOURCE = {"type": "prometheus", "uid": "${datasource}"}


def test_the_committed_dashboards_are_what_the_generator_writes() -> None:
    command = [sys.executable, "-m", "grafana.dashboards", "--check"]
    done = subprocess.run(command, check=False, capture_output=True, text=True, cwd=REPOSITORY)

    assert (done.returncode, done.stderr) == (0, "")


FILTERS = {
    "llm-cost": ["job", "provider", "model", "agent", "phase"],
    "llm-agents": ["job", "provider", "model", "agent", "phase"],
    "llm-latency": ["job", "provider", "model"],
    "llm-budgets": ["job"],
    "llm-exporter": ["job"],
}
"""What each dashboard is filtered by: alerts link to these uids."""


def test_dashboards_have_uids_and_titles_of_their_own() -> None:
    assert {board["uid"] for board in DASHBOARDS} == set(FILTERS)
    assert len({board["title"] for board in DASHBOARDS}) == len(DASHBOARDS)


@every_dashboard
def test_a_dashboard_is_stable_linked_and_not_edited_in_place(board: Json) -> None:
    assert board["schemaVersion"] == 38, "what Grafana 9.5 knows"
    assert "llm-exporter" in board["tags"]
    assert board["editable"] is False
    assert "id" not in board, "an id belongs to one Grafana"
    (link,) = [link for link in board["links"] if link["type"] == "dashboards"]
    assert (link["tags"], link["keepTime"], link["includeVars"]) == (["llm-exporter"], True, True)


@every_dashboard
def test_a_dashboard_has_the_keys_and_types_that_grafana_knows(board: Json) -> None:
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
    for panel in board["panels"]:
        assert panel["type"] in {"stat", "timeseries", "bargauge", "table", "heatmap", "state-timeline"}
        assert set(panel["gridPos"]) == {"h", "w", "x", "y"}
        assert set(panel["fieldConfig"]) == {"defaults", "overrides"}
        for override in panel["fieldConfig"]["overrides"]:
            assert override["matcher"]["id"] in {"byName", "byRegexp"}
            assert all(set(each) == {"id", "value"} for each in override["properties"])


@every_dashboard
def test_a_dashboard_is_filtered_by_data_source_and_by_labels(board: Json) -> None:
    datasource, *filters = board["templating"]["list"]

    assert (datasource["type"], datasource["query"]) == ("datasource", "prometheus")
    assert [each["name"] for each in filters] == FILTERS[board["uid"]]
    for each in filters:
        assert (each["multi"], each["includeAll"], each["allValue"]) == (True, True, ".*")
        assert each["datasource"] == DATASOURCE
        assert each["definition"] == each["query"]["query"]
        query = re.fullmatch(r"label_values\((.*), (\w+)\)", each["definition"])
        assert query is not None
        assert query[2] == each["name"]
        assert unknown_names(query[1], exported_names() | recorded_names()) == set()


@every_dashboard
def test_alerts_are_marked_on_every_graph(board: Json) -> None:
    (alerts,) = [each for each in board["annotations"]["list"] if each["name"] == "Alerts"]

    assert (alerts["enable"], alerts["datasource"]) == (True, DATASOURCE)
    assert unknown_names(alerts["expr"], exported_names()) == set()


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
def test_panels_have_titles_and_ids_of_their_own(board: Json) -> None:
    ids = [panel["id"] for panel in board["panels"]]
    titles = [(panel["title"], panel["type"]) for panel in board["panels"]]

    assert len(ids) == len(set(ids))
    assert len(titles) == len(set(titles))


@every_panel
def test_a_panel_says_what_to_conclude_and_in_which_unit(panel: Json) -> None:
    assert len(panel["description"]) > 50
    assert panel["description"].endswith(".")
    assert panel["fieldConfig"]["defaults"]["unit"] in {"currencyUSD", "s", "short", "percentunit"}


@every_panel
def test_a_panel_queries_the_chosen_data_source_under_refids_and_legends(panel: Json) -> None:
    assert panel["datasource"] == DATASOURCE
    assert [target["refId"] for target in panel["targets"]] == list("ABCDEFGH"[: len(panel["targets"])])
    for target in panel["targets"]:
        assert target["datasource"] == DATASOURCE
        assert target["legendFormat"]
        assert target["legendFormat"] != "__auto"
        labels = set(re.findall(r"\{\{(\w+)\}\}", target["legendFormat"]))
        grouped = {label for by in re.findall(r"by \(([^)]*)\)", target["expr"]) for label in by.split(", ")}
        assert labels <= grouped, "a legend names a label that the query sums away"


@every_dashboard
def test_panels_ask_only_for_what_the_code_exports_and_apply_every_filter(board: Json) -> None:
    known = exported_names() | {
        # Which of two levels answers is told by labels that one of them does not have.
        name: labels | {"all", *FILTERS[board["uid"]]}
        if ":increase" in name or "_bucket:" in name
        else labels
        for name, labels in recorded_names().items()
    }
    filters = {f'{label}=~"${label}"' for label in FILTERS[board["uid"]]}

    for panel in board["panels"]:
        for target in panel["targets"]:
            assert unknown_names(target["expr"], known) == set(), panel["title"]
            selectors = re.findall(r"\b(?:\w+:)?llm_\w+(?::\w+)?\{([^}]*)\}", target["expr"])
            for selector in selectors:
                applied = set(re.findall(r'\w+=~"\$\w+"', selector))
                assert applied == filters, panel["title"]


@every_panel
def test_a_window_is_one_of_grafana_s_or_of_a_number_that_its_title_names(panel: Json) -> None:
    for target in panel["targets"]:
        assert target["range"] is not target["instant"]
        windows = set(re.findall(r"\[([^]]*)\]", target["expr"]))
        if target["instant"]:
            # The last hour; the last week, as the pace of a projection; what was true a range ago; the first
            # quarter of an hour, before there is a recorded one.
            assert windows <= {"$__range", "1h", "7d", "1m:1m", "15m", "30m"}
        else:
            assert windows <= {"$__rate_interval", "$__interval"}
        if "$__interval]" in target["expr"]:
            assert panel["interval"] == "15m", "a quarter of an hour is recorded as one number"


# ---- Grafana's provisioning


def provisioning() -> dict[str, str]:
    files = (GRAFANA / "provisioning").glob("*/*.yml")
    return {str(file.relative_to(GRAFANA / "provisioning")): file.read_text() for file in files}


def test_the_data_source_has_a_fixed_uid_and_the_interval_of_the_rules() -> None:
    (source,) = yaml.safe_load(provisioning()["datasources/prometheus.yml"])["datasources"]
    prometheus = yaml.safe_load((PROMETHEUS / "prometheus.yml").read_text())

    assert source["uid"] == "llm-exporter-prometheus"
    assert source["jsonData"]["timeInterval"] == prometheus["global"]["evaluation_interval"] == "15s"


def test_dashboards_are_in_the_folder_llm_and_cannot_be_changed_there() -> None:
    (provider,) = yaml.safe_load(provisioning()["dashboards/llm-exporter.yml"])["providers"]

    assert provider["folder"] == "LLM"
    assert provider["allowUiUpdates"] is False
    assert provider["disableDeletion"] is True


def test_every_variable_of_the_provisioning_is_set_by_compose_and_by_the_demo(tmp_path: Path) -> None:
    used = {name for text in provisioning().values() for name in re.findall(r"\$\{?(\w+)", text)}

    assert used == {"LLM_EXPORTER_PROMETHEUS_URL", "LLM_EXPORTER_DASHBOARDS"}
    assert used <= set(COMPOSE["services"]["grafana"]["environment"])
    assert used <= set(stack.grafana_environment(prometheus="http://x", storage=tmp_path, port=1))


# ---- Docker

COMPOSE: Json = yaml.safe_load((REPOSITORY / "docker-compose.yml").read_text())
every_service = pytest.mark.parametrize("name", COMPOSE["services"])
PINNED = re.compile(r"[a-z/-]+:v?\d+\.\d+\.\d+(-[a-z-]+)?")


@every_service
def test_a_service_is_pinned_checked_restarted_and_published_on_loopback_only(name: str) -> None:
    service = COMPOSE["services"][name]

    built = {service["image"] for service in COMPOSE["services"].values() if "build" in service}
    assert service["image"] in built or PINNED.fullmatch(service["image"])
    assert service["restart"] == "unless-stopped"
    assert service["healthcheck"]["test"][0] == "CMD"
    assert service["ports"]
    assert all(port.startswith("127.0.0.1:") for port in service["ports"])


@every_service
def test_what_a_service_mounts_exists_and_is_read_only(name: str) -> None:
    for mount in COMPOSE["services"][name].get("volumes", []):
        source, _, mode = mount.split(":") if mount.startswith("./") else (None, None, None)
        if source is None:
            assert mount.split(":")[0] in COMPOSE["volumes"]
        else:
            assert (REPOSITORY / source).exists()
            assert mode == "ro"


def test_a_service_waits_until_those_it_needs_are_healthy() -> None:
    waits = {name: service.get("depends_on", {}) for name, service in COMPOSE["services"].items()}

    assert waits["grafana"] == {"prometheus": {"condition": "service_healthy"}}
    assert waits["prometheus"] == {"alertmanager": {"condition": "service_healthy"}}


def test_no_password_is_in_the_files_and_none_is_the_default() -> None:
    password = COMPOSE["services"]["grafana"]["environment"]["GF_SECURITY_ADMIN_PASSWORD"]

    assert password.startswith("${GF_SECURITY_ADMIN_PASSWORD:?")
    assert "\nGF_SECURITY_ADMIN_PASSWORD=\n" in (REPOSITORY / ".env.example").read_text()


def test_compose_runs_the_releases_that_are_downloaded_where_there_is_no_docker() -> None:
    images = {service.get("image") for service in COMPOSE["services"].values()}

    for name in ("prometheus", "alertmanager"):
        releases = [
            source
            for source in binaries.PROGRAMS[name].sources
            if isinstance(source, binaries.ReleaseArchive)
        ]
        assert [f"prom/{name}:v{release.version}" in images for release in releases] == [True]


def test_the_image_is_built_on_a_pinned_python_and_does_not_run_as_root() -> None:
    dockerfile = (REPOSITORY / "Dockerfile").read_text()

    stages = re.findall(r"^FROM \S+ AS (\S+)", dockerfile, re.MULTILINE)
    bases = {*re.findall(r"^FROM (\S+)", dockerfile, re.MULTILINE)} - {*stages}
    assert bases
    assert all(PINNED.fullmatch(image) for image in bases)
    assert re.findall(r"^USER (\S+)", dockerfile, re.MULTILINE) == ["9847"]


def image() -> tuple[dict[str, str], list[str]]:
    """Return the environment and the command of the default image."""
    dockerfile = (REPOSITORY / "Dockerfile").read_text()
    before, _, after = dockerfile.partition(" AS runtime\n")
    assert before, "the default image is the stage `runtime`"
    assert after.endswith("\nFROM runtime\n")
    (environment,) = re.findall(r"^ENV (.*)$", after.partition("\nFROM ")[0], re.MULTILINE)
    (command,) = re.findall(r"^CMD (.*)$", after.partition("\nFROM ")[0], re.MULTILINE)
    return dict(pair.split("=", 1) for pair in environment.split()), json.loads(command)


def test_the_exporter_is_healthy_and_keeps_calls_on_its_volume(tmp_path: Path) -> None:
    """As in its container, but for where the volume and the port are."""
    service = COMPOSE["services"]["exporter"]
    (volume,) = [mount.split(":")[1] for mount in service["volumes"]]
    environment, (program, *words) = image()
    directory = tmp_path / Path(volume).name
    directory.mkdir()
    port = str(stack.free_port())
    inside = {
        **{name: value for name, value in os.environ.items() if not name.startswith("LLM_EXPORTER_")},
        **{
            name: value.replace(str(Path(volume).parent), str(tmp_path))
            for name, value in environment.items()
            if name != "PATH"
        },
        "HOME": "/nonexistent",
    }
    assert program == "llm-exporter"
    command = [sys.executable, "-m", "llm_exporter.cli", *words, "--port", port]
    url = f"http://127.0.0.1:{port}"
    check = [sys.executable, "-c", service["healthcheck"]["test"][-1].replace("9847", port)]
    assert "/-/healthy" in check[-1]
    for calls in (0, 1):
        with subprocess.Popen(command, env=inside, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            assert process.stdout.readline().startswith("llm-exporter serves ")
            subprocess.run(check, check=True)
            with urlopen(f"{url}/api/v1/cost?window=1h") as answer:
                assert json.load(answer)["calls"] == calls
            ship = 'import llm_exporter as e; e.instrument(); e.record(provider="x", model="x", tokens={})'
            subprocess.run([sys.executable, "-c", ship], env={**inside, "LLM_EXPORTER_URL": url}, check=True)
            process.terminate()
    assert [path.name for path in tmp_path.iterdir()] == [directory.name]
    assert (directory / "ledger.db").is_file()


def test_the_demo_profile_builds_the_demo_image_and_ships_its_calls() -> None:
    demo = COMPOSE["services"]["demo"]
    assert demo["build"] == {"context": ".", "target": "demo"}
    assert "command" not in demo, "the image has the command"
    assert demo["profiles"] == ["demo"]
    assert demo["environment"] == {"LLM_EXPORTER_URL": "http://exporter:9847"}
    assert demo["depends_on"] == {"exporter": {"condition": "service_healthy"}}
    others = [service for name, service in COMPOSE["services"].items() if name != "demo"]
    assert not [service for service in others if "profiles" in service]


# ---- where it all is


def test_the_bundle_of_a_source_tree_is_the_repository_s() -> None:
    assert bundle("grafana") == GRAFANA
    assert bundle("prometheus") == PROMETHEUS


def test_the_bundle_of_an_installed_wheel_is_in_the_package(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    installed = tmp_path / "site-packages" / "llm_exporter"
    (installed / "bundle_data" / "grafana").mkdir(parents=True)
    monkeypatch.setattr(llm_exporter.cli.bundle, "_PACKAGE", installed)

    assert bundle("grafana") == installed / "bundle_data" / "grafana"
    with pytest.raises(FileNotFoundError, match=r"no prometheus files at .*bundle_data"):
        bundle("prometheus")
