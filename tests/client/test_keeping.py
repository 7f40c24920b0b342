"""A process that ships to no service can keep its calls in a directory."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from llm_exporter.client.keeping import Keeper
from llm_exporter.client.pipeline import Pipeline
from llm_exporter.client.spool import Spool
from llm_exporter.metrics.collector import Metrics
from support.awaiting import until
from support.calls import a_call


def kept(directory: Path) -> list[str]:
    """Return the ids of the calls that a reader finds now, which removes them."""
    return [call.id for calls in Spool(directory).waiting(100) for call in calls]


def test_calls_are_left_to_the_reader_while_the_process_runs(tmp_path: Path) -> None:
    keeper = Keeper(tmp_path, Metrics())
    for name in ("1", "2"):
        keeper.add(a_call(id=name))
        assert until(lambda: kept(tmp_path)) == [name]
    keeper.end(time.monotonic() + 60)
    keeper.join()
    assert list(tmp_path.iterdir()) == []


def test_a_pipeline_keeps_what_it_records_until_it_is_closed(pipeline: Pipeline, tmp_path: Path) -> None:
    pipeline.keep_in(tmp_path)
    pipeline.record(a_call(id="1"))
    pipeline.close()
    assert kept(tmp_path) == ["1"]
    pipeline.record(a_call(id="2"))
    pipeline.close()
    assert kept(tmp_path) == ["2"]


def test_calls_that_no_disk_takes_are_counted(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, pipeline: Pipeline
) -> None:
    (tmp_path / "file").touch()
    pipeline.keep_in(tmp_path / "file" / "below")
    pipeline.record(a_call(id="1"))
    pipeline.close()
    text = b"".join(pipeline.metrics.text(scrape=False, openmetrics=False)).decode()
    assert 'llm_exporter_dropped_calls_total{reason="memory"} 1.0\n' in text
    assert "cannot keep calls on disk" in caplog.text
