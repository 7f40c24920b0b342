"""Processes share their series in files, and show them at 0 first; gunicorn's do in tests/workers."""

from __future__ import annotations

from pathlib import Path

import pytest

from llm_exporter.client.pipeline import Pipeline
from llm_exporter.metrics.collector import Metrics
from llm_exporter.metrics.multiprocess import Processes, SharedZeroFirst
from metrics.test_zero_first import INTERVAL, A, B, Clock, held
from support.calls import a_call
from support.metered import Metered


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def pair(tmp_path: Path, clock: Clock) -> tuple[SharedZeroFirst, SharedZeroFirst]:
    """What two processes know."""
    path = tmp_path / "series"
    return SharedZeroFirst(INTERVAL, path, clock), SharedZeroFirst(INTERVAL, path, clock)


def test_the_time_runs_from_the_first_scrape_of_either(
    pair: tuple[SharedZeroFirst, SharedZeroFirst], clock: Clock
) -> None:
    one, other = pair
    clock.now = 100
    assert held(one) == {A, B}
    clock.now = 124.9
    assert held(other) == {A, B}
    clock.now = 125
    assert held(other) == set()
    assert held(one) == set()


def test_a_series_that_is_known_stays_so_when_the_clock_is_set_back(
    pair: tuple[SharedZeroFirst, SharedZeroFirst], clock: Clock
) -> None:
    one, other = pair
    for clock.now in (100.0, 125.0):
        held(one)
    clock.now = 0
    assert held(other) == set()


def test_half_a_line_is_of_no_account(
    pair: tuple[SharedZeroFirst, SharedZeroFirst], clock: Clock, tmp_path: Path
) -> None:
    one, other = pair
    held(one)
    with (tmp_path / "series").open("a") as file:
        file.write('[0.0,["llm_calls_total\n[null,["llm')
    clock.now = 25
    assert held(other) == set()


def test_series_stay_at_0_while_it_cannot_be_kept_that_they_are_known(
    tmp_path: Path, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    zero_first = SharedZeroFirst(INTERVAL, tmp_path / "missing" / "series", clock)
    for clock.now in (0.0, 25.0):
        assert held(zero_first) == {A, B}
    assert "could not keep which series are known" in caplog.text
    (tmp_path / "missing").mkdir()
    assert held(zero_first) == {A, B}
    clock.now = 50
    assert held(zero_first) == set()


def calls(metrics: Metrics) -> float:
    (family,) = (family for family in metrics.collect() if family.name == "llm_calls")
    return sum(sample.value for sample in family.samples)


def test_what_there_was_no_room_for_is_written_when_there_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, other = (Metrics(processes=Processes(tmp_path)) for _ in range(2))
    one.record(a_call())
    with monkeypatch.context() as full:
        full.setattr("os.pwrite", no_room)
        one.record(a_call())
        one.record(a_call(model="o3"))
    assert calls(other) == 1
    one.record(a_call())
    one.record(a_call(model="o3"))
    assert calls(other) == 5


def no_room(*_: object) -> int:
    raise OSError(28, "No space left on device")


def test_what_is_half_written_is_not_shown(tmp_path: Path) -> None:
    one, other = (Metrics(processes=Processes(tmp_path)) for _ in range(2))
    one.record(a_call())
    for path in tmp_path.glob("*.llm-exporter"):
        content = path.read_bytes()
        path.with_name(f"half{path.name}").write_bytes(content[: content.find(b"llm_calls_total") + 20])
    assert calls(other) == 1


def test_a_process_that_cannot_share_shows_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("PROMETHEUS_MULTIPROC_DIR", str(tmp_path / "missing"))
    pipeline = Pipeline()
    pipeline.record(a_call())
    assert Metered(pipeline).total("llm_calls_total") == 1
    pipeline.close()
    assert "llm-exporter shows this process alone: PROMETHEUS_MULTIPROC_DIR: " in caplog.text
