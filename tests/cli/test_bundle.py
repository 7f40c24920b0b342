"""`llm-exporter bundle` writes complete files and pushes dashboards to Grafana."""

from __future__ import annotations

import json
import re
import subprocess
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner, Result

from llm_exporter.bundle.files import bundle
from llm_exporter.cli.main import main
from llm_exporter.config.loading import load
from tools import binaries

TOKEN = "glsa_of-our-own-making"
UIDS = {file.stem for file in (bundle("grafana") / "dashboards").glob("*.json")}


class StandIn:
    """A stand-in for Grafana's folder and dashboard API that remembers its requests."""

    def __init__(self) -> None:
        self.folders: dict[str, str] = {}
        self.dashboards: dict[str, dict[str, Any]] = {}
        self.refuse: tuple[int, dict[str, str], bytes] | None = None
        self.asked: list[str] = []
        stand_in = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                uid = self.path.rpartition("/")[2]
                self.answer(200 if uid in stand_in.folders else 404, {"uid": uid})

            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                if self.path == "/api/folders":
                    stand_in.folders[body["uid"]] = body["title"]
                    self.answer(200, body)
                else:
                    assert body["folderUid"] in stand_in.folders
                    assert body["overwrite"] is True
                    uid = body["dashboard"]["uid"]
                    stand_in.dashboards[uid] = body["dashboard"]
                    self.answer(200, {"uid": uid, "url": f"/d/{uid}/x"})

            def answer(self, status: int, body: dict[str, Any]) -> None:
                stand_in.asked.append(f"{self.command} {self.path}")
                headers: dict[str, str] = {}
                data = json.dumps(body).encode()
                if self.headers["Authorization"] != f"Bearer {TOKEN}":
                    status = 401
                elif stand_in.refuse:
                    status, headers, data = stand_in.refuse
                self.send_response(status)
                for name, value in {**headers, "Content-Length": str(len(data))}.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(data)

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002  # its name in the base
                pass

        self._server = HTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))
        self._thread.start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


@pytest.fixture
def grafana() -> Iterator[StandIn]:
    stand_in = StandIn()
    yield stand_in
    stand_in.close()


def run(*arguments: str | Path, token: str | None = TOKEN) -> Result:
    env = {"LLM_EXPORTER_GRAFANA_TOKEN": token, "no_proxy": "*"}
    return CliRunner().invoke(main, ["bundle", *map(str, arguments)], env=env)


def test_it_writes_dashboards_rules_and_provisioning(tmp_path: Path) -> None:
    directory = tmp_path / "with space"

    result = run(directory, "--prometheus-url", "https://prometheus.example/p?x=1")

    assert (result.exit_code, result.stderr) == (0, "")
    assert {file.stem for file in (directory / "grafana/dashboards").iterdir()} == UIDS
    for file in (bundle("prometheus") / "rules").iterdir():
        assert (directory / "prometheus/rules" / file.name).read_text() == file.read_text()
    provisioning = directory / "grafana/provisioning"
    (source,) = yaml.safe_load((provisioning / "datasources/prometheus.yml").read_text())["datasources"]
    assert source["url"] == "https://prometheus.example/p?x=1"
    assert source["isDefault"] is False
    (provider,) = yaml.safe_load((provisioning / "dashboards/llm-exporter.yml").read_text())["providers"]
    assert provider["options"]["path"] == str(directory / "grafana/dashboards")
    assert not [file for file in directory.rglob("*") if file.is_file() and "$LLM_" in file.read_text()]


def test_without_a_prometheus_no_data_source_is_written(tmp_path: Path) -> None:
    run(tmp_path)

    assert [file.name for file in (tmp_path / "grafana/provisioning").iterdir()] == ["dashboards"]


def test_runbooks_and_an_example_configuration_come_with_it(tmp_path: Path) -> None:
    run(tmp_path)

    alerts = {
        rule["alert"]
        for file in (tmp_path / "prometheus/rules").iterdir()
        for group in yaml.safe_load(file.read_text())["groups"]
        for rule in group["rules"]
        if "alert" in rule
    }
    runbooks = (tmp_path / "docs/runbooks.md").read_text()
    assert [alert for alert in alerts if f"### {alert}\n" not in runbooks] == []
    links = re.findall(r"\]\(((?!http|#)[^)#]+)", runbooks)
    assert [link for link in links if not (tmp_path / "docs" / link).exists()] == []
    assert load(tmp_path / "docs/llm-exporter.example.yml").budgets
    assert (tmp_path / "docs/llm-exporter.schema.json").exists()
    templates = yaml.safe_load((tmp_path / "prometheus/examples/alertmanager.yml").read_text())["templates"]
    assert [list((tmp_path / "prometheus/examples").glob(path)) for path in templates] != [[]]


