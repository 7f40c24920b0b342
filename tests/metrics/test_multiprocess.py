"""Processes share their series in files and show them at 0 first. tests/workers does so with gunicorn."""

from __future__ import annotations

import os
import stat
import struct
import subprocess
import sys
import zlib
from collections.abc import Callable
from pathlib import Path

import pytest

from llm_exporter.client.pipeline import Pipeline
from llm_exporter.config.model import Config, SeriesLabels
from llm_exporter.metrics.collector import Metrics
from llm_exporter.metrics.multiprocess import SharedStorage
from llm_exporter.metrics.shared_zero_first import SharedZeroFirst
from support.calls import a_call
from support.metered import Metered
from support.protobuf_messages import delimited, fields
from support.zero_first import INTERVAL, A, B, Clock, held_in_scrape


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def pair(tmp_path: Path, clock: Clock) -> tuple[SharedZeroFirst, SharedZeroFirst]:
    """Those of two processes."""
    path = tmp_path / "series"
    return SharedZeroFirst(INTERVAL, path, clock), SharedZeroFirst(INTERVAL, path, clock)


def test_the_time_starts_with_the_first_scrape_of_any_process(
    pair: tuple[SharedZeroFirst, SharedZeroFirst], clock: Clock
) -> None:
    one, other = pair
    clock.now = 100
    assert held_in_scrape(one) == {A, B}
    clock.now = 124.9
    assert held_in_scrape(other) == {A, B}
    clock.now = 125
    assert held_in_scrape(other) == set()
    assert held_in_scrape(one) == set()


def test_a_released_series_stays_released_when_the_clock_is_set_back(
    pair: tuple[SharedZeroFirst, SharedZeroFirst], clock: Clock
) -> None:
    one, other = pair
    for clock.now in (100.0, 125.0):
        held_in_scrape(one)
    clock.now = 0
    assert held_in_scrape(other) == set()


def test_a_line_that_was_cut_off_is_ignored(
    pair: tuple[SharedZeroFirst, SharedZeroFirst], clock: Clock, tmp_path: Path
) -> None:
    one, other = pair
    held_in_scrape(one)
    with (tmp_path / "series").open("a") as file:
        file.write('[0.0,["llm_calls_total\n[null,["llm')
    clock.now = 25
    assert held_in_scrape(other) == set()


