"""`make dashboards` writes the dashboards and rules of the repository, with declared labels if asked to."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tools import dashboards


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(dashboards, "REPOSITORY", tmp_path)
    monkeypatch.setattr(dashboards, "DASHBOARDS", tmp_path)
    monkeypatch.setattr(dashboards, "RULES", {2: tmp_path / "2.yml", 3: tmp_path / "3.yml"})
    return tmp_path


def run(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    monkeypatch.setattr(sys, "argv", ["dashboards", *arguments])
    return dashboards.main()


def test_files_are_written_with_labels_and_are_then_up_to_date_with_these_labels_only(
    repository: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (repository / "llm-old.json").touch()

    assert run(monkeypatch, "--labels", "team,project") == 0

    assert "job_project:llm_cost_usd:increase" in (repository / "2.yml").read_text()
    assert "anchored" in (repository / "3.yml").read_text()
    assert '"Cost by team"' in (repository / "llm-cost.json").read_text()
    assert not (repository / "llm-old.json").exists()
    assert run(monkeypatch, "--check", "--labels", "team,project") == 0
    assert run(monkeypatch, "--check") == 1
    assert "out of date: llm-cost.json (make dashboards)\n" in capsys.readouterr().err


def test_a_label_that_sums_cannot_have_is_refused_by_name(
    repository: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        run(monkeypatch, "--labels", "agent")

    assert "argument --labels: 'agent' is a built-in label\n" in capsys.readouterr().err
    assert list(repository.iterdir()) == []