def test_the_dashboards_may_be_elsewhere_on_the_target(tmp_path: Path) -> None:
    result = run(tmp_path, "--dashboards-path", "/var/lib/grafana/dashboards/llm")

    provider = yaml.safe_load((tmp_path / "grafana/provisioning/dashboards/llm-exporter.yml").read_text())
    assert provider["providers"][0]["options"]["path"] == "/var/lib/grafana/dashboards/llm"
    assert "copy these to /var/lib/grafana/dashboards/llm on Grafana's machine" in result.stdout
    assert (tmp_path / "grafana/dashboards/llm-cost.json").exists()


def test_the_links_of_alerts_need_no_external_labels(tmp_path: Path) -> None:
    result = run(
        *(tmp_path, "--grafana-url-for-links", "https://grafana.example/g/"),
        *("--runbooks-url", "https://wiki.example/llm runbooks".replace(" ", "%20")),
        *("--page-url", "https://llm.example/"),
    )

    assert (result.exit_code, result.stderr) == (0, "")
    assert "external label" not in result.stdout
    texts = [file.read_text() for file in (tmp_path / "prometheus/rules").iterdir()]
    assert [text for text in texts if "externalLabels" in text or "external labels" in text] == []
    alerts = {
        rule.get("alert"): rule
        for group in yaml.safe_load((tmp_path / "prometheus/rules/exporter.yml").read_text())["groups"]
        for rule in group["rules"]
    }
    rule = alerts["LLMExporterErrors"]
    assert alerts["LLMWatchdog"]["labels"]["page"] == "https://llm.example"
    assert rule["annotations"]["dashboard_url"].startswith("https://grafana.example/g/d/llm-exporter?")
    assert rule["annotations"]["runbook_url"] == "https://wiki.example/llm%20runbooks#llmexportererrors"
    promtool = binaries.find("promtool")
    files = sorted((tmp_path / "prometheus/rules").iterdir())
    done = subprocess.run([promtool, "check", "rules", *files], check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_without_urls_it_says_which_external_labels_the_links_need(tmp_path: Path) -> None:
    assert run(tmp_path).stdout.splitlines()[-3:] == [
        "Without --grafana-url-for-links, set the external label grafana_url in prometheus.yml.",
        "Without --runbooks-url, set the external label runbooks_url in prometheus.yml.",
        "Without --page-url, set the external label page_url in prometheus.yml.",
    ]


@pytest.mark.parametrize("option", ["--grafana-url-for-links", "--runbooks-url", "--page-url"])
@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("grafana", "must begin with http:// or https://"),
        ("https://user:secret@grafana", "must have no user and password"),
        ('https://grafana/"}{{ x }}'.replace(" ", "%20"), "must be a URL without query, fragment, quotes"),
        ("https://grafana/#top", "must be a URL without query, fragment, quotes"),
    ],
)
def test_a_link_that_would_break_the_rules_is_refused(
    tmp_path: Path, option: str, url: str, says: str
) -> None:
    result = run(tmp_path / "out", option, url)

    assert result.exit_code == 2
    assert result.stderr.startswith(f"Error: {option}: {says}")
    assert "secret" not in result.stderr
    assert not (tmp_path / "out").exists()


def test_promtool_accepts_the_written_rules(tmp_path: Path) -> None:
    run(tmp_path)
    promtool = binaries.find("promtool")
    files = sorted((tmp_path / "prometheus/rules").iterdir())

    done = subprocess.run([promtool, "check", "rules", *files], check=False, capture_output=True, text=True)

    assert done.returncode == 0, done.stderr


def test_a_second_run_replaces_our_files_and_leaves_others(tmp_path: Path) -> None:
    run(tmp_path)
    (tmp_path / "mine.txt").write_text("mine")
    (tmp_path / "grafana/dashboards/llm-cost.json").write_text("{}")

    assert run(tmp_path).exit_code == 0

    assert (tmp_path / "mine.txt").read_text() == "mine"
    assert json.loads((tmp_path / "grafana/dashboards/llm-cost.json").read_text())["uid"] == "llm-cost"


@pytest.mark.parametrize("from_file", [True, False])
def test_it_pushes_every_dashboard_into_the_folder(tmp_path: Path, grafana: StandIn, from_file: bool) -> None:
    file = tmp_path / "token"
    file.write_text(f"{TOKEN}\n")
    option = ["--grafana-token-file", str(file)] if from_file else []

    result = run(
        tmp_path / "out", "--grafana-url", f"{grafana.url}/", *option, token=None if from_file else TOKEN
    )

    assert (result.exit_code, result.stderr) == (0, "")
    assert grafana.folders == {"llm": "LLM"}
    assert set(grafana.dashboards) == UIDS
    assert all(each["id"] is None for each in grafana.dashboards.values())
    assert f"pushed {grafana.url}/d/llm-cost/x\n" in result.stdout
    assert TOKEN not in result.output


