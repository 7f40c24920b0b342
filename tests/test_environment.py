"""All environment variables are in one module, and in one table of the documentation."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import llm_exporter
from llm_exporter.client.pipeline import Pipeline
from llm_exporter.environment import VARIABLES, is_enabled
from llm_exporter.types import Totals

ROOT = Path(__file__).parents[1]
PACKAGE = Path(llm_exporter.__file__).parent


def test_every_variable_is_in_the_module_and_in_the_documentation() -> None:
    names = [variable.name for variable in VARIABLES]
    sources = "".join(file.read_text() for file in PACKAGE.rglob("*.py"))
    assert set(re.findall(r"\bLLM_EXPORTER_[A-Z_]*[A-Z]\b", sources)) <= set(names)
    page = (ROOT / "docs" / "environment.md").read_text()
    assert re.findall(r"^\| `(\w+)` \|", page, re.MULTILINE) == names


def test_only_that_module_reads_them() -> None:
    readers = {
        str(file.relative_to(PACKAGE))
        for file in PACKAGE.rglob("*.py")
        if re.search(r"os\.environ(\.get\(|\[)|os\.getenv", file.read_text())
    }
    assert readers == {"environment.py", "cli/run.py"}  # which extends PYTHONPATH


@pytest.mark.parametrize(
    ("value", "on"), [("", True), ("1", True), ("TRUE", True), ("0", False), (" off ", False), ("no", False)]
)
def test_everything_can_be_switched_off(value: str, on: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LLM_EXPORTER_ENABLED", value)
    assert is_enabled() is on


def test_another_value_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LLM_EXPORTER_ENABLED", "maybe")
    with pytest.raises(llm_exporter.ConfigError, match="LLM_EXPORTER_ENABLED must be 1 or 0, not 'maybe'"):
        llm_exporter.instrument()


def test_switched_off_nothing_is_metered_loaded_recorded_or_served(
    pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    import openai

    create = openai.OpenAI.request
    for name, value in {"ENABLED": "0", "CONFIG": "no-such-file.yml", "URL": "nonsense"}.items():
        monkeypatch.setenv(f"LLM_EXPORTER_{name}", value)
    client = openai.OpenAI(api_key="k")
    assert llm_exporter.instrument(client) is client
    llm_exporter.instrument()
    assert openai.OpenAI.request is create
    assert vars(client).keys() == vars(openai.OpenAI(api_key="k")).keys()
    llm_exporter.configure()
    llm_exporter.configure("no-such-file.yml")
    llm_exporter.record(provider="openai", model="gpt-4o", tokens={"input": 1})
    assert llm_exporter.totals() == Totals()
    server = llm_exporter.start_http_server(1)  # a port that only root may use
    assert (server.port, server.is_running, repr(server)) == (1, False, "<MetricsServer off>")
    server.close()
