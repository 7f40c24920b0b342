"""The README says what the code does."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

import llm_exporter
from llm_exporter.metrics.specs import METRICS

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def test_the_generated_parts_are_up_to_date() -> None:
    """`make docs` writes them."""
    assert subprocess.run([sys.executable, ROOT / "docs/readme.py", "--check"], check=False).returncode == 0


def test_every_metric_is_in_the_table() -> None:
    assert [spec.name for spec in METRICS] == re.findall(r"^\| `(llm_\w+)` \|", README, re.MULTILINE)


def test_every_public_name_is_told_of() -> None:
    told = set(re.findall(r"llm_exporter\.(\w+)", README))
    public = {name for name in llm_exporter.__all__ if not name.startswith("_")} - {"Call"}
    assert public <= told
    assert all(hasattr(llm_exporter, name) for name in told)


@pytest.mark.parametrize("block", re.findall(r"```python\n(.*?)```", README, re.DOTALL))
def test_the_examples_are_python(block: str) -> None:
    compile(block, "README.md", "exec")


def test_what_is_linked_exists() -> None:
    for link in re.findall(r"\]\(((?!http|#)[^)]+)\)", README):
        assert (ROOT / link).exists(), link