def test_an_existing_folder_is_used(tmp_path: Path, grafana: StandIn) -> None:
    grafana.folders["llm"] = "ours"

    assert run(tmp_path, "--grafana-url", grafana.url).exit_code == 0

    assert grafana.folders == {"llm": "ours"}


@pytest.mark.parametrize(
    ("refusal", "says"),
    [
        (
            (403, {}, b"{}"),
            "does not allow the token to write dashboards: give its service account the role Editor",
        ),
        ((412, {}, b'{"message": "was changed by someone"}'), "responded with 412: was changed by someone"),
        ((502, {}, b"<html>"), "responded with 502: Bad Gateway"),
        ((301, {"Location": "https://elsewhere/"}, b""), "redirects to https://elsewhere: use that as"),
        ((200, {}, b"<html>"), "is not a Grafana server: it did not return JSON"),
    ],
)
def test_a_rejected_dashboard_is_reported_in_one_line(
    tmp_path: Path, grafana: StandIn, refusal: tuple[int, dict[str, str], bytes], says: str
) -> None:
    grafana.refuse = refusal

    result = run(tmp_path, "--grafana-url", grafana.url)

    assert result.exit_code == 2
    assert result.stderr.startswith(f"Error: {grafana.url} ")
    assert says in result.stderr
    assert len(result.stderr.splitlines()) == 1
    assert len(grafana.asked) == (2 if refusal[0] == 403 else 1), "no redirect is followed with the token"


def test_an_invalid_token_and_an_unreachable_grafana_are_reported(tmp_path: Path, grafana: StandIn) -> None:
    wrong = run(tmp_path, "--grafana-url", grafana.url, token="other")
    away = run(tmp_path, "--grafana-url", "http://127.0.0.1:1")

    assert wrong.stderr == f"Error: {grafana.url} rejected the token\n"
    assert away.stderr == "Error: cannot reach http://127.0.0.1:1: [Errno 111] Connection refused\n"
    assert {wrong.exit_code, away.exit_code} == {2}


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("nonsense", "must begin with http:// or https://"),
        ("http://me:pw@g", "must have no user and password, because the token is sent instead"),
    ],
)
def test_with_an_invalid_url_of_grafana_nothing_is_written(tmp_path: Path, url: str, says: str) -> None:
    result = run(tmp_path / "out", "--grafana-url", url)

    assert (result.exit_code, result.stderr) == (2, f"Error: --grafana-url: {says}\n")
    assert not (tmp_path / "out").exists()


def test_without_a_token_nothing_is_written(tmp_path: Path, grafana: StandIn) -> None:
    empty = tmp_path / "empty"
    empty.touch()
    url = ["--grafana-url", grafana.url]

    assert "needs a token" in run(tmp_path / "out", *url, token=None).stderr
    assert "does not contain a token" in run(tmp_path / "out", *url, "--grafana-token-file", empty).stderr
    missing = run(tmp_path / "out", *url, "--grafana-token-file", tmp_path / "missing")
    assert "cannot read" in missing.stderr
    assert "No such file" in missing.stderr
    assert not (tmp_path / "out").exists()
    assert grafana.asked == []


def test_an_unwritable_directory_is_reported(tmp_path: Path) -> None:
    (tmp_path / "grafana").write_text("a file")

    result = run(tmp_path)

    assert result.exit_code == 2
    assert result.stderr.startswith(f"Error: cannot write to {tmp_path}: ")


def test_the_rules_for_prometheus_3_replace_those_for_2(tmp_path: Path) -> None:
    for version, anchored in (("2", False), ("3", True)):
        result = CliRunner().invoke(main, ["bundle", str(tmp_path / version), "--prometheus", version])
        rules = tmp_path / version / "prometheus/rules"

        assert result.exit_code == 0
        assert ("promql-extended-range-selectors" in result.output) is anchored
        assert ("[1m] anchored" in (rules / "increases.yml").read_text()) is anchored
        assert {file.name for file in rules.iterdir()} == {
            file.name for file in (bundle("prometheus") / "rules").glob("*.yml")
        }


def variables(file: Path) -> list[str]:
    """Return the filters of a dashboard."""
    variables = json.loads(file.read_text())["templating"]["list"]
    return [each["name"] for each in variables if each["hide"] == 0 and each["type"] == "query"]


