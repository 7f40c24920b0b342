"""The README and the other documents match the code."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

import llm_exporter
from llm_exporter.metrics.specs import METRICS

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "exporter" / "llm_exporter"
README = (ROOT / "README.md").read_text(encoding="utf-8")
CONTRIBUTING = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
DOCUMENTS = [*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")]


def test_generated_parts_are_up_to_date() -> None:
    """Run `make docs` to write them."""
    assert subprocess.run([sys.executable, ROOT / "docs/readme.py", "--check"], check=False).returncode == 0


def test_metrics_table_lists_every_metric() -> None:
    assert [spec.name for spec in METRICS] == re.findall(r"^\| `(llm_\w+)` \|", README, re.MULTILINE)


def test_readme_mentions_every_public_name() -> None:
    mentioned = set(re.findall(r"llm_exporter\.(\w+)", README))
    public = {name for name in llm_exporter.__all__ if not name.startswith("_")} - {"Call"}
    assert public <= mentioned
    assert all(hasattr(llm_exporter, name) for name in mentioned - {"types"})


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
    assert f"llm_exporter.BudgetExceeded: {error}" in " ".join(README.split())


@pytest.mark.parametrize("block", re.findall(r"```python\n(.*?)```", README, re.DOTALL))
def test_python_examples_compile(block: str) -> None:
    compile(block, "README.md", "exec")


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda document: str(document.relative_to(ROOT)))
def test_links_lead_somewhere(document: Path) -> None:
    text = document.read_text(encoding="utf-8")
    for link in re.findall(r"\]\(((?!http)[^)]+)\)", text):
        path, _, anchor = link.partition("#")
        target = document.parent / path if path else document
        assert target.exists(), link
        assert not anchor or anchor in _anchors(target.read_text(encoding="utf-8")), link


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
