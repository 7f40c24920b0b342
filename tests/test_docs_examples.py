"""The examples of the documentation work as they are shown."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from threading import Thread
from types import SimpleNamespace
from typing import Any

import click
import pytest
from click.testing import CliRunner
from starlette.applications import Starlette

import llm_exporter
from llm_exporter.cli.main import main
from llm_exporter.config.loading import load
from llm_exporter.config.model import Config
from llm_exporter.service.ledger.sqlite import SqliteLedger
from llm_exporter.service.ledger.store import default_store
from support.bundle import run
from support.calls import a_call
from support.metered import Metered
from support.operations import RESPONSES
from support.scripted import Server
from support.served import Served, send

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
ELSEWHERE = ("recipes.md", "security.md")
"""The pages whose examples have tests of their own, which run them together."""


def examples(language: str) -> list[Any]:
    """Return the code blocks of a language, named by page and position."""
    return [
        pytest.param(block, id=f"{page.name}-{number}")
        for page in PAGES
        if page.name not in ELSEWHERE
        for number, block in enumerate(_blocks(page, language))
    ]


def _blocks(page: Path, language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL)


def commands() -> Iterator[Any]:
    """Yield the command lines in code blocks of all pages, without comments, named by page."""
    for page in PAGES:
        text = page.read_text(encoding="utf-8").replace("\\\n", " ")
        blocks = re.findall(r"```sh\n(.*?)```|((?:^    .*\n)+)", text, re.DOTALL | re.MULTILINE)
        for line in "\n".join("".join(block) for block in blocks).splitlines():
            command = line.strip().removeprefix("$ ")
            if re.match(r"(?:\w+=\S+ )*(?:llm-exporter|make) ", command):
                yield pytest.param(shlex.split(command, comments=True), id=f"{page.name}-{command[:40]}")


@pytest.fixture
def namespace(metered: Metered, server: Server) -> Iterator[dict[str, Any]]:
    """The names that examples use and do not define."""
    server.respond_with("/responses", RESPONSES.responses[False]())
    with RESPONSES.clients["sync"](server.url) as client, ThreadPoolExecutor() as pool:
        yield {
            "llm_exporter": llm_exporter,
            "client": client,
            "pool": pool,
            "call_the_model": lambda question: client.responses.create(model="gpt-5", input=question),
            "app": Starlette(),
        }
    llm_exporter.uninstrument()


@pytest.mark.parametrize("code", examples("python"))
def test_python_runs(code: str, namespace: dict[str, Any]) -> None:
    code = code.replace("9847", "0").partition("\nfor ")[0]  # any free port; loops may have no end
    if "app.wsgi_app" in code:
        namespace["app"] = SimpleNamespace(wsgi_app=lambda environ, start_response: [])
    exec(compile(code, "example", "exec"), namespace)  # noqa: S102
    if "start_http_server" in code:
        with closing(llm_exporter.start_http_server(0)) as running:  # the one that the example has started
            assert running.port


def test_labels_are_those_of_the_example(namespace: dict[str, Any], metered: Metered) -> None:
    (code,) = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(encoding="utf-8"), re.DOTALL)[
        1:
    ]
    llm_exporter.instrument()
    exec(compile(code, "example", "exec"), namespace)  # noqa: S102
    assert metered.call.labels == {"agent": "planner", "phase": "plan", "session": "s-17"}


def test_a_program_reads_the_events_of_the_service(namespace: dict[str, Any], tmp_path: Path) -> None:
    code, _, loop = _blocks(ROOT / "docs/live-page.md", "python")[0].partition("\nfor ")
    exec(compile(code, "example", "exec"), namespace)  # noqa: S102
    seen: list[Any] = []
    with Served(tmp_path) as service:
        reading = Thread(target=lambda: seen.append(next(iter(namespace["events"](service.url)))))
        reading.start()
        while reading.is_alive():  # it may not have subscribed yet
            send(service, a_call(labels={"agent": "coder"}))
            reading.join(0.1)
    ((kind, data),) = seen
    assert loop.startswith('kind, data in events("http://127.0.0.1:9847"):')
    assert (kind, data["agent"], data["model"], data["cost_usd"]) == ("call", "coder", "gpt-5", 0.75)


@pytest.mark.parametrize("text", examples("yaml"))
def test_yaml_is_accepted(text: str, tmp_path: Path) -> None:
    file = tmp_path / "llm-exporter.yml"
    file.write_text(text)
    if "\ngroups:\n" in text:
        assert "SUCCESS" in run("promtool", "check", "rules", file)
    elif "\nscrape_configs:\n" in text:
        # promtool may be of Prometheus 2, which has a feature flag instead of these settings.
        file.write_text(re.sub(r"\n +(always_)?scrape_(native|classic)_histograms: .*", "", text))
        assert "SUCCESS" in run("promtool", "check", "config", file)
    else:
        assert load(file) != Config()


@pytest.mark.parametrize("words", list(commands()))
def test_commands_exist_with_their_options_and_reports_run(
    words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "llm-exporter.yml").touch()
    while "=" in words[0]:
        words = words[1:]
    program, name, *arguments = words
    if program == "make":
        assert re.search(rf"^{name}:", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
        return
    command = main.get_command(click.Context(main), name)
    assert command is not None
    arguments = arguments[: arguments.index(">")] if ">" in arguments else arguments
    command.make_context(name, list(arguments))  # it empties the list
    if name in {"check", "export", "report"}:  # the others serve, or need another program
        monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
        ledger = SqliteLedger(Path(default_store()))
        ledger.add([a_call(labels={"agent": "coder", "session": "s-17"})])
        ledger.close()
        done = CliRunner().invoke(main, [name, *arguments])
        assert done.exit_code == 0, done.output