def test_series_stay_at_0_while_the_file_cannot_be_written(
    tmp_path: Path, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    zero_first = SharedZeroFirst(INTERVAL, tmp_path / "missing" / "series", clock)
    for clock.now in (0.0, 25.0):
        assert held_in_scrape(zero_first) == {A, B}
    assert "could not save which series were shown" in caplog.text
    (tmp_path / "missing").mkdir()
    assert held_in_scrape(zero_first) == {A, B}
    clock.now = 50
    assert held_in_scrape(zero_first) == set()


def total(metrics: Metrics, name: str) -> float:
    """Return the sum of a metric over all series."""
    return sum(
        sample.value for family in metrics.collect() for sample in family.samples if sample.name == name
    )


def two_processes(directory: Path) -> tuple[Metrics, Metrics]:
    """Return the metrics of two processes that share their series."""
    return Metrics(storage=SharedStorage(directory)), Metrics(storage=SharedStorage(directory))


def test_counters_and_calls_in_flight_add_up_and_other_gauges_show_the_last_value(tmp_path: Path) -> None:
    one, other = two_processes(tmp_path)
    for metrics, remaining in ((one, "7"), (other, "9")):
        call = a_call()
        metrics.started(call)
        metrics.started(a_call())
        metrics.ended(call, {"x-ratelimit-remaining-requests": remaining}, retrieved=False)
        metrics.record(a_call())
    for metrics in (one, other):
        assert total(metrics, "llm_calls_total") == 2
        assert total(metrics, "llm_latency_seconds_count") == 2
        assert total(metrics, "llm_calls_in_flight") == 2
        assert total(metrics, "llm_rate_limit_remaining") == 9


def test_approximate_costs_and_unread_requests_add_up(tmp_path: Path) -> None:
    one, other = two_processes(tmp_path)
    for metrics in (one, other):
        metrics.record(a_call(approximated={"tier": 120}))
        metrics.record(a_call(operation="unread", route="POST /v1/things"))
    for metrics in (one, other):
        assert total(metrics, "llm_price_approximated_tokens_total") == 240
        assert total(metrics, "llm_exporter_unread_requests_total") == 2


def test_declared_series_are_shown_at_0_before_any_process_writes_them(tmp_path: Path) -> None:
    config = Config(series=(SeriesLabels(provider="openai", model="o3"),))
    metrics = Metrics(config, SharedStorage(tmp_path))
    (family,) = (family for family in metrics.collect() if family.name == "llm_calls")
    assert [(sample.labels["model"], sample.value) for sample in family.samples] == [("o3", 0)]


def test_a_write_that_failed_is_made_up_for_by_the_next_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, other = two_processes(tmp_path)
    one.record(a_call())
    with monkeypatch.context() as full_disk:
        full_disk.setattr("os.pwrite", no_space)
        one.record(a_call())
        one.record(a_call(model="o3"))
    assert total(other, "llm_calls_total") == 1
    one.record(a_call())
    one.record(a_call(model="o3"))
    assert total(other, "llm_calls_total") == 5


def no_space(*_: object) -> int:
    raise OSError(28, "No space left on device")


def test_a_half_written_file_is_ignored(tmp_path: Path) -> None:
    one, other = two_processes(tmp_path)
    one.record(a_call())
    for path in tmp_path.glob("*.llm-exporter"):
        content = path.read_bytes()
        path.with_name(f"half{path.name}").write_bytes(content[: content.find(b"llm_calls_total") + 20])
    assert total(other, "llm_calls_total") == 1


def test_a_process_without_the_directory_shows_only_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("PROMETHEUS_MULTIPROC_DIR", str(tmp_path / "missing"))
    pipeline = Pipeline()
    pipeline.record(a_call())
    assert Metered(pipeline).total("llm_calls_total") == 1
    pipeline.close()
    assert "cannot use PROMETHEUS_MULTIPROC_DIR; /metrics shows only this process: " in caplog.text


@pytest.mark.parametrize("module", ["llm_exporter", "llm_exporter.client.pipeline", "llm_exporter.cli.main"])
def test_an_import_creates_no_file(module: str, tmp_path: Path) -> None:
    environment = {**os.environ, "PROMETHEUS_MULTIPROC_DIR": str(tmp_path)}
    subprocess.run([sys.executable, "-c", f"import {module}"], env=environment, check=True)
    assert list(tmp_path.iterdir()) == []


def test_a_pipeline_creates_its_file_when_it_is_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PROMETHEUS_MULTIPROC_DIR", str(tmp_path))
    pipeline = Pipeline()
    pipeline.close()
    assert [path.suffix for path in tmp_path.iterdir()] == [".llm-exporter"]


def _zeroed(path: Path) -> None:
    path.write_bytes(bytes(100_000))


def _truncated(path: Path) -> None:
    Metrics(storage=SharedStorage(path.parent)).record(a_call(model="cut off"))
    (written,) = (file for file in path.parent.glob("*-*.llm-exporter") if b"cut off" in file.read_bytes())
    content = written.read_bytes()
    written.unlink()
    path.write_bytes(content[: content.index(b"cut off") + 3])


def _of_another_format(path: Path) -> None:
    path.write_text("llm_calls_total 1\n" * 1000)


def _with_a_giant_length(path: Path) -> None:
    path.write_bytes(struct.pack("<II", 2**32 - 1, 2**32 - 1) + bytes(1000))


def _with_a_wrong_key(path: Path) -> None:
    path.write_bytes(
        struct.pack("<II", 2, 1) + b"\xff{" + bytes(8) + zlib.crc32(bytes(8)).to_bytes(4, "little")
    )


def _sparse(path: Path) -> None:
    path.touch()
    os.truncate(path, 2**40)


def _a_dangling_link(path: Path) -> None:
    path.symlink_to(path.with_name("nowhere"))


def _a_link_to_an_endless_file(path: Path) -> None:
    path.symlink_to("/dev/zero")


def _a_link_to_itself(path: Path) -> None:
    path.symlink_to(path)


BROKEN = {
    "zeroed": _zeroed,
    "truncated": _truncated,
    "another format": _of_another_format,
    "giant length": _with_a_giant_length,
    "wrong key": _with_a_wrong_key,
    "1 TB of nothing": _sparse,
    "dangling link": _a_dangling_link,
    "link to /dev/zero": _a_link_to_an_endless_file,
    "link to itself": _a_link_to_itself,
    "directory": Path.mkdir,
    "FIFO": os.mkfifo,
}


@pytest.mark.parametrize("make", BROKEN.values(), ids=list(BROKEN))
def test_a_broken_file_is_skipped_said_once_and_counted(
    make: Callable[[Path], object], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    one, other = two_processes(tmp_path)
    one.record(a_call())
    make(tmp_path / "1-broken.llm-exporter")
    other.record(a_call())
    for _ in range(3):
        assert total(one, "llm_calls_total") == 2
    assert total(one, "llm_exporter_errors_total") == 1
    assert len([record for record in caplog.records if "multiprocess" in record.getMessage()]) == 1


@pytest.mark.parametrize("make", [Path.mkdir, os.mkfifo, _a_dangling_link], ids=["directory", "FIFO", "link"])
def test_a_broken_file_of_shown_series_is_said_once(
    make: Callable[[Path], object], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """New series stay at 0: no process knows whether a Prometheus has seen them."""
    make(tmp_path / "series.jsonl")
    metrics = Metrics(storage=SharedStorage(tmp_path))
    metrics.record(a_call())
    for _ in range(3):
        text = b"".join(metrics.text(scrape=True, openmetrics=False)).decode()
        assert "llm_calls_total{" in text
    assert len([record for record in caplog.records if "stay at 0" in record.getMessage()]) == 1


def test_only_the_user_can_read_the_files(tmp_path: Path) -> None:
    metrics = Metrics(storage=SharedStorage(tmp_path))
    metrics.record(a_call())
    assert b"".join(metrics.text(scrape=True, openmetrics=False))
    modes = {path.suffix: stat.S_IMODE(path.stat().st_mode) for path in tmp_path.iterdir()}
    assert modes == {".llm-exporter": 0o600, ".jsonl": 0o600}


def test_series_that_processes_share_have_no_start(tmp_path: Path) -> None:
    """They began with whichever process came first."""
    metrics = Metrics(storage=SharedStorage(tmp_path))
    metrics.record(a_call())
    (family,) = delimited(b"".join(metrics.protobuf(scrape=True, names={"llm_calls_total"})))
    (counter,) = fields(family[4][0])[3]
    assert fields(counter) == {1: [0.0]}
