"""pint finds nothing wrong with our rules, and they have the right results in Prometheus 3."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path
from typing import Final, Literal

import pytest

from llm_exporter.bundle.writing import Target, write
from support.bundle import PROMETHEUS, REPOSITORY

TOOLS: Final = Path(os.environ.get("RULES_TOOLS", REPOSITORY / ".venv-go/bin"))
"""Where `make test-rules` builds `pint` and `promtool`."""
UNIT_TESTS: Final = sorted(
    {file.name for file in (PROMETHEUS / "tests").glob("*.yml")}
    # Their samples are at the edges of windows. Prometheus 3 leaves out the one at the start, so `rate` and
    # `increase` differ by one sample of the few that there are, and texts that quote them too.
    - {"budget_forecast_test.yml", "budget_weekdays_test.yml", "calls_test.yml"}
)
DECLARED_LABELS: Final = REPOSITORY / "tests/bundle/declared_labels_test.yml"


def run(program: str, *arguments: str | Path, cwd: Path = REPOSITORY) -> subprocess.CompletedProcess[str]:
    command = [str(TOOLS / program), *map(str, arguments)]
    return subprocess.run(command, check=False, capture_output=True, text=True, cwd=cwd)


def lint(rules: Path) -> subprocess.CompletedProcess[str]:
    """Return what pint finds in the files of a directory, without a Prometheus that it could ask.

    The exceptions are comments in the rules, each beside its reason.
    """
    return run("pint", "--offline", "--no-color", "lint", "--min-severity=info", "--fail-on=info", rules)


def test_pint_finds_nothing_in_the_rules() -> None:
    done = lint(PROMETHEUS / "rules")

    assert done.returncode == 0, done.stderr


def test_pint_finds_nothing_in_the_rules_with_declared_labels(tmp_path: Path) -> None:
    write(tmp_path, Target(labels=("team", "cost_center")))
    done = lint(tmp_path / "prometheus/rules")

    assert done.returncode == 0, done.stderr


def test_pint_finds_a_label_in_a_text_that_the_query_of_the_alert_removes(tmp_path: Path) -> None:
    rules = tmp_path / "rules"
    shutil.copytree(PROMETHEUS / "rules", rules)
    cost = (rules / "cost.yml").read_text()
    (rules / "cost.yml").write_text(cost.replace("$labels.job", "$labels.task"))
    done = lint(rules)

    assert done.returncode == 1
    assert "alerts/template" in done.stderr


@pytest.mark.parametrize("version", ["2", "3"])
@pytest.mark.parametrize("file", UNIT_TESTS)
def test_the_rules_for_a_version_pass_their_unit_tests_in_prometheus_3(
    file: str, version: Literal["2", "3"], tmp_path: Path
) -> None:
    """Prometheus 3 accepts the rules for Prometheus 2, too."""
    write(tmp_path, Target(version=version))
    shutil.copytree(PROMETHEUS / "tests", tmp_path / "prometheus/tests")
    done = run("promtool", "test", "rules", tmp_path / "prometheus/tests" / file)

    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("version", ["2", "3"])
def test_the_rules_of_two_teams_pass_their_unit_tests_in_prometheus_3(
    version: Literal["2", "3"], tmp_path: Path
) -> None:
    write(tmp_path, Target(version=version, labels=("team",)))
    shutil.copy(DECLARED_LABELS, tmp_path / "prometheus")
    done = run("promtool", "test", "rules", tmp_path / "prometheus" / DECLARED_LABELS.name)

    assert done.returncode == 0, done.stdout + done.stderr
