"""The workflows run what .ci/run runs, with pinned actions and no more rights than they need."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[1]
WORKFLOWS = {path.stem: yaml.safe_load(path.read_text()) for path in (ROOT / ".github/workflows").iterdir()}
MAKEFILE = (ROOT / "Makefile").read_text(encoding="utf-8")


def jobs() -> list[Any]:
    return [
        pytest.param(job, id=f"{name}-{title}")
        for name, workflow in WORKFLOWS.items()
        for title, job in workflow["jobs"].items()
    ]


def test_the_tests_are_those_of_ci() -> None:
    ci = re.findall(r"^ *run (.+)$", (ROOT / ".ci/run").read_text(), re.MULTILINE)
    assert WORKFLOWS["tests"]["jobs"]["make"]["strategy"]["matrix"]["target"] == ci


@pytest.mark.parametrize("job", jobs())
def test_a_job_has_its_own_rights_and_pinned_actions(job: Any) -> None:
    assert job["permissions"]
    actions = [step["uses"] for step in job.get("steps", []) if "uses" in step]
    assert [action for action in actions if not re.fullmatch(r"[\w/-]+@[0-9a-f]{40}", action)] == []


@pytest.mark.parametrize("name", WORKFLOWS)
def test_a_workflow_has_no_rights_of_its_own(name: str) -> None:
    assert WORKFLOWS[name]["permissions"] == {}


@pytest.mark.parametrize("job", jobs())
def test_make_has_the_targets(job: Any) -> None:
    commands = "\n".join(step.get("run", "") for step in job.get("steps", []))
    targets = [
        word for words in re.findall(r"^make ([a-z -]+)$", commands, re.MULTILINE) for word in words.split()
    ]
    assert [target for target in targets if f"\n{target}:" not in MAKEFILE] == []
