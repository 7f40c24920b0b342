"""The setup of docs/security.md, run with a real Prometheus and Alertmanager on loopback."""

from __future__ import annotations

import json
import os
import re
import ssl
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import pytest
import yaml
from click.testing import CliRunner

from llm_exporter.cli.main import main
from llm_exporter.web_config import load_web_config
from support.awaiting import until
from support.certificates import Certificates
from tools.stack import Alertmanager, Prometheus, free_port

DOCUMENT = (Path(__file__).parents[1] / "docs/security.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```(\w+)\n(.*?)```", DOCUMENT, re.DOTALL)
ETC = "/etc/llm-exporter"
SHIP = 'import llm_exporter as e; e.instrument(); e.record(provider="x", model="m", tokens={"input": 5})'


class Setup:
    """The files of the document in a temporary directory, and the service with them."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.etc = directory / "etc"
        self.port = free_port()
        self.url = f"https://localhost:{self.port}"
        tls = self.etc / "tls"
        tls.mkdir(parents=True)
        certificates = Certificates(tls)
        certificate, key = certificates.issue("localhost")
        certificate.rename(tls / "server.crt")
        key.rename(tls / "server.key")
        self.ca = certificates.ca.rename(tls / "ca.crt")
        for language, block in BLOCKS:
            first, _, content = self.local(block).partition("\n")
            if language == "yaml" and (name := first.removeprefix("# ")) != first:
                (self.etc / Path(name).name).write_text(content)
        with (self.etc / "llm-exporter.yml").open("a") as file:
            file.write("scrape_interval: 1s\n")  # instead of 15 s, so that Prometheus soon sees new series
        (create,) = [block for language, block in BLOCKS if "openssl rand" in block]
        subprocess.run(["sh", "-euc", self.local(create)], check=True)

    def local(self, block: str) -> str:
        """Return a block of the document with this setup's paths and address."""
        return (
            block.replace(ETC, str(self.etc))
            .replace("llm.example.internal:9847", f"localhost:{self.port}")
            .replace(
                "--host 0.0.0.0", f"--host 0.0.0.0 --port {self.port} --store {self.directory}/ledger.db"
            )
        )

    def block(self, text: str) -> str:
        """Return the block that has a text."""
        (found,) = [block for _, block in BLOCKS if text in block]
        return self.local(found)

    def token(self, name: str) -> str:
        return (self.etc / "tokens" / name).read_text().strip()

    def status(self, path: str, token: str = "", body: bytes | None = None) -> int:
        """Return the status of the response to a request; a POST if it has a body."""
        headers = {"content-type": "application/json"}
        if token:
            headers["authorization"] = f"Bearer {self.token(token)}"
        context = ssl.create_default_context(cafile=str(self.ca))
        try:
            with urlopen(Request(self.url + path, body, headers), context=context) as response:
                return int(response.status)
        except HTTPError as error:
            with closing(error):
                return error.code

    def get(self, path: str, token: str) -> Any:
        context = ssl.create_default_context(cafile=str(self.ca))
        asked = Request(self.url + path, headers={"authorization": f"Bearer {self.token(token)}"})
        with urlopen(asked, context=context) as response:
            return json.load(response)


@pytest.fixture(scope="module")
def setup(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Setup]:
    setup = Setup(tmp_path_factory.mktemp("setup"))
    command = setup.block("llm-exporter serve --host 0.0.0.0")
    program = f"{sys.executable} -m llm_exporter.cli"
    environment = {**os.environ, "LLM_EXPORTER_SPOOL": str(setup.directory / "spool")}
    with subprocess.Popen(
        ["sh", "-euc", "exec " + command.replace("llm-exporter serve", f"{program} serve").strip()],
        stdout=subprocess.PIPE,
        text=True,
        env=environment,
    ) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline().startswith("llm-exporter listening on https://")
            yield setup
        finally:
            process.terminate()


RESET = "/api/v1/sessions/none/reset"


@pytest.mark.parametrize(
    ("token", "ingest", "read", "admin"),
    [
        ("", 401, 401, 401),
        ("programs", 200, 403, 403),
        ("prometheus", 403, 200, 403),
        ("alertmanager", 403, 403, 404),
        ("people", 403, 200, 404),
    ],
)
def test_a_token_allows_what_the_configuration_says(
    setup: Setup, token: str, ingest: int, read: int, admin: int
) -> None:
    assert setup.status("/api/v1/calls", token, b"[]") == ingest
    assert setup.status("/metrics", token) == read
    assert setup.status(RESET, token, b"{}") == admin, "404: there is no such session"
    assert setup.status("/-/ready") == 200
    assert setup.status("/") == 200


def test_programs_send_calls_and_prometheus_scrapes_them(setup: Setup, tmp_path: Path) -> None:
    exports = setup.block("export LLM_EXPORTER_URL").replace("your_program.py", f"-c '{SHIP}'")
    exports = exports.replace("python -c", f"{sys.executable} -c")
    subprocess.run(
        ["sh", "-euc", exports],
        check=True,
        env={**os.environ, "LLM_EXPORTER_SPOOL": str(tmp_path / "spool")},
    )
    assert setup.get("/api/v1/cost?window=1h", "people")["input_tokens"] == 5

    scraping = yaml.safe_load((setup.etc / "prometheus.yml").read_text())
    scraping["global"] = {"scrape_interval": "1s"}  # instead of the default of one minute
    (tmp_path / "prometheus.yml").write_text(yaml.safe_dump(scraping))
    with Prometheus.start(config=tmp_path / "prometheus.yml", storage=tmp_path) as prometheus:
        until(lambda: [sample.value for sample in prometheus.query("llm_tokens_total > 0")] == [5.0])


def test_alertmanager_shows_its_alerts_on_the_page(setup: Setup, tmp_path: Path) -> None:
    content = yaml.safe_load((setup.etc / "alertmanager.yml").read_text())
    content["route"]["group_wait"] = "1s"  # instead of the default of 30 s
    (tmp_path / "alertmanager.yml").write_text(yaml.safe_dump(content))
    context = ssl.create_default_context(cafile=str(setup.ca))
    asked = Request(
        f"{setup.url}/api/v1/events", headers={"authorization": f"Bearer {setup.token('people')}"}
    )
    alert = json.dumps([{"labels": {"alertname": "LLMTest"}}]).encode()

    with (
        Alertmanager.start(config=tmp_path / "alertmanager.yml", storage=tmp_path) as alertmanager,
        urlopen(asked, context=context) as events,
    ):
        headers = {"content-type": "application/json"}
        urlopen(Request(f"{alertmanager.url}/api/v2/alerts", alert, headers)).close()
        assert any(b"LLMTest" in line for line in iter(events.readline, b""))


def test_the_examples_of_other_files_are_valid(tmp_path: Path, setup: Setup) -> None:
    (tmp_path / "tokens").mkdir()
    (tmp_path / "tokens/search-team").write_text("e" * 64)
    bound = tmp_path / "llm-exporter.yml"
    bound.write_text(
        "labels: [team]\n" + setup.block("labels: {team: search}").replace(str(setup.etc), str(tmp_path))
    )
    assert CliRunner().invoke(main, ["check", str(bound)]).exit_code == 0

    users = tmp_path / "web-config.yml"
    users.write_text(setup.block("basic_auth_users:"))
    web = load_web_config(users)
    assert web.check_password("admin", "correct horse battery staple")
    assert not web.check_password("admin", "wrong")
