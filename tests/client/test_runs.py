"""Each run has a spool of its own. What ended runs left goes to the spool of the ledger."""

from __future__ import annotations

from pathlib import Path

import pytest

from llm_exporter.client.runs import Run, leave_ended_runs_to_ledger
from llm_exporter.client.spool import ledger_spool
from llm_exporter.file_lock import lock


@pytest.fixture(autouse=True)
def spools(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("LLM_EXPORTER_SPOOL", str(tmp_path))
    return tmp_path


def test_a_run_without_calls_leaves_nothing(spools: Path) -> None:
    run = Run()
    assert run.directory.parent == spools / "runs"
    run.end()
    assert list((spools / "runs").iterdir()) == []
    leave_ended_runs_to_ledger()
    assert not ledger_spool().exists()


def test_the_calls_of_a_run_that_goes_on_are_left_alone() -> None:
    run = Run()
    (run.directory / "1.jsonl").touch()
    leave_ended_runs_to_ledger()
    assert (run.directory / "1.jsonl").exists()
    run.end()


def test_what_an_ended_run_left_goes_to_the_ledger(spools: Path) -> None:
    run = Run()
    with (run.directory / "1.jsonl").open("w") as file:
        assert lock(file)  # a child that outlives the run is still writing
        run.end()
        assert (run.directory / "1.jsonl").exists()
        leave_ended_runs_to_ledger()
        file.write("a call\n")
    assert (ledger_spool() / "1.jsonl").read_text() == "a call\n"
    assert list((spools / "runs").iterdir()) == []
    leave_ended_runs_to_ledger()


def test_a_spool_that_cannot_be_moved_is_logged(spools: Path, caplog: pytest.LogCaptureFixture) -> None:
    run = Run()
    (run.directory / "1.jsonl").touch()
    run.end()
    (spools / "ledger").touch()
    leave_ended_runs_to_ledger()
    assert "cannot move the calls of an earlier run" in caplog.text