def test_custom_labels_are_filters_and_dimensions_of_the_sums(tmp_path: Path) -> None:
    result = run(tmp_path, "--labels", "team, project")

    assert (result.exit_code, result.stderr) == (0, "")
    for uid in ("llm-cost", "llm-agents"):
        filters = variables(tmp_path / f"grafana/dashboards/{uid}.json")
        assert filters == ["job", "team", "project", "provider", "model", "agent", "phase"]
    rules = (tmp_path / "prometheus/rules/increases.yml").read_text()
    assert {"job_team:llm_cost_usd:increase", "job_project:llm_calls:increase15m"} <= {*rules.split()}
    assert "sum by (job, provider, model, agent, phase, team, project)" in rules
    assert "declared labels (team, project)" in rules
    assert "labels: [team, project] in llm-exporter.yml\n" in result.stdout


@pytest.mark.parametrize("version", ["2", "3"])
def test_without_custom_labels_the_files_are_those_of_the_repository(tmp_path: Path, version: str) -> None:
    run(tmp_path, "--prometheus", version, "--labels", "")

    for file in (bundle("grafana") / "dashboards").iterdir():
        assert (tmp_path / "grafana/dashboards" / file.name).read_text() == file.read_text()
    newest = bundle("prometheus") / ("prometheus3" if version == "3" else "rules") / "increases.yml"
    assert (tmp_path / "prometheus/rules/increases.yml").read_text() == newest.read_text()


def test_the_labels_of_a_configuration_are_used_or_some_of_them(tmp_path: Path) -> None:
    config = tmp_path / "llm-exporter.yml"
    config.write_text("labels: [team, project]\n")

    all_of_them = run(tmp_path / "all", "--config", config)
    one = run(tmp_path / "one", "--config", config, "--labels", "project")

    assert (all_of_them.exit_code, one.exit_code) == (0, 0)
    assert variables(tmp_path / "all/grafana/dashboards/llm-cost.json")[1:3] == ["team", "project"]
    assert variables(tmp_path / "one/grafana/dashboards/llm-cost.json")[1:3] == ["project", "provider"]


@pytest.mark.parametrize(
    ("labels", "says"),
    [
        ("team,cost-center", "'cost-center' is not a valid label name: use letters, digits and _"),
        ("__team", "'__team' is not a valid label name"),
        ("team,agent", "'agent' is a built-in label"),
        ("session", "'session' cannot be a metric label, because each value would make a series"),
        ("team,day", "'day' is a name that our rules or dashboards use"),
        ("provider_model", "'provider_model' is a name that our rules or dashboards use"),
        ("page", "'page' is a name that our rules or dashboards use"),
        ("team,project,team", "duplicate value 'team'"),
    ],
)
def test_a_label_that_sums_cannot_have_is_refused_by_name(tmp_path: Path, labels: str, says: str) -> None:
    result = run(tmp_path / "out", "--labels", labels)

    assert result.exit_code == 2
    assert result.stderr.startswith(f"Error: --labels: {says}")
    assert len(result.stderr.splitlines()) == 1
    assert not (tmp_path / "out").exists()


def test_a_label_must_be_in_the_configuration_and_the_configuration_valid(tmp_path: Path) -> None:
    config, taken, wrong = (tmp_path / name for name in ("llm-exporter.yml", "taken.yml", "wrong.yml"))
    config.write_text("labels: [team, project]\n")
    taken.write_text("labels: [day]\n")
    wrong.write_text("labels: [agent]\n")

    misspelled = run(tmp_path / "out", "--config", config, "--labels", "tema")

    assert misspelled.stderr == f"Error: --labels: 'tema' is not in the labels of {config}: team, project\n"
    assert run(tmp_path / "out", "--config", taken).stderr == (
        f"Error: {taken}: 'day' is a name that our rules or dashboards use\n"
    )
    assert "wrong.yml:1" in run(tmp_path / "out", "--config", wrong).stderr
    assert "missing.yml" in run(tmp_path / "out", "--config", tmp_path / "missing.yml").stderr
    assert not (tmp_path / "out").exists()


def test_dashboards_are_pushed_with_custom_labels(tmp_path: Path, grafana: StandIn) -> None:
    assert run(tmp_path, "--grafana-url", grafana.url, "--labels", "team").exit_code == 0

    for uid in UIDS:
        written = json.loads((tmp_path / f"grafana/dashboards/{uid}.json").read_text())
        assert grafana.dashboards[uid] == {**written, "id": None}
    assert "team" in json.dumps(grafana.dashboards["llm-cost"]["templating"])
