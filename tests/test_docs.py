"""The README and the pages of the documentation match the code."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
from click.testing import CliRunner
from starlette.testclient import TestClient

import llm_exporter
import llm_exporter.asgi
import llm_exporter.types
import llm_exporter.wsgi
from llm_exporter import Call
from llm_exporter.cli.main import main
from llm_exporter.config.model import Config
from llm_exporter.metrics.specs import METRICS
from llm_exporter.service.app import make_app
from llm_exporter.service.ledger.sqlite import SqliteLedger

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "exporter" / "llm_exporter"
DOCS = ROOT / "docs"
README = (ROOT / "README.md").read_text(encoding="utf-8")
CONTRIBUTING = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
DOCUMENTS = [*ROOT.glob("*.md"), *DOCS.glob("*.md")]


def page(name: str) -> str:
    """Return a page of the documentation."""
    return (DOCS / name).read_text(encoding="utf-8")


def test_the_readme_is_short() -> None:
    assert len(README.splitlines()) < 150


def test_the_readme_links_every_page() -> None:
    linked = set(re.findall(r"\]\(docs/([\w-]+\.md)", README))
    assert linked == {path.name for path in DOCS.glob("*.md")} - {"index.md"}


def test_generated_parts_are_up_to_date() -> None:
    """Run `make docs` to write them."""
    assert subprocess.run([sys.executable, ROOT / "docs/generate.py", "--check"], check=False).returncode == 0


def test_metrics_table_lists_every_metric() -> None:
    assert [spec.name for spec in METRICS] == re.findall(
        r"^\| `(llm_\w+)` \|", page("metrics.md"), re.MULTILINE
    )


def test_the_documentation_mentions_every_public_name() -> None:
    text = "".join(document.read_text(encoding="utf-8") for document in DOCUMENTS)
    mentioned = set(re.findall(r"\bllm_exporter\.(\w+)", text))
    public = {name for name in llm_exporter.__all__ if not name.startswith("_")} - {"Call"}
    assert public <= mentioned
    assert all(hasattr(llm_exporter, name) for name in mentioned)


def test_budget_message_is_the_one_that_the_code_raises() -> None:
    error = llm_exporter.BudgetExceeded(
        budget="one-run",
        labels={"project": "nightly", "session": "s-17"},
        unit="usd",
        period="total",
        spent=1.97,
        held=0.02,
        estimate=0.0154,
        limit=2.0,
        resets_at=None,
    )
    assert f"llm_exporter.BudgetExceeded: {error}" in " ".join(page("budgets.md").split())


@pytest.fixture
def service(tmp_path: Path) -> Iterator[TestClient]:
    """A service that has received the four calls of the examples."""

    def call(agent: str, phase: str, model: str, tokens: tuple[int, int], cost: tuple[float, float]) -> Call:
        return Call(
            id=f"{agent}-{model}",
            provider="anthropic" if model.startswith("claude") else "openai",
            model=model,
            operation="chat",
            labels={"agent": agent, "phase": phase, "session": "s-17"},
            tokens={"input": tokens[0], "output": tokens[1]},
            cost={"input": cost[0], "output": cost[1]},
        )

    calls = [
        call("planner", "plan", "gpt-4o", (1200, 400), (0.003, 0.004)),
        call("coder", "execute", "claude-sonnet-4-6", (8000, 1500), (0.024, 0.0225)),
        call("coder", "execute", "gpt-4o", (3000, 900), (0.0075, 0.009)),
        call("reviewer", "review", "gpt-4o", (2500, 120), (0.00625, 0.0012)),
    ]
    app = make_app(Config(), SqliteLedger(tmp_path / "ledger.db"))
    with TestClient(app, base_url="http://localhost") as client:
        assert client.post("/api/v1/calls", json=msgspec.to_builtins(calls)).status_code == 200
        yield client


def test_api_examples_match_the_service(service: TestClient) -> None:
    examples = re.findall(r"\$ curl 'http://127.0.0.1:9847(.*)'\n((?:    .+\n)+)", page("rest-api.md"))
    assert len(examples) == 4
    for path, text in examples:
        lines = [line.strip() for line in text.splitlines()]
        expected = lines if "format=csv" in path else ["".join(lines)]
        actual = service.get(path).text.splitlines()
        for wanted, line in zip(map(_without_time, expected), map(_without_time, actual), strict=True):
            beginning, shortened, _ = wanted.partition("…")
            assert line.startswith(beginning) if shortened else line == beginning, path


@pytest.mark.usefixtures("service")
def test_report_example_matches_the_command(tmp_path: Path) -> None:
    arguments = ["report", "--by", "agent,model", "--store", str(tmp_path / "ledger.db")]
    table = CliRunner().invoke(main, arguments).output
    example = page("service.md").partition("$ llm-exporter report --by agent,model\n")[2].partition("\n\n")[0]
    assert table.splitlines() == [line.removeprefix("    ") for line in example.splitlines()]


def _without_time(line: str) -> str:
    """Replace times, and the call id that the time is part of."""
    line = re.sub(r"\d{4}-\d\d-\d\dT[\d:.]+Z", "TIME", line)
    return re.sub(r"^(?:[0-9a-f]{32}|coder-gpt-4o),", "ID,", line)


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda document: str(document.relative_to(ROOT)))
def test_links_lead_somewhere(document: Path) -> None:
    text = re.sub(r"`[^`\n]+`", "", document.read_text(encoding="utf-8"))
    for link in re.findall(r"\]\(((?!http)[^)]+)\)", text):
        path, _, anchor = link.partition("#")
        target = document.parent / path if path else document
        assert target.exists(), link
        assert not anchor or anchor in _anchors(target.read_text(encoding="utf-8")), link


def test_page_of_faults_names_alerts_and_metrics_that_exist() -> None:
    text = page("faults.md")
    rules = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "prometheus/rules").glob("*.yml"))
    alerts = re.findall(r"`(LLM\w+)`", text)
    metrics = re.findall(r"`(llm_\w+)`", text)
    assert alerts
    assert metrics
    assert [name for name in alerts if f"alert: {name}\n" not in rules] == []
    assert set(metrics) <= {spec.name for spec in METRICS}


def _anchors(text: str) -> set[str]:
    """Return the anchors of a document's headings, as GitHub derives them."""
    headings = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_paths_in_the_contributing_guide_exist() -> None:
    table = CONTRIBUTING.partition("## Where to look")[2].partition("\n## ")[0]
    paths = re.findall(r"`([\w./-]+(?:\.\w+|/))`", table.partition("|---|---|")[2])
    assert len(paths) > 40
    missing = [path for path in paths if not (PACKAGE / path).exists() and not (ROOT / path).exists()]
    assert missing == []


def test_contributing_guide_names_every_subpackage() -> None:
    packages = {f"{path.parent.relative_to(PACKAGE)}/" for path in PACKAGE.glob("*/__init__.py")}
    assert {package for package in packages if f" {package}" not in CONTRIBUTING} == set()
